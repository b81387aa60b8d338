// jinja_eval: runs the syntax tree: scopes, statements, expressions, calls of macros and built-in functions.
// Names are numbers (Node.sym). Scopes are short lists of variables, searched from the inside out. Text that a
// statement captures grows at the end of the output and is cut off from there.
#include "jinja.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

typedef enum { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE } Flow;

static Flow run(Render *r, const Nodes *body);
static Value eval_node(Render *r, const Node *n);

// ---- variables ----------------------------------------------------------------------------------------------------

static Scope *scope_new(Render *r, Scope *parent) { return NEW(r, Scope, .parent = parent); }

static Value *scope_find(Render *r, const Scope *s, size_t sym)        // NULL if absent
{
    render_charge(r, 1 + s->n / 8);
    for (size_t i = 0; i < s->n; i++)
        if (s->vars[i].sym == sym) return &s->vars[i].value;
    return NULL;
}

static void scope_set(Render *r, Scope *s, size_t sym, Value v)
{
    Value *old = scope_find(r, s, sym);
    if (old) {
        *old = v;
        return;
    }
    s->vars = render_room(r, s->vars, s->n, &s->cap, sizeof *s->vars);
    s->vars[s->n++] = (Var){sym, v};
}

// A number prints as it was written: the item carries its text. Without a text (a value that no file wrote), whole
// numbers are ints.
static Value number_from_json(Render *r, const cJSON *json)
{
    const char *text = json->valuestring;
    double f = json->valuedouble;
    if (!text) return f == floor(f) && fabs(f) < 0x1p63 ? v_int((int64_t)f) : v_float(f);
    return strpbrk(text, ".eE") ? v_float(strtod(text, NULL)) : text_to_int(&r->arena, v_text(text));
}

static Value value_from_json(Render *r, const cJSON *json)
{
    const cJSON *part;
    if (cJSON_IsString(json)) return v_text(json->valuestring);
    if (cJSON_IsNumber(json)) return number_from_json(r, json);
    if (cJSON_IsBool(json)) return v_bool(cJSON_IsTrue(json));
    if (!cJSON_IsArray(json) && !cJSON_IsObject(json)) return v_none();
    render_enter(r);
    Value v = cJSON_IsArray(json) ? v_seq(V_LIST, seq_new(r, 0)) : v_dict(dict_new(r, 0));
    cJSON_ArrayForEach(part, json) {
        if (v.kind == V_LIST) seq_add(r, v.seq, value_from_json(r, part));
        else dict_put(r, v.dict, v_text(part->string), value_from_json(r, part));
    }
    r->depth--;
    return v;
}

// What the caller of the template gave, else what every template has.
static Value resolve(Render *r, Value name)
{
    const cJSON *member;
    cJSON_ArrayForEach(member, r->vars)
        if (member->string && text_is(name, member->string)) return value_from_json(r, member);
    const Builtin *row = global_find(name);
    return row ? function_new(r, row, name, v_missing()) : undefined_new(r, NULL, name, false);
}

static Value variable(Render *r, size_t sym)
{
    Scope *s = r->scope;
    Value *found;
    while (!(found = scope_find(r, s, sym)) && s->parent) s = s->parent;
    if (found) return *found;
    Value v = resolve(r, r->job.t->names[sym]);
    scope_set(r, s, sym, v);
    return v;
}

// The target of name = v, of a, b = v, or of namespace.name = v.
static void assign(Render *r, Scope *s, const Node *target, Value v)
{
    if (target->type == N_NAME) {
        scope_set(r, s, target->sym, v);
    } else if (target->type == N_NS_TARGET) {
        Value ns = variable(r, target->sym);
        if (ns.kind != V_NAMESPACE) fail_run(r, "only a namespace can be given a new attribute, not %s", type_name(ns));
        dict_put(r, ns.dict, target->value, v);
    } else {
        const Seq *items = value_iterate(r, v);
        size_t want = target->kids.n;
        if (items->n != want) fail_run(r, "%zu values cannot be given to %zu names", items->n, want);
        for (size_t i = 0; i < want; i++) assign(r, s, target->kids.v[i], items->items[i]);
    }
}

// ---- captured text ------------------------------------------------------------------------------------------------

static size_t capture_begin(Render *r)
{
    if (r->n_captures++ == 0) r->capture_mark = r->out->len;
    return r->out->len;
}

static Value capture_end(Render *r, size_t mark)
{
    r->n_captures--;
    return out_cut(r, mark);
}

// ---- calls --------------------------------------------------------------------------------------------------------

static Seq *eval_all(Render *r, const Nodes *nodes)
{
    Seq *s = seq_new(r, nodes->n);
    for (size_t i = 0; i < nodes->n; i++) seq_add(r, s, eval_node(r, nodes->v[i]));
    return s;
}

static Args eval_args(Render *r, const CallArgs *c)
{
    if (!c) return (Args){0};
    Seq *v = eval_all(r, &c->args);
    Dict *named = dict_new(r, c->kw.n), *options = &(Dict){0};
    for (size_t i = 0; i < c->kw.n; i++) dict_put(r, named, c->names.v[i]->value, eval_node(r, c->kw.v[i]));
    const Seq *more = c->star ? value_iterate(r, eval_node(r, c->star)) : NULL;
    for (size_t i = 0; more && i < more->n; i++) seq_add(r, v, more->items[i]);
    if (c->star2) {
        Value v2 = eval_node(r, c->star2);
        need_kind(r, v2, SET(V_DICT), "'**'");
        options = v2.dict;
    }
    for (size_t i = 0; i < options->keys.n; i++) {
        need_kind(r, options->keys.items[i], SET(V_STRING), "'**'");
        dict_put(r, named, options->keys.items[i], options->vals.items[i]);
    }
    if (named->keys.n != c->kw.n + options->keys.n) fail_run(r, "a call gives the same argument twice");
    return (Args){.v = v->items, .n = v->n, .kw = *named};
}

// Parameters that the call leaves out have their default, or are undefined.
static void bind_macro(Render *r, const Macro *m, Scope *s, Args *a)
{
    const CallArgs *sig = m->node->call;
    size_t n_required = sig->args.n - sig->kw.n;
    for (size_t i = 0; i < sig->args.n; i++) {
        size_t sym = sig->args.v[i]->sym;
        Value param = r->job.t->names[sym], v = args_take(a, i, param);
        render_charge(r, 1 + a->kw.keys.n / 8);
        if (v.kind == V_MISSING)
            v = i < n_required ? undefined_new(r, NULL, param, false) : eval_node(r, sig->kw.v[i - n_required]);
        scope_set(r, s, sym, v);
    }
    args_end(r, a, sig->args.n, m->name);
}

static Value call_macro(Render *r, const Macro *m, Args *a)
{
    Scope *outer = r->scope;
    r->scope = scope_new(r, m->scope);
    bind_macro(r, m, r->scope, a);
    size_t mark = capture_begin(r);
    run(r, &m->node->kids);
    r->scope = outer;
    return capture_end(r, mark);
}

// ---- expressions --------------------------------------------------------------------------------------------------

static Value eval_call(Render *r, const Node *n)
{
    Value callee = eval_node(r, n->a);
    Args a = eval_args(r, n->call);
    if (callee.kind == V_MACRO) return call_macro(r, callee.macro, &a);
    need_kind(r, callee, SET(V_FUNCTION), "a call");
    return call_builtin(r, callee.bound, &a);
}

static Value eval_builtin(Render *r, const Node *n, Value v)
{
    const char *what = n->type == N_FILTER ? "filter" : "test";
    if (!n->builtin) fail_run(r, "No %s named '%s'.", what, value_chars(r, n->value));
    Args a = eval_args(r, n->call);
    return call_builtin(r, &(Bound){n->builtin, n->value, v}, &a);
}

static Value eval_compare(Render *r, const Node *n)
{
    Value left = eval_node(r, n->kids.v[0]);
    for (size_t i = 1; i < n->kids.n; i++) {
        Value right = eval_node(r, n->kids.v[i]);
        if (!op_compare(r, n->other.v[i - 1]->op, left, right)) return v_bool(false);
        left = right;
    }
    return v_bool(true);
}

static Value eval_dict(Render *r, const Node *n)
{
    Dict *d = dict_new(r, n->kids.n);
    for (size_t i = 0; i < n->kids.n; i++) {
        Value key = eval_node(r, n->kids.v[i]);
        dict_put(r, d, key, eval_node(r, n->other.v[i]));
    }
    return v_dict(d);
}

static Value eval_item(Render *r, const Node *n)
{
    Value obj = eval_node(r, n->a), none = v_none();
    const Node *key = n->b;
    if (key->type != N_SLICE) return value_item(r, obj, eval_node(r, key));
    Value from = key->a ? eval_node(r, key->a) : none, to = key->b ? eval_node(r, key->b) : none;
    Value step = key->c ? eval_node(r, key->c) : none;
    return value_slice(r, obj, from, to, step);
}

static Value eval_cond(Render *r, const Node *n)
{
    if (value_truth(r, eval_node(r, n->b))) return eval_node(r, n->a);
    if (n->c) return eval_node(r, n->c);
    return undefined_new(r, "an if without else", v_text("value"), false);
}

static Value eval_inner(Render *r, const Node *n)
{
    switch (n->type) {
    case N_NAME: return variable(r, n->sym);
    case N_TUPLE: return v_seq(V_TUPLE, eval_all(r, &n->kids));
    case N_LIST: return v_seq(V_LIST, eval_all(r, &n->kids));
    case N_DICT: return eval_dict(r, n);
    case N_ATTR: return value_attr(r, eval_node(r, n->a), n->b->value);
    case N_ITEM: return eval_item(r, n);
    case N_CALL: return eval_call(r, n);
    case N_FILTER:
    case N_TEST: return eval_builtin(r, n, n->a ? eval_node(r, n->a) : r->captured);
    case N_NOT: return v_bool(!value_truth(r, eval_node(r, n->a)));
    case N_NEG:
    case N_POS: return op_negate(r, eval_node(r, n->a), n->type == N_NEG);
    case N_AND:
    case N_OR: {
        Value left = eval_node(r, n->a);
        return value_truth(r, left) == (n->type == N_OR) ? left : eval_node(r, n->b);
    }
    case N_COND: return eval_cond(r, n);
    case N_COMPARE: return eval_compare(r, n);
    case N_CONCAT: return str_join(r, v_text(""), eval_all(r, &n->kids));
    default: break;
    }
    assert(n->type == N_BINARY);
    Value a = eval_node(r, n->a), b = eval_node(r, n->b);
    return op_binary(r, n->op, a, b);
}

static Value eval_node(Render *r, const Node *n)
{
    render_charge(r, 1);
    if (n->type == N_CONST) return n->value;
    size_t outer = r->at;
    render_enter(r);
    r->at = n->at;
    Value v = eval_inner(r, n);
    r->at = outer;
    r->depth--;
    return v;
}

static Flow run_in(Render *r, Scope *scope, const Nodes *body)
{
    Scope *outer = r->scope;
    r->scope = scope;
    Flow flow = run(r, body);
    r->scope = outer;
    return flow;
}

// ---- loops --------------------------------------------------------------------------------------------------------

// The items that the loop's own `if` lets through. All are asked before the first turn; Jinja2 asks one by one.
static const Seq *loop_items(Render *r, const Node *n)
{
    const Seq *all = value_iterate(r, eval_node(r, n->b));
    if (!n->c) return all;
    Seq *some = seq_new(r, 0);
    Scope *outer = r->scope;
    for (size_t i = 0; i < all->n; i++) {
        r->scope = scope_new(r, outer);
        assign(r, r->scope, n->a, all->items[i]);
        if (value_truth(r, eval_node(r, n->c))) seq_add(r, some, all->items[i]);
    }
    r->scope = outer;
    return some;
}

static Flow run_for(Render *r, const Node *n)
{
    Loop *loop = NEW(r, Loop, .items = loop_items(r, n));
    Scope *scope = scope_new(r, r->scope);
    size_t n_completed = 0;
    for (size_t i = 0; i < loop->items->n; i++) {
        loop->index0 = i;
        scope->n = 0;
        assign(r, scope, n->a, loop->items->items[i]);
        scope_set(r, scope, SYM_LOOP, (Value){.kind = V_LOOP, .loop = loop});
        Flow flow = run_in(r, scope, &n->kids);
        n_completed += flow == FLOW_NEXT;
        if (flow == FLOW_BREAK) break;
    }
    // As Jinja has it, else is for loops without a turn run to its end. A break in there is for the loop around.
    return n_completed == 0 && n->other.n ? run_in(r, scope_new(r, r->scope), &n->other) : FLOW_NEXT;
}

// ---- statements ---------------------------------------------------------------------------------------------------

static Flow run_capture(Render *r, const Node *n)
{
    size_t mark = capture_begin(r);
    Flow flow = run_in(r, scope_new(r, r->scope), &n->kids);
    Value text = capture_end(r, mark);
    if (flow != FLOW_NEXT) return flow;         // a break leaves the block, and its text, behind
    r->captured = text;
    if (n->b) text = eval_node(r, n->b);        // the innermost of the filters takes r->captured
    if (n->type == N_FILTER_BLOCK) value_print(r, text);
    else assign(r, r->scope, n->a, text);
    return flow;
}

static Flow run_with(Render *r, const Node *n)
{
    Scope *s = scope_new(r, r->scope);
    for (size_t i = 0; i < n->other.n; i++) assign(r, s, n->a->kids.v[i], eval_node(r, n->other.v[i]));
    return run_in(r, s, &n->kids);
}

static void run_macro(Render *r, const Node *n)
{
    const Macro *m = NEW(r, Macro, n, r->scope, r->job.t->names[n->sym]);
    scope_set(r, r->scope, n->sym, (Value){.kind = V_MACRO, .macro = m});
}

// transformers notes a block's place as the length of what the template has put out so far, and its length as that of
// the block's own text. A block inside something captured (a macro, a set block, another block) is thus placed where
// the capturing began. Until the text is finished, a span's end is its length in characters.
static void run_generation(Render *r, const Node *n)
{
    size_t mark = capture_begin(r);
    run_in(r, scope_new(r, r->scope), &n->kids);
    r->n_captures--;
    if (!r->spans) return;
    size_t begin = (r->n_captures ? r->capture_mark : mark) - r->base;
    ARRAY_ROOM(r->spans->spans, r->spans->n, r->spans->cap);
    r->spans->spans[r->spans->n++] = (Span){begin, str_count(v_str(r->out->data + mark, r->out->len - mark))};
}

// Spans end where they have as many characters of the finished text as their block printed, or where the text ends.
static void measure_spans(Render *r, size_t first)
{
    size_t len = r->out->len - r->base;
    for (size_t i = first; r->spans && i < r->spans->n; i++) {
        Span *s = &r->spans->spans[i];
        if (s->begin > len) s->begin = len;
        s->end = s->begin + str_slice(v_str(r->out->data + r->base + s->begin, len - s->begin), 0, s->end).len;
    }
}

static Flow run_if(Render *r, const Node *n)
{
    for (size_t i = 0; i < n->kids.n; i++)
        if (value_truth(r, eval_node(r, n->kids.v[i]->a))) return run(r, &n->kids.v[i]->kids);
    return run(r, &n->other);
}

static Flow run_statement(Render *r, const Node *n)
{
    switch (n->type) {
    case N_PRINT: value_print(r, eval_node(r, n->a)); return FLOW_NEXT;
    case N_IF: return run_if(r, n);
    case N_FOR: return run_for(r, n);
    case N_SET: assign(r, r->scope, n->a, eval_node(r, n->b)); return FLOW_NEXT;
    case N_SET_BLOCK:
    case N_FILTER_BLOCK: return run_capture(r, n);
    case N_WITH: return run_with(r, n);
    case N_MACRO: run_macro(r, n); return FLOW_NEXT;
    case N_GENERATION: run_generation(r, n); return FLOW_NEXT;
    default: return n->type == N_BREAK ? FLOW_BREAK : FLOW_CONTINUE;
    }
}

static Flow run(Render *r, const Nodes *body)
{
    Flow flow = FLOW_NEXT;
    size_t outer = r->at;
    render_enter(r);
    for (size_t i = 0; i < body->n && flow == FLOW_NEXT; i++) {
        render_charge(r, 1);
        r->at = body->v[i]->at;
        flow = run_statement(r, body->v[i]);
    }
    r->at = outer;
    r->depth--;
    return flow;
}

void render_body(Render *r)
{
    r->scope = scope_new(r, NULL);
    size_t first_span = r->spans ? r->spans->n : 0;
    buf_add(r->out, "", 0);                     // so that data is a string, and not NULL, from here on
    run(r, &r->job.t->body);
    r->out->data[r->out->len] = 0;
    measure_spans(r, first_span);
}
