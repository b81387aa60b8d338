// jinja_parse: tokens -> statements; a template is a list of them. Expressions are jinja_expr's.
// Knows the tags and what closes them.
#include "parse.h"

#include <assert.h>

static Node *parse_statement(Parser *p);

// Up to a tag of `ends` (words), whose name is then the current token; to the end of the template if `ends` is NULL.
static Nodes parse_nodes(Parser *p, const char *ends)
{
    Nodes body = {0};
    while (p->tok.type != T_EOF) {
        Token t = token_next(p);
        if (t.type == T_DATA) {
            Node *n = node_new(p, N_DATA, t.at, NULL, NULL);
            n->value = t.value;
            nodes_add(p, &body, n);
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
