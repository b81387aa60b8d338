// jinja: what the files of the template engine share: limits, values, the syntax tree, and who offers which function.
//   lex.c      template text -> tokens                    value.c        truth, equality, order, printing, JSON
//   expr.c     tokens -> expressions                      text.c         code points, case, split, find, replace
//   parse.c    tokens -> statements                       format.c       "..." % args and "...".format()
//   eval.c     runs the syntax tree                       method.c       methods of str, list, dict
//   op.c       operators, subscripts, attributes          global.c       tests and global functions
//   filter.c   filters                                    textfilter.c   filters that make text
// A failure inside the engine is a longjmp to template_parse or template_render. That leaks nothing: what a parse or
// a render allocates lies in one arena, and text under construction lies at the end of the caller's output.
#ifndef JINJA_H
#define JINJA_H

#include "template.h"

#include <setjmp.h>
#include <string.h>

// What a hostile template may use up. Steps are charged per node evaluated and per piece of work a built-in does.
#define MAX_PARSE_DEPTH 200
#define MAX_NAMES 5000
#define MAX_RENDER_DEPTH 2000
#define MAX_STEPS 20000000
#define MAX_BYTES ((size_t)256 << 20)
#define MAX_RANGE 100000                        // the sandbox's own limit for range()

// ---- memory --------------------------------------------------------------------------------------------------------
typedef struct ArenaBlock ArenaBlock;
typedef struct { ArenaBlock *blocks; size_t total; } Arena;
void *arena_take(Arena *a, size_t size);        // 16-byte aligned, not zeroed
void arena_free(Arena *a);

// ---- values --------------------------------------------------------------------------------------------------------
// Python's ints have no bounds; these have 128 bits, and going beyond is a limit error.
typedef __int128 Int;
#define INT_LIMIT ((Int)(~(unsigned __int128)0 >> 1))

typedef enum {
    V_MISSING,                                  // no value at all: an argument left out, a name not looked up yet
    V_UNDEFINED, V_NONE, V_BOOL, V_INT, V_FLOAT, V_STRING,
    V_LIST, V_TUPLE, V_RANGE, V_VIEW, V_ITER,   // a Seq; V_VIEW is dict_keys and the like, V_ITER gives its items once
    V_DICT, V_NAMESPACE,                        // a Dict
    V_LOOP, V_MACRO, V_FUNCTION, V_METHOD, V_CYCLER, V_JOINER
} Kind;

typedef struct {
    uint8_t kind;
    bool markup;                                // a string that |safe or |escape marked
    size_t len;                                 // bytes of a string
    union {
        bool b;
        Int i;
        double f;
        const char *s;                          // not NUL-terminated; may borrow from the cJSON or another string
        struct Seq *seq;
        struct Dict *dict;
        struct Loop *loop;
        const struct Undef *undef;
        const struct Macro *macro;
        const struct Builtin *function;
        const struct Bound *bound;              // V_METHOD
        struct Turns *turns;                    // V_CYCLER, V_JOINER
    };
} Value;

typedef struct Seq { Value *items; size_t n, cap; const char *type; Int start, stop, step; } Seq;   // the Ints: V_RANGE
typedef struct Dict { Value *keys, *vals; size_t n, cap; } Dict;
typedef struct Undef { const char *hint; Value obj, name; bool unsafe; } Undef;     // obj V_MISSING: a plain name
typedef struct Turns { Value first; Seq *items; size_t at; } Turns;                 // joiner: first; cycler: items

typedef struct { Value *v; size_t n; Value *names, *kw; size_t n_kw; } Args;        // names[i]=kw[i] after n positional
typedef struct Render Render;
typedef Value (*BuiltinFn)(Render *r, Value self, Args *a);

// A filter, test, method or global function. `params` lists the parameters after self, "name" or "name=" when it may
// be left out; the function then finds them in a->v in this order, V_MISSING where left out. NULL: it takes a raw Args.
// A leading @ stands for one more that Jinja passes itself, which counts in CPython's messages.
typedef struct Builtin { const char *name, *py_name, *params; BuiltinFn fn; } Builtin;
typedef struct Bound { Value self; const Builtin *method; } Bound;

static inline Value v_none(void) { return (Value){.kind = V_NONE}; }
static inline Value v_bool(bool b) { return (Value){.kind = V_BOOL, .b = b}; }
static inline Value v_int(Int i) { return (Value){.kind = V_INT, .i = i}; }
static inline Value v_float(double f) { return (Value){.kind = V_FLOAT, .f = f}; }
static inline Value v_str(const char *s, size_t n) { return (Value){.kind = V_STRING, .len = n, .s = s}; }
static inline Value v_text(const char *s) { return v_str(s, strlen(s)); }
static inline Value v_seq(Kind kind, Seq *s) { return (Value){.kind = (uint8_t)kind, .seq = s}; }
static inline Value v_dict(Dict *d) { return (Value){.kind = V_DICT, .dict = d}; }
static inline bool is_seq(Value v) { return v.kind >= V_LIST && v.kind <= V_ITER; }
static inline bool is_int(Value v) { return v.kind == V_INT || v.kind == V_BOOL; }     // as in Python, True is 1
static inline bool is_number(Value v) { return is_int(v) || v.kind == V_FLOAT; }
static inline bool is_given(Value v) { return v.kind != V_MISSING && v.kind != V_NONE; }
static inline Int int_of(Value v) { return v.kind == V_BOOL ? (Int)v.b : v.i; }
static inline double float_of(Value v) { return v.kind == V_FLOAT ? v.f : (double)int_of(v); }
static inline bool text_same(Value a, Value b) { return a.len == b.len && memcmp(a.s, b.s, a.len) == 0; }
static inline bool text_is(Value v, const char *s) { return v.len == strlen(s) && memcmp(v.s, s, v.len) == 0; }

// ---- the syntax tree -----------------------------------------------------------------------------------------------
typedef enum {
    N_CONST, N_NAME, N_TUPLE, N_LIST, N_DICT, N_ATTR, N_ITEM, N_SLICE, N_CALL, N_FILTER, N_TEST,
    N_NOT, N_NEG, N_POS, N_AND, N_OR, N_COND, N_COMPARE, N_CONCAT, N_BINARY,
    N_DATA, N_PRINT, N_IF, N_FOR, N_SET, N_SET_BLOCK, N_WITH, N_MACRO, N_CALL_BLOCK, N_FILTER_BLOCK, N_GENERATION,
    N_BLOCK, N_BREAK, N_CONTINUE, N_LOADER, N_NS_TARGET, N_GROUP
} NodeType;

// Binary and comparison operators; the first six are spelled by OP_TEXT in messages.
typedef enum { OP_ADD, OP_SUB, OP_MUL, OP_DIV, OP_FLOORDIV, OP_MOD, OP_POW, OP_EQ, OP_NE, OP_LT, OP_LE, OP_GT, OP_GE,
               OP_IN, OP_NOT_IN } Op;

typedef struct Node Node;
typedef struct { Node **v; size_t n, cap; } Nodes;
typedef struct { Nodes args, kw, names; Node *star, *star2; } CallArgs;                // names[i] is the key of kw[i]
typedef struct { Nodes params, defaults; bool uses_caller, uses_kwargs, uses_varargs; } Signature;

// Which fields a node uses: a, b, c are parts in the order of the source; kids a list of parts or a body.
struct Node {
    NodeType type;
    Op op;                                      // N_BINARY; N_COMPARE has one N_GROUP kid per operator and operand
    uint32_t line;
    size_t sym;                                 // index into Template.names; N_FILTER, N_TEST: offset in the source
    Node *a, *b, *c;
    Nodes kids, other;                          // other: else of N_IF and N_FOR, values of N_WITH and N_DICT
    Value value;                                // N_CONST, N_DATA; the name of an attribute, filter or test
    const Builtin *builtin;                     // N_FILTER, N_TEST; NULL: unknown, which only matters when it runs
    CallArgs *call;                             // N_CALL, N_FILTER, N_TEST
    Signature *signature;                       // N_MACRO, N_CALL_BLOCK
    bool flag;                                  // N_FOR: recursive; N_BLOCK: scoped
};

enum { SYM_LOOP, SYM_CALLER, SYM_KWARGS, SYM_VARARGS };    // the first of Template.names

struct Template {
    Arena arena;
    char *name;
    Nodes body;
    Value *names;                               // every name that the template uses, once
    size_t n_names, cap_names;
    bool has_generation;
};

// ---- the lexer (lex.c) ---------------------------------------------------------------------------------------------
typedef enum {
    T_EOF, T_DATA, T_PRINT_BEGIN, T_PRINT_END, T_BLOCK_BEGIN, T_BLOCK_END, T_NAME, T_STRING, T_INTEGER, T_FLOAT,
    T_ADD, T_SUB, T_DIV, T_FLOORDIV, T_MUL, T_MOD, T_POW, T_TILDE, T_LBRACKET, T_RBRACKET, T_LPAREN, T_RPAREN,
    T_LBRACE, T_RBRACE, T_EQ, T_NE, T_GT, T_GE, T_LT, T_LE, T_ASSIGN, T_DOT, T_COLON, T_PIPE, T_COMMA, T_SEMICOLON
} TokenType;

typedef struct { TokenType type; size_t at; Value value; } Token;   // value: the text of a name or data, or a literal

typedef enum { IN_TEXT, IN_COMMENT, IN_RAW, AT_TAG, IN_BLOCK, IN_PRINT } LexState;

typedef struct {
    Arena *arena;
    const char *name, *src;                     // src: newlines made \n, the last one dropped, NUL-terminated
    size_t len, pos, tag_at;
    size_t *lines, n_lines;                     // where the newlines are
    LexState state;
    bool tag_is_block, line_starting;
    char closers[MAX_PARSE_DEPTH];              // the brackets that are open
    size_t n_closers;
    jmp_buf jump;
    Err *e;
} Lexer;

Token lex_next(Lexer *x);
const char *token_name(TokenType type);         // as Jinja's messages call it
void lex_lines(Lexer *x);                       // fills `lines`, once src is there
size_t line_at(const Lexer *x, size_t at);
_Noreturn void fail_syntax(Lexer *x, size_t at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

void parse_template(Template *t, Lexer *x);     // parse.c

// ---- a running template --------------------------------------------------------------------------------------------
typedef struct { size_t sym; Value value; } Var;
typedef struct Scope { struct Scope *parent; Var *vars; size_t n, cap; } Scope;     // the outermost scope is `slots`

typedef struct Macro { const Node *node; Scope *scope; Value name; } Macro;

typedef struct Loop {
    const Node *node, *filter;
    Scope *outer;
    Seq *items;
    size_t pos, index0, depth0;
    Value before, current, after, changed;      // after: an item taken early; V_MISSING: none
} Loop;

struct Render {
    const Template *t;
    const cJSON *vars;
    Arena arena;
    Buf *out;
    size_t base;                                // where this render's text begins in out
    Spans *spans;
    Value *slots;                               // outermost variables by symbol
    Scope *scope;
    size_t steps, depth;
    size_t n_captures, capture_mark;            // captures running, and where the outermost began
    uint32_t line;
    jmp_buf jump;
    Err *e;
};

// ---- eval.c --------------------------------------------------------------------------------------------------------
void render_body(Render *r);
Value call_builtin(Render *r, const Builtin *f, Value self, Args *a);
bool loop_next(Render *r, Loop *loop, Value *item);
size_t loop_length(Render *r, Loop *loop);

// ---- value.c -------------------------------------------------------------------------------------------------------
_Noreturn void fail_kind(Render *r, const char *kind, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
#define fail_run(r, ...) fail_kind(r, "runtime", __VA_ARGS__)
_Noreturn void fail_undefined(Render *r, Value v);
Int value_int_or(Render *r, Value v, Int otherwise);                          // an int argument that may be left out
bool value_truth_or(Render *r, Value v, bool otherwise);
Int int_from_float(Render *r, double f);        // what int(f) gives
void render_charge(Render *r, size_t steps);
void render_enter(Render *r);                          // one level deeper; every recursion pairs it with r->depth--
void *render_take(Render *r, size_t count, size_t size);

void out_add(Render *r, const char *s, size_t n);
void out_text(Render *r, const char *s);
void out_char(Render *r, uint32_t code);
void out_int(Render *r, Int i, unsigned base, bool upper);              // without a sign
Value out_cut(Render *r, size_t mark);          // takes the text from `mark` on away from the output, as a string

Seq *seq_new(Render *r, size_t cap);
void seq_add(Render *r, Seq *s, Value v);
Dict *dict_new(Render *r, size_t cap);
const Value *dict_get(Render *r, const Dict *d, Value key);             // NULL if absent
void dict_put(Render *r, Dict *d, Value key, Value value);
bool is_hashable(Render *r, Value v);
Seq *dict_items(Render *r, const Dict *d);                              // (key, value) tuples
Value value_from_json(Render *r, const cJSON *json);
Value undefined_hint(Render *r, const char *hint);
Value undefined_member(Render *r, Value obj, Value name, bool unsafe);
Value undefined_name(Render *r, Value name);

const char *type_name(Value v);
bool value_truth(Render *r, Value v);
bool value_equal(Render *r, Value a, Value b);
bool value_less(Render *r, Value a, Value b, const char *op);           // op names the operator in the message
Seq *value_iterate(Render *r, Value v);         // the items; what it gives must not be changed
size_t value_length(Render *r, Value v);
void value_print(Render *r, Value v);           // str()
void value_repr(Render *r, Value v);            // repr()
Value value_to_str(Render *r, Value v);
const char *repr_text(Render *r, Value v);      // NUL-terminated, for messages
const char *value_chars(Render *r, Value v);    // a string's bytes, NUL-terminated
typedef struct { Value indent, item_sep, key_sep; bool ascii, sort; } JsonStyle;
void value_json(Render *r, Value v, const JsonStyle *style, size_t level);
size_t float_text(double f, char text[40]);     // repr() of a float
void sort_values(Render *r, Value *items, Value *keys, size_t n, bool reverse);     // stable, by keys

// ---- text.c --------------------------------------------------------------------------------------------------------
typedef enum { CASE_UPPER, CASE_LOWER, CASE_TITLE, CASE_CAPITAL, CASE_WORD, CASE_SWAP } CaseRule;
size_t char_len(const char *p, const char *end);                        // bytes of the character at p; p < end
uint32_t char_code(const char *p, const char *end);
size_t space_at(const char *p, const char *end);                        // bytes of a Python white space at p, 0: none
size_t space_before(const char *begin, const char *p);                  // the same for the one that ends at p
bool code_is_letter(uint32_t code);
bool code_is_upper(uint32_t code);
bool code_is_lower(uint32_t code);
bool code_is_printable(uint32_t code);
size_t str_count(Value s);                                              // length in code points
Value str_slice(Value s, size_t from, size_t to);                       // by code points; borrows
Value str_case(Render *r, Value s, CaseRule rule);
Value str_strip(Value s, Value chars, bool left, bool right);           // chars not given: white space
Seq *str_split(Render *r, Value s, Value sep, Int max, bool from_right);
Seq *str_lines(Render *r, Value s, bool keep);
size_t str_find(Value s, Value part, size_t from);                      // byte offset, SIZE_MAX if absent
Value str_replace(Render *r, Value s, Value old, Value new, Int count);
Value str_join(Render *r, Value sep, const Seq *parts);                 // every part as by str()
Value str_pad(Render *r, Value s, Int width, Value fill, int side);     // side: -1 left-aligned, 0 centred, 1 right
Value str_html(Render *r, Value s);
Value str_percent(Render *r, Value format, Value args);                 // format % args
Value str_format(Render *r, Value format, Args *a);                     // format.format(...)
bool text_to_int(Value s, unsigned base, Int *out);                     // what int(s, base) reads
bool text_to_float(Value s, double *out);                               // what float(s) reads

// ---- op.c ----------------------------------------------------------------------------------------------------------
Value op_binary(Render *r, Op op, Value a, Value b);
Value op_negate(Render *r, Value v, bool minus);
bool op_compare(Render *r, Op op, Value a, Value b);
bool op_contains(Render *r, Value container, Value item);
Value value_own_attr(Render *r, Value obj, Value name);                 // what Python's getattr() finds, else V_MISSING
Value value_attr(Render *r, Value obj, Value name);                     // obj.name
Value value_item(Render *r, Value obj, Value key);                      // obj[key]
Value value_slice(Render *r, Value obj, Value from, Value to, Value step);

// ---- tables --------------------------------------------------------------------------------------------------------
const Builtin *filter_find(Value name);         // filter.c; NULL if there is none
const Builtin *text_filter_find(Value name);    // textfilter.c, for filter_find
const Builtin *test_find(Value name);           // global.c
const Builtin *global_find(Value name);
Dict *dict_from(Render *r, Value from);         // what dict(from) makes
const Builtin *method_find(Value obj, Value name);                      // method.c

#endif
