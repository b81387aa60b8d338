// jinja: what the files of the template engine share: limits, values, the syntax tree, and who offers which function.
// The rule: the engine has what real chat templates use, and what is short beside that; it all does what it does in
// Jinja2. The rest of Jinja2 is refused by its name, not left out in silence:
//   chat.jinja:12: runtime: the filter 'xmlattr' is not part of chat templates
// An error has a file, a line, a kind, and one sentence, which is ours. Only raise_exception's is the template's.
// Each file calls only those before it, first down the left column and then down the right one (but print.c and value.c
// call each other: a value in a message is printed):
//   chars.c    UTF-8 characters: white space, letters, case      op.c       operators, subscripts, attributes
//   render.c   memory, limits, failing, text under construction  global.c   tests and global functions
//   print.c    str(), repr() and JSON of values                  filter.c   the other filters
//   value.c    lists, dicts, truth, equality, order              eval.c     expressions, scopes, macros, statements
//   text.c     strip, split, find, replace, numbers in text      lex.c, parse.c   text -> tokens -> tree
//   call.c     arguments of calls, builtins by their names       template.c the public face
//   method.c   methods, and filters that make text
// A failure inside the engine is a longjmp to template_parse or template_render. That leaks nothing: what a parse or
// a render allocates lies in one arena, and text under construction lies at the end of the caller's output.
#ifndef JINJA_H
#define JINJA_H

#include "template.h"

#include <setjmp.h>
#include <string.h>

// What a hostile template may use up. Steps are charged per node evaluated and per piece of work a builtin does.
#define MAX_PARSE_DEPTH 200
#define MAX_NAMES 5000
#define MAX_RENDER_DEPTH 2000
#define MAX_STEPS 20000000
#define MAX_BYTES ((size_t)256 << 20)
#define MAX_RANGE 100000                        // the sandbox's own limit for range()

#define NOT_HERE "is not part of chat templates"           // the end of every refusal by name

// ---- memory --------------------------------------------------------------------------------------------------------
typedef struct ArenaBlock ArenaBlock;
typedef struct { ArenaBlock *blocks; size_t total; } Arena;
void *arena_take(Arena *a, size_t size);        // 16-byte aligned, zeroed
void *arena_room(Arena *a, void *items, size_t n, size_t *cap, size_t size);    // n items, where one more has room
void arena_free(Arena *a);

// ---- values --------------------------------------------------------------------------------------------------------
// Ints have 64 bits. A longer one that a template or a row holds is a V_BIG, which prints as it was written.
typedef enum {
    V_MISSING,                                  // no value at all: an argument left out, a name not looked up yet
    V_UNDEFINED, V_NONE, V_BOOL, V_INT, V_BIG, V_FLOAT, V_STRING,
    V_LIST, V_TUPLE, V_RANGE, V_VIEW, V_ITER,   // a Seq; V_VIEW is dict_keys and the like, V_ITER gives its items once
    V_DICT, V_NAMESPACE,                        // a Dict
    V_LOOP, V_MACRO, V_FUNCTION
} Kind;

// Sets of kinds, for is_a and for the rows of builtins.
#define SET(kind) (1u << (kind))
#define INTS (SET(V_BOOL) | SET(V_INT))                    // as in Python, True is 1
#define NUMBERS (INTS | SET(V_FLOAT))
#define ARRAYS (SET(V_LIST) | SET(V_TUPLE) | SET(V_RANGE))
#define SEQS (ARRAYS | SET(V_VIEW) | SET(V_ITER))
#define ITERABLE (SEQS | SET(V_DICT) | SET(V_STRING) | SET(V_UNDEFINED))
#define GIVEN (~(SET(V_MISSING) | SET(V_NONE)))

typedef struct {
    uint8_t kind;
    bool markup;                                // a string that |safe or |escape marked
    size_t len;                                 // bytes of a string or of a V_BIG's digits
    union {
        bool b;
        int64_t i;
        double f;
        const char *s;                          // not NUL-terminated; may borrow from the cJSON or another string
        struct Seq *seq;
        struct Dict *dict;
        struct Loop *loop;
        const struct Undef *undef;
        const struct Macro *macro;
        const struct Bound *bound;              // V_FUNCTION
    };
} Value;

typedef struct Seq { Value *items; size_t n, cap; const char *name; } Seq;     // name: of a V_VIEW or a V_RANGE
typedef struct Dict { Seq keys, vals; } Dict;
typedef struct Undef { const char *of; Value name; bool unsafe; } Undef;        // of: what lacks it; NULL: a variable
typedef struct Loop { const Seq *items; size_t index0; Value changed; } Loop;

// A call's arguments: n by their place, then those by their names. how: from the builtin's row.
typedef struct { Value *v; size_t n; Dict kw; int how; } Args;
typedef struct Render Render;

// A filter, test, method or global function is a row in a table. To add one: a row, its function, and a case in
// tests/oracle/jinja.py. The builtins of one family share a function, and `how` says which of them it is.
typedef struct Builtin {
    const char *name;                           // one or several, with spaces between them
    uint32_t of;                                // FILTER, TEST, GLOBAL, and the kinds whose method it is
    const char *params;                         // names of parameters; _: only by place. NULL: any arguments
    Value (*fn)(Render *r, Value v, Args *a);   // gets V_MISSING for what was left out. NULL: refused by its name
    int how;
    size_t need;                                // the first so many parameters must be given
} Builtin;
enum { FILTER = 1 << 28, TEST = 1 << 29, GLOBAL = 1 << 30 };
typedef struct Bound { const Builtin *row; Value name, v; } Bound;

#define UNUSED __attribute__((unused))
#define BUILTIN(fn) static Value fn(UNUSED Render *r, UNUSED Value v, UNUSED Args *a)

static inline bool is_a(Value v, uint32_t kinds) { return kinds >> v.kind & 1; }
static inline Value v_missing(void) { return (Value){.kind = V_MISSING}; }
static inline Value v_none(void) { return (Value){.kind = V_NONE}; }
static inline Value v_bool(bool b) { return (Value){.kind = V_BOOL, .b = b}; }
static inline Value v_int(int64_t i) { return (Value){.kind = V_INT, .i = i}; }
static inline Value v_float(double f) { return (Value){.kind = V_FLOAT, .f = f}; }
static inline Value v_str(const char *s, size_t n) { return (Value){.kind = V_STRING, .len = n, .s = s}; }
static inline Value v_text(const char *s) { return v_str(s, strlen(s)); }
static inline Value v_seq(Kind kind, Seq *s) { return (Value){.kind = (uint8_t)kind, .seq = s}; }
static inline Value v_dict(Dict *d) { return (Value){.kind = V_DICT, .dict = d}; }
static inline int64_t int_of(Value v) { return v.kind == V_BOOL ? v.b : v.i; }
static inline double float_of(Value v) { return v.kind == V_FLOAT ? v.f : (double)int_of(v); }
static inline bool text_same(Value a, Value b) { return a.len == b.len && memcmp(a.s, b.s, a.len) == 0; }
static inline bool text_is(Value v, const char *s) { return v.len == strlen(s) && memcmp(v.s, s, v.len) == 0; }

// ---- the syntax tree -----------------------------------------------------------------------------------------------
typedef enum {
    N_CONST, N_NAME, N_TUPLE, N_LIST, N_DICT, N_ATTR, N_ITEM, N_SLICE, N_CALL, N_FILTER, N_TEST,
    N_NOT, N_NEG, N_POS, N_AND, N_OR, N_COND, N_COMPARE, N_CONCAT, N_BINARY,
    N_PRINT, N_IF, N_FOR, N_SET, N_SET_BLOCK, N_WITH, N_MACRO, N_FILTER_BLOCK, N_GENERATION, N_BREAK,
    N_CONTINUE, N_NS_TARGET, N_GROUP
} NodeType;

// To add an operator: its token (here, and in lex.c), an Op (its text and its code in op.c), a row in
// operators of parse.c.
typedef enum { OP_ADD, OP_SUB, OP_MUL, OP_DIV, OP_FLOORDIV, OP_MOD, OP_POW, OP_EQ, OP_NE, OP_LT, OP_LE, OP_GT, OP_GE,
               OP_IN, OP_NOT_IN } Op;

typedef struct Node Node;
typedef struct { Node **v; size_t n, cap; } Nodes;
typedef struct { Nodes args, kw, names; Node *star, *star2; } CallArgs;                // names[i] is the key of kw[i]

// Which fields a node uses: a, b, c are parts in the order of the source; kids a list of parts or a body.
struct Node {
    NodeType type;
    Op op;                                      // N_BINARY; N_COMPARE has N_GROUPs in other, one between two kids
    size_t at;                                  // offset in the source
    size_t sym;                                 // index into Template.names
    Node *a, *b, *c;
    Nodes kids, other;                          // other: else of N_IF and N_FOR, values of N_WITH and N_DICT
    Value value;                                // N_CONST; the name of a filter or test
    const Builtin *builtin;                     // N_FILTER, N_TEST; NULL: unknown, which only matters when it runs
    CallArgs *call;                             // N_CALL, N_FILTER, N_TEST; N_MACRO: parameters, and defaults in kw
};

enum { SYM_LOOP };                              // the first of Template.names

struct Template {
    Arena arena;
    const char *name, *src;                     // src: newlines made \n, the last one dropped, NUL-terminated
    Nodes body;
    Value *names;                               // every name that the template uses, once
    size_t n_names, cap_names;
    bool has_generation;
};

// A parse or a render: of which template, where a failure jumps to, and the error that it fills.
typedef struct { const Template *t; jmp_buf jump; Err *e; } Job;
// KIND and the sentence, with the line of the offset `at`; with the column, too, if it is a syntax error.
_Noreturn void fail_at(Job *job, size_t at, const char *kind, const char *fmt, ...)     // render.c
    __attribute__((format(printf, 4, 5)));

// ---- the lexer (lex.c) ---------------------------------------------------------------------------------------------
// ORDER: the operators are those from T_ADD to T_COMMA (lex_operator).
typedef enum {
    T_EOF, T_DATA, T_PRINT_BEGIN, T_PRINT_END, T_BLOCK_BEGIN, T_BLOCK_END, T_NAME, T_STRING, T_INTEGER, T_FLOAT,
    T_ADD, T_SUB, T_DIV, T_FLOORDIV, T_MUL, T_MOD, T_POW, T_TILDE, T_LBRACKET, T_RBRACKET, T_LPAREN, T_RPAREN,
    T_LBRACE, T_RBRACE, T_EQ, T_NE, T_GT, T_GE, T_LT, T_LE, T_ASSIGN, T_DOT, T_COLON, T_PIPE, T_COMMA
} TokenType;

typedef struct { TokenType type; size_t at; Value value; } Token;   // value: the text of a name or data, or a literal

typedef enum { IN_TEXT, IN_RAW, AT_TAG, IN_BLOCK, IN_PRINT } LexState;

typedef struct {
    Job job;
    Arena *arena;
    const char *src;                            // that of the template
    size_t len, pos, tag_at;
    LexState state;
    size_t n_open;                              // brackets
} Lexer;

Token lex_next(Lexer *x);
const char *token_name(TokenType type);         // for messages
#define fail_syntax(x, at, ...) fail_at(&(x)->job, at, "syntax error", __VA_ARGS__)

void parse_template(Template *t, Lexer *x);     // parse.c

// ---- a running template --------------------------------------------------------------------------------------------
typedef struct { size_t sym; Value value; } Var;
typedef struct Scope { struct Scope *parent; Var *vars; size_t n, cap; } Scope;

typedef struct Macro { const Node *node; Scope *scope; Value name; } Macro;

struct Render {
    Job job;
    const cJSON *vars;
    Arena arena;
    Buf *out;
    size_t base;                                // where this render's text begins in out
    Spans *spans;
    Scope *scope;
    Value captured;                             // what the filters of a set or filter block take
    size_t steps, depth;
    size_t n_captures, capture_mark;            // captures running, and where the outermost began
    size_t at;                                  // what runs, as an offset in the source
};

void render_body(Render *r);                    // eval.c

// ---- chars.c -------------------------------------------------------------------------------------------------------
size_t char_len(const char *p, const char *end);                        // bytes of the character at p; p < end
uint32_t char_code(const char *p, const char *end);
const char *char_before(const char *begin, const char *p);              // where the character that ends at p begins
size_t space_at(const char *p, const char *end);                        // bytes of a Python white space at p, 0: none
size_t space_before(const char *begin, const char *p);                  // the same for the one that ends at p
unsigned code_class(uint32_t code);                                     // CLASS_LETTER and so on
bool code_is_printable(uint32_t code);
uint32_t code_case(uint32_t code, bool upper);                          // the same letter, large or small
size_t str_count(Value s);                                              // length in code points
Value str_slice(Value s, size_t from, size_t to);                       // by code points; borrows

// ---- render.c ------------------------------------------------------------------------------------------------------
#define fail_kind(r, kind, ...) fail_at(&(r)->job, (r)->at, kind, __VA_ARGS__)
#define fail_run(r, ...) fail_kind(r, "runtime", __VA_ARGS__)
void render_charge(Render *r, size_t steps);
void render_enter(Render *r);                   // one level deeper; every recursion pairs it with r->depth--
void *render_take(Render *r, size_t count, size_t size);
void *render_copy(Render *r, const void *from, size_t size);
#define NEW(r, type, ...) render_copy(r, &(type){__VA_ARGS__}, sizeof(type))
void *render_room(Render *r, void *items, size_t n, size_t *cap, size_t size);  // as arena_room
void out_add(Render *r, const char *s, size_t n);
void out_value(Render *r, Value s);             // a string
void out_text(Render *r, const char *s);
void out_char(Render *r, uint32_t code);
Value out_cut(Render *r, size_t mark);          // takes the text from `mark` on away; a NUL stands behind it

// ---- print.c -------------------------------------------------------------------------------------------------------
const char *type_name(Value v);                 // "a list", for messages
void value_print(Render *r, Value v);           // str()
typedef struct { bool json, ascii, sort; Value indent, item_sep, key_sep; } Style;      // not json: as repr()
void value_write(Render *r, Value v, const Style *style, size_t level);
Value value_to_str(Render *r, Value v);
const char *value_chars(Render *r, Value v);    // str() with a NUL at its end

// ---- value.c -------------------------------------------------------------------------------------------------------
Value undefined_new(Render *r, const char *of, Value name, bool unsafe);
_Noreturn void fail_undefined(Render *r, Value v);
void need_kind(Render *r, Value v, uint32_t kinds, const char *what);   // fails for others: "WHAT does not work with v"
int64_t value_int_or(Render *r, Value v, int64_t otherwise);            // an int argument that may be left out
bool value_truth_or(Render *r, Value v, bool otherwise);
Seq *seq_new(Render *r, size_t cap);
void seq_add(Render *r, Seq *s, Value v);
Seq *seq_copy(Render *r, const Seq *from);
Value seq_remove(Seq *s, size_t i);             // the i-th item, which is in there
Dict *dict_new(Render *r, size_t cap);
Dict *dict_copy(Render *r, const Dict *from);
const Value *dict_get(Render *r, const Dict *d, Value key);             // NULL if absent
void dict_put(Render *r, Dict *d, Value key, Value value);
void need_hashable(Render *r, Value v);
Seq *dict_items(Render *r, const Dict *d);                              // (key, value) tuples
bool value_truth(Render *r, Value v);
bool value_equal(Render *r, Value a, Value b);
bool value_less(Render *r, Value a, Value b, bool or_equal);
Seq *value_iterate(Render *r, Value v);         // the items; what it gives must not be changed
size_t value_length(Render *r, Value v);
void sort_values(Render *r, Value *items, Value *keys, size_t n, bool reverse);     // stable, by keys

// ---- text.c --------------------------------------------------------------------------------------------------------
typedef enum { CASE_UPPER, CASE_LOWER, CASE_TITLE, CASE_WORDS, CASE_CAPITAL } CaseRule;
enum { SIDE_LEFT = 1, SIDE_RIGHT = 2 };
Value str_case(Render *r, Value s, CaseRule rule);
Value str_strip(Value s, Value chars, int sides);                       // chars not GIVEN: white space
Seq *str_split(Render *r, Value s, Value sep, int64_t max, bool from_right);
Seq *str_lines(Render *r, Value s, bool keep);
size_t str_find(Value s, Value part, bool last);                        // byte offset, SIZE_MAX if absent
Value str_replace(Render *r, Value s, Value old, Value new, int64_t count);
Value str_join(Render *r, Value sep, const Seq *parts);                 // every part as by str()
Value str_html(Render *r, Value s);
Value text_to_int(Arena *a, Value s);                                   // what int(s) reads; V_MISSING if it is none
bool text_to_float(Arena *a, Value s, double *out);                     // what float(s) reads

// ---- call.c --------------------------------------------------------------------------------------------------------
bool has_word(const char *words, Value name);   // is it one of the words, which have spaces between them?
const Builtin *row_find(const Builtin *rows, uint32_t of, Value name);  // rows end with one without a name; NULL: none
Value args_pop(Args *a, Value name);            // a keyword's value, taken out of the keywords; V_MISSING: none
Value args_take(Args *a, size_t i, Value name); // the same for the i-th parameter, which may be given by its place
void args_end(Render *r, const Args *a, size_t n, Value callee);        // fails if more than n were given
Value function_new(Render *r, const Builtin *row, Value name, Value v);   // a method of v, or a global function
Value call_builtin(Render *r, const Bound *b, Args *a);

// ---- op.c ----------------------------------------------------------------------------------------------------------
Value op_binary(Render *r, Op op, Value a, Value b);
Value op_negate(Render *r, Value v, bool minus);
bool op_compare(Render *r, Op op, Value a, Value b);
Value value_attr(Render *r, Value obj, Value name);                     // obj.name
Value value_item(Render *r, Value obj, Value key);                      // obj[key]
Value value_slice(Render *r, Value obj, Value from, Value to, Value step);

// ---- tables: what Jinja calls so, or NULL --------------------------------------------------------------------------
const Builtin *method_find(Value obj, Value name);                      // method.c
const Builtin *text_filter_find(Value name);                            // method.c, for filter_find
const Builtin *test_find(Value name);                                   // global.c
const Builtin *global_find(Value name);                                 // global.c
const Builtin *filter_find(Value name);                                 // filter.c

#endif
