// jinja_parse: tokens -> the syntax tree, by recursive descent. A template is a list of statements; their expressions
// are parsed by levels of precedence. All nodes lie in the template's arena. Errors leave by longjmp (fail_syntax).
#include "jinja.h"

#include <assert.h>

// What the statements around say of what stands in them.
typedef struct {
    size_t depth;                               // of statements and expressions
    size_t loops;                               // that a break here would leave
    bool soft;                                  // inside an if, where an unknown filter matters only when it runs
    bool macro;
} Surroundings;

typedef struct {
    Lexer *lex;
    Template *t;
    Token tok, ahead;                           // ahead is there if has_ahead
    bool has_ahead;
    Surroundings in;
    const Node *unknown;                        // the first filter or test that nobody offers
} Parser;

// ---- tokens -------------------------------------------------------------------------------------------------------

static Token token_next(Parser *p)
{
    Token old = p->tok;
    p->tok = p->has_ahead ? p->ahead : lex_next(p->lex);
    p->has_ahead = false;
    return old;
}

static const Token *token_ahead(Parser *p)
{
    if (!p->has_ahead) p->ahead = lex_next(p->lex);
    p->has_ahead = true;
    return &p->ahead;
}

static bool token_is(const Token *t, const char *word) { return t->type == T_NAME && text_is(t->value, word); }
static bool at_name(const Parser *p, const char *word) { return token_is(&p->tok, word); }

static bool token_skip(Parser *p, TokenType type)
{
    if (p->tok.type != type) return false;
    token_next(p);
    return true;
}

static bool name_skip(Parser *p, const char *word)
{
    if (!at_name(p, word)) return false;
    token_next(p);
    return true;
}

static Value token_text(const Parser *p)
{
    return p->tok.type == T_NAME ? p->tok.value : v_text(token_name(p->tok.type));
}

static _Noreturn void fail_expected(Parser *p, const char *what)
{
    Value found = token_text(p);
    fail_syntax(p->lex, p->tok.at, "expected %s, found %.*s", what, (int)found.len, found.s);
}

static Token token_expect(Parser *p, TokenType type)
{
    if (p->tok.type != type) fail_expected(p, token_name(type));
    return token_next(p);
}

// ---- nodes --------------------------------------------------------------------------------------------------------

static Node *node_new(Parser *p, NodeType type, size_t at, Node *a, Node *b)
{
    Node *n = arena_take(&p->t->arena, sizeof *n);
    *n = (Node){.type = type, .at = at, .a = a, .b = b};
    return n;
}

static void nodes_add(Parser *p, Nodes *list, Node *n)
{
    list->v = arena_room(&p->t->arena, list->v, list->n, &list->cap, sizeof *list->v);
    list->v[list->n++] = n;
}

static size_t symbol_of(Parser *p, Value name)
{
    Template *t = p->t;
    if (t->n_names == MAX_NAMES) fail_syntax(p->lex, p->tok.at, "more than %d different names", MAX_NAMES);
    for (size_t i = 0; i < t->n_names; i++)
        if (text_same(t->names[i], name)) return i;
    t->names = arena_room(&t->arena, t->names, t->n_names, &t->cap_names, sizeof *t->names);
    t->names[t->n_names] = name;
    return t->n_names++;
}

static Node *name_node(Parser *p, const Token *t)
{
    Node *n = node_new(p, N_NAME, t->at, NULL, NULL);
    if (p->in.macro && has_word("caller kwargs varargs", t->value))
        fail_syntax(p->lex, t->at, "the macro variable '%.*s' " NOT_HERE, (int)t->value.len, t->value.s);
    n->sym = symbol_of(p, t->value);
    return n;
}

static Node *const_node(Parser *p, size_t at, Value value)
{
    Node *n = node_new(p, N_CONST, at, NULL, NULL);
    n->value = value;
    return n;
}

static void parse_deeper(Parser *p)
{
    if (++p->in.depth <= MAX_PARSE_DEPTH) return;
    fail_syntax(p->lex, p->tok.at, "nested deeper than %d levels", MAX_PARSE_DEPTH);
}

// ---- expressions --------------------------------------------------------------------------------------------------

// The operators that stand between operands, from the loosest level to the tightest. All are left-associative (in
// Jinja ** too); but comparisons that follow one another are one chain, and so are the operands of ~.
typedef enum {
    LEVEL_OR, LEVEL_AND, LEVEL_NOT, LEVEL_COMPARE, LEVEL_SUM, LEVEL_CONCAT, LEVEL_PRODUCT, LEVEL_POWER, LEVEL_UNARY
} Level;
typedef struct { const char *text; Level level; NodeType type; Op op; } Operator;
static const Operator operators[] = {
    {"or", LEVEL_OR, N_OR, 0}, {"and", LEVEL_AND, N_AND, 0},
    {"==", LEVEL_COMPARE, N_COMPARE, OP_EQ}, {"!=", LEVEL_COMPARE, N_COMPARE, OP_NE},
    {"<", LEVEL_COMPARE, N_COMPARE, OP_LT}, {"<=", LEVEL_COMPARE, N_COMPARE, OP_LE},
    {">", LEVEL_COMPARE, N_COMPARE, OP_GT}, {">=", LEVEL_COMPARE, N_COMPARE, OP_GE},
    {"in", LEVEL_COMPARE, N_COMPARE, OP_IN}, {"not", LEVEL_COMPARE, N_COMPARE, OP_NOT_IN},
    {"+", LEVEL_SUM, N_BINARY, OP_ADD}, {"-", LEVEL_SUM, N_BINARY, OP_SUB}, {"~", LEVEL_CONCAT, N_CONCAT, 0},
    {"*", LEVEL_PRODUCT, N_BINARY, OP_MUL}, {"/", LEVEL_PRODUCT, N_BINARY, OP_DIV},
    {"//", LEVEL_PRODUCT, N_BINARY, OP_FLOORDIV}, {"%", LEVEL_PRODUCT, N_BINARY, OP_MOD},
    {"**", LEVEL_POWER, N_BINARY, OP_POW},
};

static Node *parse_level(Parser *p, Level level);
static Node *parse_expression(Parser *p);
typedef enum { TUPLE_PLAIN, TUPLE_NO_IF, TUPLE_IN_PARENS, TUPLE_TARGET } TupleRule;
static Node *parse_tuple(Parser *p, TupleRule rule);

static Node *parse_string(Parser *p)
{
    Token t = token_next(p);
    Node *first = const_node(p, t.at, t.value);
    if (p->tok.type != T_STRING) return first;
    Node *all = node_new(p, N_CONCAT, t.at, NULL, NULL);         // "a" "b" is one string
    for (nodes_add(p, &all->kids, first); p->tok.type == T_STRING; token_next(p))
        nodes_add(p, &all->kids, const_node(p, p->tok.at, p->tok.value));
    return all;
}

// [a, b] or {a: b, c: d}
static Node *parse_list(Parser *p, NodeType type, TokenType close)
{
    Node *n = node_new(p, type, token_next(p).at, NULL, NULL);
    while (p->tok.type != close) {
        if (n->kids.n) token_expect(p, T_COMMA);
        if (p->tok.type == close) break;
        nodes_add(p, &n->kids, parse_expression(p));
        if (type == N_LIST) continue;
        token_expect(p, T_COLON);
        nodes_add(p, &n->other, parse_expression(p));
    }
    token_expect(p, close);
    return n;
}

static Node *parse_word(Parser *p)
{
    Token t = token_next(p);
    if (has_word("true True", t.value)) return const_node(p, t.at, v_bool(true));
    if (has_word("false False", t.value)) return const_node(p, t.at, v_bool(false));
    if (has_word("none None", t.value)) return const_node(p, t.at, v_none());
    return name_node(p, &t);
}

static Node *parse_primary(Parser *p)
{
    Token t = p->tok;
    switch (t.type) {
    case T_NAME: return parse_word(p);
    case T_STRING: return parse_string(p);
    case T_INTEGER:
    case T_FLOAT: token_next(p); return const_node(p, t.at, t.value);
    case T_LBRACKET: return parse_list(p, N_LIST, T_RBRACKET);
    case T_LBRACE: return parse_list(p, N_DICT, T_RBRACE);
    case T_LPAREN: {
        token_next(p);
        Node *n = parse_tuple(p, TUPLE_IN_PARENS);
        token_expect(p, T_RPAREN);
        return n;
    }
    default: fail_expected(p, "an expression");
    }
}

static bool at_tuple_end(const Parser *p)
{
    TokenType type = p->tok.type;
    return type == T_PRINT_END || type == T_BLOCK_END || type == T_RPAREN;
}

// One expression, or several with commas between, which make a tuple. A target consists of primaries only.
static Node *parse_tuple(Parser *p, TupleRule rule)
{
    size_t at = p->tok.at;
    Nodes items = {0};
    bool is_tuple = false;
    for (;;) {
        if (items.n) token_expect(p, T_COMMA);
        if (at_tuple_end(p)) break;
        nodes_add(p, &items, rule == TUPLE_TARGET ? parse_primary(p)
                             : rule == TUPLE_NO_IF ? parse_level(p, LEVEL_OR) : parse_expression(p));
        if (p->tok.type != T_COMMA) break;
        is_tuple = true;
    }
    if (!is_tuple && items.n) return items.v[0];
    if (!is_tuple && rule != TUPLE_IN_PARENS) fail_expected(p, "an expression");
    Node *n = node_new(p, N_TUPLE, at, NULL, NULL);
    n->kids = items;
    return n;
}

static Node *parse_slice_part(Parser *p)
{
    return p->tok.type == T_COLON || p->tok.type == T_RBRACKET ? NULL : parse_expression(p);
}

// What stands in brackets: an index, or from:to:step.
static Node *parse_index(Parser *p)
{
    size_t at = p->tok.at;
    Node *from = p->tok.type == T_COLON ? NULL : parse_expression(p);
    if (!token_skip(p, T_COLON)) return from;
    Node *n = node_new(p, N_SLICE, at, from, parse_slice_part(p));
    if (token_skip(p, T_COLON)) n->c = parse_slice_part(p);
    return n;
}

static Node *parse_subscript(Parser *p, Node *node)
{
    Token open = token_next(p);
    if (open.type == T_DOT) {
        Token t = token_next(p);
        if (t.type != T_NAME && t.type != T_INTEGER) fail_syntax(p->lex, t.at, "expected a name or a number after '.'");
        return node_new(p, t.type == T_NAME ? N_ATTR : N_ITEM, open.at, node, const_node(p, t.at, t.value));
    }
    Node *key = parse_index(p);
    token_expect(p, T_RBRACKET);
    return node_new(p, N_ITEM, open.at, node, key);
}

static CallArgs *parse_call_args(Parser *p)
{
    CallArgs *c = arena_take(&p->t->arena, sizeof *c);
    size_t at = token_expect(p, T_LPAREN).at;
    for (bool comma = false; p->tok.type != T_RPAREN; comma = true) {
        if (comma) token_expect(p, T_COMMA);
        if (p->tok.type == T_RPAREN) break;
        bool star = p->tok.type == T_MUL, star2 = p->tok.type == T_POW;
        bool named = p->tok.type == T_NAME && token_ahead(p)->type == T_ASSIGN;
        if (c->star2 || (c->star && !star2 && !named) || (c->kw.n && !star && !star2 && !named))
            fail_syntax(p->lex, at, "the arguments of this call are not in order");
        if (named) nodes_add(p, &c->names, const_node(p, p->tok.at, p->tok.value));
        for (int skip = named ? 2 : star || star2; skip > 0; skip--) token_next(p);
        Node *value = parse_expression(p);
        if (star) c->star = value;
        else if (star2) c->star2 = value;
        else nodes_add(p, named ? &c->kw : &c->args, value);
    }
    token_expect(p, T_RPAREN);
    return c;
}

static Node *parse_call(Parser *p, Node *callee)
{
    Node *n = node_new(p, N_CALL, p->tok.at, callee, NULL);
    n->call = parse_call_args(p);
    return n;
}

static Node *parse_postfix(Parser *p, Node *n)
{
    for (;;) {
        if (p->tok.type == T_DOT || p->tok.type == T_LBRACKET) n = parse_subscript(p, n);
        else if (p->tok.type == T_LPAREN) n = parse_call(p, n);
        else return n;
    }
}

static void find_builtin(Parser *p, Node *n)
{
    n->builtin = n->type == N_FILTER ? filter_find(n->value) : test_find(n->value);
    if (!n->builtin && !p->in.soft && !p->unknown) p->unknown = n;
}

static Node *parse_filter(Parser *p, Node *node, bool inline_start)
{
    while (inline_start || token_skip(p, T_PIPE)) {
        Node *n = node_new(p, N_FILTER, p->tok.at, node, NULL);
        n->value = token_expect(p, T_NAME).value;
        if (p->tok.type == T_LPAREN) n->call = parse_call_args(p);
        find_builtin(p, n);
        node = n;
        inline_start = false;
    }
    return node;
}

static Node *parse_test(Parser *p, Node *node)
{
    size_t at = token_next(p).at;
    bool negated = name_skip(p, "not");
    Node *n = node_new(p, N_TEST, p->tok.at, node, NULL);
    n->value = token_expect(p, T_NAME).value;
    TokenType type = p->tok.type;
    bool word = type == T_NAME && !has_word("else or and", p->tok.value);
    if (type == T_LPAREN) {
        n->call = parse_call_args(p);
    } else if (word || type == T_STRING || type == T_INTEGER || type == T_FLOAT || type == T_LBRACKET ||
               type == T_LBRACE) {
        if (at_name(p, "is")) fail_syntax(p->lex, p->tok.at, "one 'is' cannot follow another");
        n->call = arena_take(&p->t->arena, sizeof *n->call);
        nodes_add(p, &n->call->args, parse_postfix(p, parse_primary(p)));
    }
    find_builtin(p, n);
    return negated ? node_new(p, N_NOT, at, n, NULL) : n;
}

static Node *parse_unary(Parser *p, bool with_filter)
{
    Node *n;
    size_t at = p->tok.at;
    parse_deeper(p);
    if (token_skip(p, T_SUB)) n = node_new(p, N_NEG, at, parse_unary(p, false), NULL);
    else if (token_skip(p, T_ADD)) n = node_new(p, N_POS, at, parse_unary(p, false), NULL);
    else n = parse_primary(p);
    n = parse_postfix(p, n);
    while (with_filter) {
        if (p->tok.type == T_PIPE) n = parse_filter(p, n, false);
        else if (at_name(p, "is")) n = parse_test(p, n);
        else if (p->tok.type == T_LPAREN) n = parse_call(p, n);
        else break;
    }
    p->in.depth--;
    return n;
}

// Takes an operator of the level, if one stands here; else NULL. The word behind a "not" must be "in".
static const Operator *operator_skip(Parser *p, Level level)
{
    Value text = token_text(p);
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        const Operator *o = &operators[i];
        if (o->level != level || !text_is(text, o->text)) continue;
        if (o->op == OP_NOT_IN && !token_is(token_ahead(p), "in")) continue;
        for (int words = o->op == OP_NOT_IN ? 2 : 1; words > 0; words--) token_next(p);
        return o;
    }
    return NULL;
}

static Node *parse_level(Parser *p, Level level)
{
    size_t at = p->tok.at;
    if (level == LEVEL_UNARY) return parse_unary(p, true);
    if (level == LEVEL_NOT && name_skip(p, "not")) {
        parse_deeper(p);
        Node *n = node_new(p, N_NOT, at, parse_level(p, LEVEL_NOT), NULL);
        p->in.depth--;
        return n;
    }
    Node *left = parse_level(p, level + 1), *chain = NULL;
    for (const Operator *o; (o = operator_skip(p, level)); ) {
        Node *right = parse_level(p, level + 1);
        if (o->type != N_COMPARE && o->type != N_CONCAT) {
            left = node_new(p, o->type, at, left, right);
            left->op = o->op;
            continue;
        }
        Node *between = node_new(p, N_GROUP, at, NULL, NULL);
        between->op = o->op;
        if (!chain) chain = node_new(p, o->type, at, NULL, NULL);
        if (!chain->kids.n) nodes_add(p, &chain->kids, left);
        nodes_add(p, &chain->kids, right);
        nodes_add(p, &chain->other, between);
    }
    return chain ? chain : left;
}

// Jinja compiles all parts of "x if test else y" softly, as it does an if: what they lack is forgiven until it runs.
static Node *parse_expression(Parser *p)
{
    size_t at = p->tok.at;
    const Node *unknown = p->unknown;
    Node *n = parse_level(p, LEVEL_OR);
    while (name_skip(p, "if")) {
        n = node_new(p, N_COND, at, n, parse_level(p, LEVEL_OR));
        parse_deeper(p);
        if (name_skip(p, "else")) n->c = parse_expression(p);
        p->in.depth--;
        p->unknown = unknown;
    }
    return n;
}

// ---- statements ---------------------------------------------------------------------------------------------------

static Node *parse_statement(Parser *p);

// Up to a tag of `ends` (words, the closing tag last), whose name is then the current token; NULL: to the end of the
// template.
static Nodes parse_nodes(Parser *p, const char *ends)
{
    Nodes body = {0};
    while (p->tok.type != T_EOF) {
        Token t = token_next(p);
        if (t.type == T_DATA) {
            nodes_add(p, &body, node_new(p, N_PRINT, t.at, const_node(p, t.at, t.value), NULL));
        } else if (t.type == T_PRINT_BEGIN) {
            nodes_add(p, &body, node_new(p, N_PRINT, t.at, parse_tuple(p, TUPLE_PLAIN), NULL));
            token_expect(p, T_PRINT_END);
        } else {
            assert(t.type == T_BLOCK_BEGIN);
            if (ends && p->tok.type == T_NAME && has_word(ends, p->tok.value)) return body;
            nodes_add(p, &body, parse_statement(p));
            token_expect(p, T_BLOCK_END);
        }
    }
    if (ends) fail_expected(p, strstr(ends, "end"));
    return body;
}

static Nodes parse_body(Parser *p, const char *ends)
{
    token_skip(p, T_COLON);
    token_expect(p, T_BLOCK_END);
    return parse_nodes(p, ends);
}

// A body with its closing tag.
static Nodes parse_last(Parser *p, const char *end)
{
    Nodes body = parse_body(p, end);
    token_next(p);
    return body;
}

// A body that Jinja makes a scope of its own, where unknown filters are errors again.
static Nodes parse_inner(Parser *p, const char *end)
{
    p->in.soft = false;
    return parse_last(p, end);
}

// The body of a macro or of a generation block, which a break cannot leave.
static Nodes parse_closed(Parser *p, const char *end)
{
    p->in.loops = 0;
    return parse_inner(p, end);
}

static void check_target(Parser *p, const Node *n, size_t at)
{
    for (size_t i = 0; n->type == N_TUPLE && i < n->kids.n; i++) check_target(p, n->kids.v[i], at);
    if (n->type != N_NAME && n->type != N_TUPLE) fail_syntax(p->lex, at, "a value can only be assigned to names");
}

static Node *parse_target(Parser *p)
{
    size_t at = p->tok.at;
    Node *n = parse_tuple(p, TUPLE_TARGET);
    check_target(p, n, at);
    return n;
}

static Node *parse_name(Parser *p)
{
    Token t = token_expect(p, T_NAME);
    Node *n = node_new(p, N_NAME, t.at, NULL, NULL);
    n->sym = symbol_of(p, t.value);
    return n;
}

// ---- statements: each fills the node that parse_statement made ----------------------------------------------------

static void parse_set(Parser *p, Node *n)
{
    if (token_ahead(p)->type == T_DOT) {
        n->a = parse_name(p);
        n->a->type = N_NS_TARGET;
        token_next(p);
        n->a->value = token_expect(p, T_NAME).value;
    } else {
        n->a = parse_target(p);
    }
    if (token_skip(p, T_ASSIGN)) {
        n->b = parse_tuple(p, TUPLE_PLAIN);
        return;
    }
    n->type = N_SET_BLOCK;
    n->b = parse_filter(p, NULL, false);
    n->kids = parse_inner(p, "endset");
}

static void parse_for(Parser *p, Node *n)
{
    n->a = parse_target(p);
    if (!name_skip(p, "in")) fail_expected(p, "in");
    n->b = parse_tuple(p, TUPLE_NO_IF);
    p->in.soft = false;
    if (name_skip(p, "if")) n->c = parse_expression(p);
    if (at_name(p, "recursive")) fail_syntax(p->lex, p->tok.at, "the word 'recursive' " NOT_HERE);
    p->in.loops++;
    n->kids = parse_body(p, "else endfor");
    p->in.loops--;
    if (text_is(token_next(p).value, "else")) n->other = parse_last(p, "endfor");
}

// kids: one N_GROUP per condition, with its body; other: else.
static void parse_if(Parser *p, Node *n)
{
    Token t;
    p->in.soft = true;
    do {
        Node *branch = node_new(p, N_GROUP, p->tok.at, parse_tuple(p, TUPLE_NO_IF), NULL);
        branch->kids = parse_body(p, "elif else endif");
        nodes_add(p, &n->kids, branch);
        t = token_next(p);
    } while (token_is(&t, "elif"));
    if (token_is(&t, "else")) n->other = parse_last(p, "endif");
}

static void parse_with(Parser *p, Node *n)
{
    n->a = node_new(p, N_TUPLE, p->tok.at, NULL, NULL);
    while (p->tok.type != T_BLOCK_END) {
        if (n->other.n) token_expect(p, T_COMMA);
        nodes_add(p, &n->a->kids, parse_target(p));
        token_expect(p, T_ASSIGN);
        nodes_add(p, &n->other, parse_expression(p));
    }
    n->kids = parse_inner(p, "endwith");
}

// The parameters become c->args, the defaults of the last of them c->kw.
static void parse_signature(Parser *p, CallArgs *c)
{
    token_expect(p, T_LPAREN);
    while (p->tok.type != T_RPAREN) {
        if (c->args.n) token_expect(p, T_COMMA);
        size_t at = p->tok.at;
        Node *param = parse_name(p);
        for (size_t i = 0; i < c->args.n; i++)
            if (c->args.v[i]->sym == param->sym) fail_syntax(p->lex, at, "two parameters have the same name");
        if (token_skip(p, T_ASSIGN)) nodes_add(p, &c->kw, parse_expression(p));
        else if (c->kw.n) fail_syntax(p->lex, at, "this parameter needs a default, as the one before it has");
        nodes_add(p, &c->args, param);
    }
    token_expect(p, T_RPAREN);
}

static void parse_macro(Parser *p, Node *n)
{
    n->sym = parse_name(p)->sym;
    n->call = arena_take(&p->t->arena, sizeof *n->call);
    parse_signature(p, n->call);
    p->in.macro = true;
    n->kids = parse_closed(p, "endmacro");
}

static void parse_filter_block(Parser *p, Node *n)
{
    n->b = parse_filter(p, NULL, true);
    n->kids = parse_inner(p, "endfilter");
}

static void parse_generation(Parser *p, Node *n)
{
    p->t->has_generation = true;
    n->kids = parse_closed(p, "endgeneration");
}

static void parse_jump(Parser *p, Node *n)
{
    const char *name = n->type == N_BREAK ? "break" : "continue";
    if (p->in.loops == 0) fail_syntax(p->lex, p->tok.at, "'%s' must stand in a loop", name);
}

// To add a statement: a NodeType, a row here and its function, and a case in run_statement of eval.c.
static Node *parse_statement(Parser *p)
{
    static const struct { const char *tag; NodeType type; void (*parse)(Parser *p, Node *n); } statements[] = {
        {"if", N_IF, parse_if}, {"for", N_FOR, parse_for}, {"set", N_SET, parse_set}, {"macro", N_MACRO, parse_macro},
        {"with", N_WITH, parse_with}, {"filter", N_FILTER_BLOCK, parse_filter_block},
        {"generation", N_GENERATION, parse_generation}, {"break", N_BREAK, parse_jump},
        {"continue", N_CONTINUE, parse_jump},
    };
    Token t = p->tok;
    if (t.type != T_NAME) fail_expected(p, "the name of a tag");
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        if (!token_is(&t, statements[i].tag)) continue;
        Surroundings outer = p->in;
        parse_deeper(p);
        token_next(p);
        Node *n = node_new(p, statements[i].type, t.at, NULL, NULL);
        statements[i].parse(p, n);
        p->in = outer;
        return n;
    }
    bool known = has_word("autoescape block call extends from import include print", t.value);
    fail_syntax(p->lex, t.at, "the tag '%.*s' %s", (int)t.value.len, t.value.s,
                known ? NOT_HERE : "is unknown, or has no place here");
}

void parse_template(Template *t, Lexer *x)
{
    Parser p = {.lex = x, .t = t};
    symbol_of(&p, v_text("loop"));              // SYM_LOOP
    token_next(&p);
    t->body = parse_nodes(&p, NULL);
    const Node *n = p.unknown;
    if (!n) return;
    fail_syntax(x, n->at, "No %s named '%.*s'.", n->type == N_FILTER ? "filter" : "test", (int)n->value.len,
                n->value.s);
}
