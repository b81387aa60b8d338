// jinja_parse: tokens -> statements; a template is a list of them. Expressions are jinja_expr's.
// Knows the tags, what closes them, and what Jinja says when they do not match.
#include "parse.h"

#include <assert.h>

static _Noreturn void fail_tags(Parser *p, const Value *unknown, size_t at)
{
    Buf b = {0};
    if (unknown) buf_addf(&b, "Encountered unknown tag '%.*s'.", (int)unknown->len, unknown->s);
    else buf_adds(&b, "Unexpected end of template.");
    bool misplaced = false;
    for (size_t i = 0; i < p->n_ends && unknown; i++)
        for (const char *const *end = p->ends[i]; *end; end++) misplaced |= text_is(*unknown, *end);
    if (p->n_ends) {
        buf_adds(&b, misplaced ? " You probably made a nesting mistake. Jinja is expecting this tag, but currently "
                                 "looking for " : " Jinja was looking for the following tags: ");
        for (const char *const *end = p->ends[p->n_ends - 1]; *end; end++)
            buf_addf(&b, "'%s'%s", *end, end[1] ? " or " : ".");
    }
    if (p->n_tags) {
        Value tag = p->tags[p->n_tags - 1];
        buf_addf(&b, " The innermost block that needs to be closed is '%.*s'.", (int)tag.len, tag.s);
    }
    char why[1024];
    snprintf(why, sizeof why, "%s", b.data);
    buf_free(&b);
    fail_syntax(p->lex, at, "%s", why);
}

static Node *parse_statement(Parser *p);

// Up to a tag of `ends`, whose name is then the current token; to the end of the template if `ends` is NULL.
static Nodes parse_nodes(Parser *p, const char *const *ends)
{
    Nodes body = {0};
    if (ends) p->ends[p->n_ends++] = ends;
    while (p->tok.type != T_EOF) {
        Token t = token_next(p);
        if (t.type == T_DATA) {
            Node *n = node_new(p, N_DATA, t.at);
            n->value = t.value;
            nodes_add(p, &body, n);
        } else if (t.type == T_PRINT_BEGIN) {
            Node *n = node_new(p, N_PRINT, t.at);
            nodes_add(p, &n->kids, parse_tuple(p, false, true, false));
            nodes_add(p, &body, n);
            token_expect(p, T_PRINT_END);
        } else {
            assert(t.type == T_BLOCK_BEGIN);
            for (const char *const *end = ends; end && *end; end++)
                if (at_name(p, *end)) {
                    p->n_ends--;
                    return body;
                }
            nodes_add(p, &body, parse_statement(p));
            token_expect(p, T_BLOCK_END);
        }
    }
    if (ends) fail_tags(p, NULL, p->tok.at);
    return body;
}

static Nodes parse_body(Parser *p, const char *const *ends)
{
    token_skip(p, T_COLON);
    token_expect(p, T_BLOCK_END);
    return parse_nodes(p, ends);
}

// A body that Jinja makes a scope of its own, where unknown filters are errors again, with its closing tag.
static Nodes parse_inner(Parser *p, const char *const *ends)
{
    bool was_soft = p->soft;
    p->soft = false;
    Nodes body = parse_body(p, ends);
    p->soft = was_soft;
    token_next(p);
    return body;
}

// The body of a macro, which a break cannot leave.
static Nodes parse_macro_body(Parser *p, Signature *s, const char *const *ends)
{
    bool caller = p->saw_caller, kwargs = p->saw_kwargs, varargs = p->saw_varargs;
    size_t loop_depth = p->loop_depth;
    p->loop_depth = 0;
    p->saw_caller = p->saw_kwargs = p->saw_varargs = false;
    Nodes body = parse_inner(p, ends);
    if (s) {
        s->uses_caller = p->saw_caller;
        s->uses_kwargs = p->saw_kwargs;
        s->uses_varargs = p->saw_varargs;
    }
    p->saw_caller |= caller;
    p->saw_kwargs |= kwargs;
    p->saw_varargs |= varargs;
    p->loop_depth = loop_depth;
    return body;
}

static void check_target(Parser *p, const Node *n, size_t at, const char *whole)
{
    static const char *const kinds[] = {[N_CONST] = "const", [N_LIST] = "list", [N_DICT] = "dict", [N_TUPLE] = "tuple"};
    for (size_t i = 0; n->type == N_TUPLE && i < n->kids.n; i++)
        check_target(p, n->kids.v[i], at, whole ? whole : "tuple");
    if (n->type == N_NAME || n->type == N_TUPLE) return;
    bool known = n->type == N_CONST || n->type == N_LIST || n->type == N_DICT;
    fail_syntax(p->lex, at, "can't assign to '%s'", whole ? whole : known ? kinds[n->type] : "expression");
}

static Node *parse_target(Parser *p)
{
    size_t at = p->tok.at;
    Node *n = parse_tuple(p, true, true, false);
    check_target(p, n, at, NULL);
    return n;
}

static Node *parse_name(Parser *p)
{
    Token t = token_expect(p, T_NAME);
    Node *n = node_new(p, N_NAME, t.at);
    n->sym = symbol_of(p, t.value);
    return n;
}

static Node *parse_set(Parser *p, size_t at)
{
    static const char *const ends[] = {"endset", NULL};
    Node *n = node_new(p, N_SET, at);
    if (token_ahead(p)->type == T_DOT) {
        n->a = parse_name(p);
        n->a->type = N_NS_TARGET;
        token_next(p);
        n->a->value = token_expect(p, T_NAME).value;
    } else {
        n->a = parse_target(p);
    }
    if (token_skip(p, T_ASSIGN)) {
        n->b = parse_tuple(p, false, true, false);
        return n;
    }
    n->type = N_SET_BLOCK;
    n->b = parse_filter(p, NULL, false);
    n->kids = parse_inner(p, ends);
    return n;
}

static Node *parse_for(Parser *p, size_t at)
{
    static const char *const ends[] = {"endfor", "else", NULL}, *const else_ends[] = {"endfor", NULL};
    Node *n = node_new(p, N_FOR, at);
    n->a = parse_target(p);
    name_expect(p, "in");
    n->b = parse_tuple(p, false, false, false);
    bool was_soft = p->soft;
    p->soft = false;
    if (name_skip(p, "if")) n->c = parse_expression(p);
    n->flag = name_skip(p, "recursive");
    p->loop_depth++;
    n->kids = parse_body(p, ends);
    p->loop_depth--;
    if (text_is(token_next(p).value, "else")) {
        n->other = parse_body(p, else_ends);
        token_next(p);
    }
    p->soft = was_soft;
    return n;
}

// kids: one N_GROUP per condition, with its body; other: else.
static Node *parse_if(Parser *p, size_t at)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL}, *const else_ends[] = {"endif", NULL};
    Node *n = node_new(p, N_IF, at);
    bool was_soft = p->soft;
    p->soft = true;
    for (;;) {
        Node *branch = node_with(p, N_GROUP, p->tok.at, parse_tuple(p, false, false, false), NULL);
        branch->kids = parse_body(p, ends);
        nodes_add(p, &n->kids, branch);
        Token t = token_next(p);
        if (token_is(&t, "elif")) continue;
        if (token_is(&t, "else")) {
            n->other = parse_body(p, else_ends);
            token_next(p);
        }
        p->soft = was_soft;
        return n;
    }
}

static Node *parse_with(Parser *p, size_t at)
{
    static const char *const ends[] = {"endwith", NULL};
    Node *n = node_new(p, N_WITH, at);
    Nodes targets = {0};
    while (p->tok.type != T_BLOCK_END) {
        if (targets.n) token_expect(p, T_COMMA);
        nodes_add(p, &targets, parse_target(p));
        token_expect(p, T_ASSIGN);
        nodes_add(p, &n->other, parse_expression(p));
    }
    n->a = node_new(p, N_TUPLE, at);
    n->a->kids = targets;
    n->kids = parse_inner(p, ends);
    return n;
}

static void parse_signature(Parser *p, Signature *s)
{
    token_expect(p, T_LPAREN);
    while (p->tok.type != T_RPAREN) {
        if (s->params.n) token_expect(p, T_COMMA);
        Node *param = parse_name(p);
        for (size_t i = 0; i < s->params.n; i++)
            if (s->params.v[i]->sym == param->sym)
                fail_syntax(p->lex, p->tok.at, "duplicate argument '%.*s' in function definition",
                            (int)p->t->names[param->sym].len, p->t->names[param->sym].s);
        if (token_skip(p, T_ASSIGN)) nodes_add(p, &s->defaults, parse_expression(p));
        else if (s->defaults.n) fail_syntax(p->lex, p->tok.at, "non-default argument follows default argument");
        nodes_add(p, &s->params, param);
    }
    token_expect(p, T_RPAREN);
}

static void check_caller(Parser *p, const Signature *s, size_t at)
{
    for (size_t i = 0; s->uses_caller && i + s->defaults.n < s->params.n; i++)
        if (text_is(p->t->names[s->params.v[i]->sym], "caller"))
            fail_syntax(p->lex, at, "When defining macros or call blocks the special \"caller\" argument must be "
                                    "omitted or be given a default.");
}

static Node *macro_new(Parser *p, NodeType type, size_t at)
{
    Node *n = node_new(p, type, at);
    n->signature = arena_take(&p->t->arena, sizeof *n->signature);
    *n->signature = (Signature){0};
    return n;
}

static Node *parse_macro(Parser *p, size_t at)
{
    static const char *const ends[] = {"endmacro", NULL};
    Node *n = macro_new(p, N_MACRO, at);
    n->sym = parse_name(p)->sym;
    parse_signature(p, n->signature);
    n->kids = parse_macro_body(p, n->signature, ends);
    check_caller(p, n->signature, at);
    return n;
}

static Node *parse_call_block(Parser *p, size_t at)
{
    static const char *const ends[] = {"endcall", NULL};
    Node *n = macro_new(p, N_CALL_BLOCK, at);
    if (p->tok.type == T_LPAREN) parse_signature(p, n->signature);
    n->a = parse_expression(p);
    if (n->a->type != N_CALL) fail_syntax(p->lex, at, "expected call");
    n->kids = parse_macro_body(p, n->signature, ends);
    check_caller(p, n->signature, at);
    return n;
}

static Node *parse_filter_block(Parser *p, size_t at)
{
    static const char *const ends[] = {"endfilter", NULL};
    Node *n = node_new(p, N_FILTER_BLOCK, at);
    n->b = parse_filter(p, NULL, true);
    n->kids = parse_inner(p, ends);
    return n;
}

static Node *parse_generation(Parser *p, size_t at)
{
    static const char *const ends[] = {"endgeneration", NULL};
    Node *n = node_new(p, N_GENERATION, at);
    p->t->has_generation = true;
    n->kids = parse_macro_body(p, NULL, ends);
    return n;
}

// There is no template to inherit from here, so that a block is just its body, seeing the outermost variables.
static Node *parse_block(Parser *p, size_t at)
{
    static const char *const ends[] = {"endblock", NULL};
    Node *n = node_new(p, N_BLOCK, at);
    Value name = token_expect(p, T_NAME).value;
    n->sym = symbol_of(p, name);
    n->flag = name_skip(p, "scoped");
    for (size_t i = 0; i < p->blocks.n; i++)
        if (p->blocks.v[i]->sym == n->sym) fail_syntax(p->lex, at, "block '%.*s' defined twice", (int)name.len, name.s);
    nodes_add(p, &p->blocks, n);
    n->kids = parse_macro_body(p, NULL, ends);
    if (p->tok.type == T_NAME && symbol_of(p, p->tok.value) == n->sym) token_next(p);
    return n;
}

static Node *parse_print(Parser *p, size_t at)
{
    Node *n = node_new(p, N_PRINT, at);
    while (p->tok.type != T_BLOCK_END) {
        if (n->kids.n) token_expect(p, T_COMMA);
        nodes_add(p, &n->kids, parse_expression(p));
    }
    return n;
}

// include, import, from, extends: Jinja accepts them and then has no loader to find the other template with.
static Node *parse_loader(Parser *p, size_t at)
{
    parse_expression(p);
    while (p->tok.type == T_NAME || p->tok.type == T_COMMA) token_next(p);
    return node_new(p, N_LOADER, at);
}

static Node *parse_jump(Parser *p, size_t at, NodeType type)
{
    if (p->loop_depth == 0)
        fail_syntax(p->lex, at, type == N_BREAK ? "'break' outside loop" : "'continue' not properly in loop");
    return node_new(p, type, at);
}

static Node *parse_break(Parser *p, size_t at) { return parse_jump(p, at, N_BREAK); }
static Node *parse_continue(Parser *p, size_t at) { return parse_jump(p, at, N_CONTINUE); }

static Node *parse_statement(Parser *p)
{
    static const struct { const char *tag; Node *(*parse)(Parser *p, size_t at); } statements[] = {
        {"if", parse_if}, {"for", parse_for}, {"set", parse_set}, {"macro", parse_macro}, {"call", parse_call_block},
        {"with", parse_with}, {"filter", parse_filter_block}, {"generation", parse_generation}, {"break", parse_break},
        {"continue", parse_continue}, {"print", parse_print}, {"block", parse_block}, {"include", parse_loader},
        {"import", parse_loader}, {"from", parse_loader}, {"extends", parse_loader},
    };
    Token t = p->tok;
    if (t.type != T_NAME) fail_syntax(p->lex, t.at, "tag name expected");
    if (text_is(t.value, "autoescape")) fail_syntax(p->lex, t.at, "'autoescape' has no use here: output is plain text");
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        if (!token_is(&t, statements[i].tag)) continue;
        parse_deeper(p);
        p->tags[p->n_tags++] = t.value;
        token_next(p);
        Node *n = statements[i].parse(p, t.at);
        p->n_tags--;
        p->depth--;
        return n;
    }
    fail_tags(p, &t.value, t.at);
}

void parse_template(Template *t, Lexer *x)
{
    static const char *const first_names[] = {
        [SYM_LOOP] = "loop", [SYM_CALLER] = "caller", [SYM_KWARGS] = "kwargs", [SYM_VARARGS] = "varargs",
    };
    Parser p = {.lex = x, .t = t};
    for (size_t i = 0; i <= SYM_VARARGS; i++) symbol_of(&p, v_text(first_names[i]));
    token_next(&p);
    t->body = parse_nodes(&p, NULL);
    if (p.unknown.n == 0) return;
    const Node *n = p.unknown.v[0];
    fail_syntax(x, n->sym, "No %s named '%.*s'.", n->type == N_FILTER ? "filter" : "test", (int)n->value.len,
                n->value.s);
}
