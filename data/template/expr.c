// jinja_expr: tokens -> expressions, by recursive descent; one function per level of precedence, loosest last.
// All nodes live in the template's arena. Errors leave by longjmp (fail_syntax).
#include "parse.h"

// ---- tokens -------------------------------------------------------------------------------------------------------

Token token_next(Parser *p)
{
    Token old = p->tok;
    p->tok = p->has_ahead ? p->ahead : lex_next(p->lex);
    p->has_ahead = false;
    return old;
}

const Token *token_ahead(Parser *p)
{
    if (!p->has_ahead) p->ahead = lex_next(p->lex);
    p->has_ahead = true;
    return &p->ahead;
}

bool token_is(const Token *t, const char *word) { return t->type == T_NAME && text_is(t->value, word); }
bool at_name(const Parser *p, const char *word) { return token_is(&p->tok, word); }

bool token_skip(Parser *p, TokenType type)
{
    if (p->tok.type != type) return false;
    token_next(p);
    return true;
}

bool name_skip(Parser *p, const char *word)
{
    if (!at_name(p, word)) return false;
    token_next(p);
    return true;
}

static Value token_text(const Parser *p)
{
    return p->tok.type == T_NAME ? p->tok.value : v_text(token_name(p->tok.type));
}

_Noreturn void fail_expected(Parser *p, const char *what)
{
    Value found = token_text(p);
    fail_syntax(p->lex, p->tok.at, "expected %s, found %.*s", what, (int)found.len, found.s);
}

Token token_expect(Parser *p, TokenType type)
{
    if (p->tok.type != type) fail_expected(p, token_name(type));
    return token_next(p);
}

// ---- nodes --------------------------------------------------------------------------------------------------------

Node *node_new(Parser *p, NodeType type, size_t at, Node *a, Node *b)
{
    Node *n = arena_take(&p->t->arena, sizeof *n);
    *n = (Node){.type = type, .at = at, .a = a, .b = b};
    return n;
}

void nodes_add(Parser *p, Nodes *list, Node *n)
{
    list->v = arena_room(&p->t->arena, list->v, list->n, &list->cap, sizeof *list->v);
    list->v[list->n++] = n;
}

size_t symbol_of(Parser *p, Value name)
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

void parse_deeper(Parser *p)
{
    if (++p->in.depth > MAX_PARSE_DEPTH) fail_syntax(p->lex, p->tok.at, "nested deeper than %d levels", MAX_PARSE_DEPTH);
}

// ---- expressions --------------------------------------------------------------------------------------------------

// The operators that stand between operands, from the loosest level to the tightest. All are left-associative (in Jinja
// ** too); but the comparisons of a level are one chain, and so are the operands of ~.
enum { LEVEL_OR, LEVEL_AND, LEVEL_NOT, LEVEL_COMPARE, LEVEL_SUM, LEVEL_CONCAT, LEVEL_PRODUCT, LEVEL_POWER, LEVEL_UNARY };
typedef struct { const char *text; int level; NodeType type; Op op; } Operator;
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

static Node *parse_level(Parser *p, int level);

static Node *parse_string(Parser *p)
{
    Token t = token_next(p);
    Node *first = const_node(p, t.at, t.value);
    if (p->tok.type != T_STRING) return first;
    Node *all = node_new(p, N_CONCAT, t.at, first, NULL);        // "a" "b" is one string
    for (; p->tok.type == T_STRING; token_next(p))
        nodes_add(p, &all->kids, node_new(p, N_GROUP, p->tok.at, const_node(p, p->tok.at, p->tok.value), NULL));
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
    static const struct { const char *word; Value value; } words[] = {
        {"true", {.kind = V_BOOL, .b = true}}, {"True", {.kind = V_BOOL, .b = true}},
        {"false", {.kind = V_BOOL}}, {"False", {.kind = V_BOOL}},
        {"none", {.kind = V_NONE}}, {"None", {.kind = V_NONE}},
    };
    Token t = token_next(p);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (token_is(&t, words[i].word)) return const_node(p, t.at, words[i].value);
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
Node *parse_tuple(Parser *p, TupleRule rule)
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
        Node *n = node_new(p, t.type == T_NAME ? N_ATTR : N_ITEM, open.at, node, NULL);
        if (t.type == T_NAME) n->value = t.value;
        else n->b = const_node(p, t.at, t.value);
        return n;
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

Node *parse_filter(Parser *p, Node *node, bool inline_start)
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
static const Operator *operator_skip(Parser *p, int level)
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

static Node *parse_level(Parser *p, int level)
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
        if (!chain) chain = node_new(p, o->type, at, left, NULL);
        Node *operand = node_new(p, N_GROUP, right->at, right, NULL);
        operand->op = o->op;
        nodes_add(p, &chain->kids, operand);
    }
    return chain ? chain : left;
}

// Jinja compiles all parts of "x if test else y" softly, as it does an if: what they lack is forgiven until it runs.
Node *parse_expression(Parser *p)
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
