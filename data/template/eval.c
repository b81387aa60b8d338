// jinja_eval: runs the syntax tree: scopes, statements, expressions, calls of macros and built-in functions.
// Names are numbers (Node.sym): the outermost variables lie in an array, inner scopes are short lists searched from the
// inside out. Text that a statement captures grows at the end of the output and is cut off from there.
#include "jinja.h"

typedef enum { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE } Flow;

static Flow run(Render *r, const Nodes *body);
static Value eval_node(Render *r, const Node *n);

// ---- variables ----------------------------------------------------------------------------------------------------

static Scope *scope_new(Render *r, Scope *parent)
{
    Scope *s = render_take(r, 1, sizeof *s);
    *s = (Scope){.parent = parent};
    return s;
}

static void scope_set(Render *r, Scope *s, size_t sym, Value v)
{
    if (!s) {
        r->slots[sym] = v;
        return;
    }
    render_charge(r, s->n / 8);
    for (size_t i = 0; i < s->n; i++)
        if (s->vars[i].sym == sym) {
            s->vars[i].value = v;
            return;
        }
    if (s->n == s->cap) {
        Var *more = render_take(r, s->cap = s->cap ? 2 * s->cap : 2, sizeof *more);
        if (s->n) memcpy(more, s->vars, s->n * sizeof *more);
        s->vars = more;
    }
    s->vars[s->n++] = (Var){sym, v};
}

// What the caller of the template gave, else what every template has.
static Value resolve(Render *r, Value name)
{
    const cJSON *member;
    cJSON_ArrayForEach(member, r->vars)
        if (member->string && text_is(name, member->string)) return value_from_json(r, member);
    const Builtin *f = global_find(name);
    return f ? (Value){.kind = V_FUNCTION, .function = f} : undefined_name(r, name);
}

static Value variable(Render *r, size_t sym)
{
    size_t passed = 0;
    for (const Scope *s = r->scope; s; s = s->parent) {
        passed += 1 + s->n;
        for (size_t i = 0; i < s->n; i++) {
            if (s->vars[i].sym != sym) continue;
            render_charge(r, passed / 8);
            return s->vars[i].value;
        }
    }
    render_charge(r, passed / 8);
    if (r->slots[sym].kind == V_MISSING) r->slots[sym] = resolve(r, r->t->names[sym]);
    return r->slots[sym];
}

static void assign(Render *r, Scope *s, const Node *target, Value v)
{
    if (target->type == N_NAME) {
        scope_set(r, s, target->sym, v);
        return;
    }
    if (!is_seq(v) && v.kind != V_STRING && v.kind != V_DICT && v.kind != V_UNDEFINED)
        fail_run(r, "cannot unpack non-iterable %s object", type_name(v));
    const Seq *items = value_iterate(r, v);
    size_t want = target->kids.n;
    if (items->n < want) fail_run(r, "not enough values to unpack (expected %zu, got %zu)", want, items->n);
    if (items->n > want) fail_run(r, "too many values to unpack (expected %zu)", want);
    for (size_t i = 0; i < want; i++) assign(r, s, target->kids.v[i], items->items[i]);
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

static void args_add(Render *r, Args *a, Value v)
{
    Value *more = render_take(r, a->n + 1, sizeof *more);
    if (a->n) memcpy(more, a->v, a->n * sizeof *more);
    a->v = more;
    a->v[a->n++] = v;
}

static void args_add_named(Render *r, Args *a, Value name, Value v)
{
    Value *names = render_take(r, a->n_kw + 1, sizeof *names), *kw = render_take(r, a->n_kw + 1, sizeof *kw);
    if (a->n_kw) memcpy(names, a->names, a->n_kw * sizeof *names);
    if (a->n_kw) memcpy(kw, a->kw, a->n_kw * sizeof *kw);
    names[a->n_kw] = name;
    kw[a->n_kw++] = v;
    a->names = names;
    a->kw = kw;
}

static Args eval_args(Render *r, const CallArgs *c)
{
    Args a = {0};
    if (!c) return a;
    if (c->args.n) a.v = render_take(r, c->args.n, sizeof *a.v);
    if (c->kw.n) a.names = render_take(r, c->kw.n, sizeof *a.names);
    if (c->kw.n) a.kw = render_take(r, c->kw.n, sizeof *a.kw);
    for (; a.n < c->args.n; a.n++) a.v[a.n] = eval_node(r, c->args.v[a.n]);
    for (; a.n_kw < c->kw.n; a.n_kw++) {
        a.names[a.n_kw] = c->names.v[a.n_kw]->value;
        a.kw[a.n_kw] = eval_node(r, c->kw.v[a.n_kw]);
    }
    if (c->star) {
        const Seq *more = value_iterate(r, eval_node(r, c->star));
        for (size_t i = 0; i < more->n; i++) args_add(r, &a, more->items[i]);
    }
    if (c->star2) {
        Value more = eval_node(r, c->star2);
        if (more.kind != V_DICT) fail_run(r, "argument after ** must be a mapping, not %s", type_name(more));
        for (size_t i = 0; i < more.dict->n; i++) {
            if (more.dict->keys[i].kind != V_STRING) fail_run(r, "keywords must be strings");
            args_add_named(r, &a, more.dict->keys[i], more.dict->vals[i]);
        }
    }
    return a;
}

// The value of keyword `name`, taken out of the call's keywords; V_MISSING if there is none.
static Value args_pop(Args *a, Value name)
{
    for (size_t i = 0; i < a->n_kw; i++) {
        if (!text_same(a->names[i], name)) continue;
        Value v = a->kw[i];
        a->n_kw--;
        memmove(a->names + i, a->names + i + 1, (a->n_kw - i) * sizeof *a->names);
        memmove(a->kw + i, a->kw + i + 1, (a->n_kw - i) * sizeof *a->kw);
        return v;
    }
    return (Value){.kind = V_MISSING};
}

// Puts keywords where the parameter list has them, and refuses what it has not, in CPython's words.
static void bind_params(Render *r, const Builtin *f, Value self, Args *a)
{
    Value bound[12];
    size_t n = 0, n_optional = 0, n_missing = 0, mark = r->out->len;
    size_t hidden = (self.kind != V_MISSING) + (*f->params == '@');     // parameters that a template does not see
    for (const char *p = f->params + (*f->params == '@'); *p; p += *p == ' ') {
        size_t len = strcspn(p, "= ");
        bool optional = p[len] == '=';
        Value named = args_pop(a, v_str(p, len));
        if (n < a->n && named.kind != V_MISSING)
            fail_run(r, "%s() got multiple values for argument '%.*s'", f->py_name, (int)len, p);
        bound[n] = n < a->n ? a->v[n] : named;
        n_optional += optional;
        if (bound[n++].kind == V_MISSING && !optional && n_missing++ < 8) {
            out_text(r, n_missing > 1 ? " and '" : "'");
            out_add(r, p, len);
            out_text(r, "'");
        }
        p += len + optional;
    }
    size_t most = n + hidden, given = a->n + hidden;
    if (a->n_kw) fail_run(r, "%s() got an unexpected keyword argument %s", f->py_name, repr_text(r, a->names[0]));
    if (a->n > n && n_optional)
        fail_run(r, "%s() takes from %zu to %zu positional arguments but %zu were given", f->py_name,
                 most - n_optional, most, given);
    if (a->n > n)
        fail_run(r, "%s() takes %zu positional argument%s but %zu were given", f->py_name, most,
                 most == 1 ? "" : "s", given);
    if (n_missing)
        fail_run(r, "%s() missing %zu required positional argument%s: %s", f->py_name, n_missing,
                 n_missing == 1 ? "" : "s", value_chars(r, out_cut(r, mark)));
    a->v = render_take(r, n + 1, sizeof *a->v);
    memcpy(a->v, bound, n * sizeof *a->v);
    a->n = n;
}

Value call_builtin(Render *r, const Builtin *f, Value self, Args *a)
{
    render_charge(r, 1 + (self.kind == V_STRING ? self.len / 16 : 0));
    if (f->params) bind_params(r, f, self, a);
    return f->fn(r, self, a);
}

static void bind_macro(Render *r, const Macro *m, Scope *s, Args *a)
{
    const Signature *sig = m->node->signature;
    const char *name = m->name.kind == V_NONE ? "None" : repr_text(r, m->name);
    bool has_caller = false;
    for (size_t i = 0; i < sig->params.n; i++) {
        size_t sym = sig->params.v[i]->sym, n_required = sig->params.n - sig->defaults.n;
        Value param = r->t->names[sym];
        render_charge(r, 1 + a->n_kw / 8);
        Value v = i < a->n ? a->v[i] : args_pop(a, param);
        has_caller |= text_is(param, "caller");
        if (v.kind == V_MISSING && i >= n_required) v = eval_node(r, sig->defaults.v[i - n_required]);
        if (v.kind == V_MISSING) {
            size_t mark = r->out->len;
            out_text(r, "parameter ");
            value_repr(r, param);
            out_text(r, " was not provided");
            v = undefined_hint(r, value_chars(r, out_cut(r, mark)));
        }
        scope_set(r, s, sym, v);
    }
    if (sig->uses_caller && !has_caller) {
        Value caller = args_pop(a, v_text("caller"));
        scope_set(r, s, SYM_CALLER, is_given(caller) ? caller : undefined_hint(r, "No caller defined"));
    }
    if (sig->uses_kwargs) {
        Dict *d = dict_new(r, a->n_kw);
        for (size_t i = 0; i < a->n_kw; i++) dict_put(r, d, a->names[i], a->kw[i]);
        scope_set(r, s, SYM_KWARGS, v_dict(d));
    } else if (a->n_kw) {
        if (args_pop(a, v_text("caller")).kind != V_MISSING)
            fail_run(r, "macro %s was invoked with two values for the special caller argument. "
                        "This is most likely a bug.", name);
        fail_run(r, "macro %s takes no keyword argument %s", name, repr_text(r, a->names[0]));
    }
    if (sig->uses_varargs) {
        Seq *rest = seq_new(r, 0);
        for (size_t i = sig->params.n; i < a->n; i++) seq_add(r, rest, a->v[i]);
        scope_set(r, s, SYM_VARARGS, v_seq(V_TUPLE, rest));
    } else if (a->n > sig->params.n) {
        fail_run(r, "macro %s takes not more than %zu argument(s)", name, sig->params.n);
    }
}

static Value call_macro(Render *r, const Macro *m, Args *a)
{
    Scope *outer = r->scope;
    render_enter(r);
    r->scope = scope_new(r, m->scope);
    bind_macro(r, m, r->scope, a);
    size_t mark = capture_begin(r);
    run(r, &m->node->kids);
    r->scope = outer;
    r->depth--;
    return capture_end(r, mark);
}

static Flow run_loop(Render *r, const Node *n, Value items, Scope *outer, size_t depth0);

static Value call_value(Render *r, Value callee, Args *a)
{
    switch (callee.kind) {
    case V_FUNCTION: return call_builtin(r, callee.function, (Value){.kind = V_MISSING}, a);
    case V_METHOD: return call_builtin(r, callee.bound->method, callee.bound->self, a);
    case V_MACRO: return call_macro(r, callee.macro, a);
    case V_JOINER:
        if (callee.turns->at++ > 0) return callee.turns->first;
        return v_str("", 0);
    case V_LOOP: {
        if (!callee.loop->node->flag)
            fail_run(r, "The loop must have the 'recursive' marker to be called recursively.");
        if (a->n != 1) fail_run(r, "LoopContext.__call__() missing 1 required positional argument: 'iterable'");
        size_t mark = capture_begin(r);
        run_loop(r, callee.loop->node, a->v[0], callee.loop->outer, callee.loop->depth0 + 1);
        return capture_end(r, mark);
    }
    case V_UNDEFINED: fail_undefined(r, callee);
    default: fail_run(r, "'%s' object is not callable", type_name(callee));
    }
}

// ---- expressions --------------------------------------------------------------------------------------------------

static Value eval_call(Render *r, const Node *n, const Value *caller)
{
    Value callee = eval_node(r, n->a);
    Args a = eval_args(r, n->call);
    if (caller) args_add_named(r, &a, v_text("caller"), *caller);
    r->line = n->line;
    return call_value(r, callee, &a);
}

static Value eval_builtin(Render *r, const Node *n, Value self)
{
    if (!n->builtin)
        fail_run(r, "No %s named %s found.", n->type == N_FILTER ? "filter" : "test", repr_text(r, n->value));
    Args a = eval_args(r, n->call);
    r->line = n->line;
    return call_builtin(r, n->builtin, self, &a);
}

static Value eval_compare(Render *r, const Node *n)
{
    Value left = eval_node(r, n->a);
    for (size_t i = 0; i < n->kids.n; i++) {
        Value right = eval_node(r, n->kids.v[i]->a);
        r->line = n->line;
        if (!op_compare(r, n->kids.v[i]->op, left, right)) return v_bool(false);
        left = right;
    }
    return v_bool(true);
}

static Value eval_items(Render *r, const Node *n, Kind kind)
{
    Seq *s = seq_new(r, n->kids.n);
    for (size_t i = 0; i < n->kids.n; i++) seq_add(r, s, eval_node(r, n->kids.v[i]));
    return v_seq(kind, s);
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

static Value eval_concat(Render *r, const Node *n)
{
    Seq *parts = eval_items(r, n, V_LIST).seq;
    size_t mark = r->out->len;
    for (size_t i = 0; i < parts->n; i++) value_print(r, parts->items[i]);
    return out_cut(r, mark);
}

static Value eval_item(Render *r, const Node *n)
{
    Value obj = eval_node(r, n->a), none = v_none();
    const Node *key = n->b;
    if (key->type != N_SLICE) {
        Value k = eval_node(r, key);
        r->line = n->line;
        return value_item(r, obj, k);
    }
    Value from = key->a ? eval_node(r, key->a) : none, to = key->b ? eval_node(r, key->b) : none;
    Value step = key->c ? eval_node(r, key->c) : none;
    r->line = n->line;
    return value_slice(r, obj, from, to, step);
}

static Value eval_cond(Render *r, const Node *n)
{
    if (value_truth(r, eval_node(r, n->b))) return eval_node(r, n->a);
    if (n->c) return eval_node(r, n->c);
    size_t mark = r->out->len;
    out_text(r, "the inline if-expression on line ");
    out_int(r, (Int)n->line, 10, false);
    out_text(r, " evaluated to false and no else section was defined.");
    return undefined_hint(r, value_chars(r, out_cut(r, mark)));
}

static Value eval_inner(Render *r, const Node *n)
{
    switch (n->type) {
    case N_CONST: return n->value;
    case N_NAME: return variable(r, n->sym);
    case N_TUPLE: return eval_items(r, n, V_TUPLE);
    case N_LIST: return eval_items(r, n, V_LIST);
    case N_DICT: return eval_dict(r, n);
    case N_ATTR: {
        Value obj = eval_node(r, n->a);
        r->line = n->line;
        return value_attr(r, obj, n->value);
    }
    case N_ITEM: return eval_item(r, n);
    case N_CALL: return eval_call(r, n, NULL);
    case N_FILTER:
    case N_TEST: return eval_builtin(r, n, eval_node(r, n->a));
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
    case N_CONCAT: return eval_concat(r, n);
    case N_BINARY: {
        Value a = eval_node(r, n->a), b = eval_node(r, n->b);
        r->line = n->line;
        return op_binary(r, n->op, a, b);
    }
    default: fail_run(r, "a slice can only stand alone in a subscript");
    }
}

static Value eval_node(Render *r, const Node *n)
{
    render_charge(r, 1);
    if (n->type == N_CONST) return n->value;
    render_enter(r);
    Value v = eval_inner(r, n);
    r->depth--;
    return v;
}

// A body in a scope of its own.
static Flow run_scoped(Render *r, const Nodes *body, Scope *parent)
{
    Scope *outer = r->scope;
    r->scope = scope_new(r, parent);
    Flow flow = run(r, body);
    r->scope = outer;
    return flow;
}

// ---- loops --------------------------------------------------------------------------------------------------------

// Items are filtered one by one as the loop reaches them, because the body may change what the filter looks at.
bool loop_next(Render *r, Loop *loop, Value *item)
{
    if (loop->after.kind != V_MISSING) {
        *item = loop->after;
        loop->after.kind = V_MISSING;
        return true;
    }
    while (loop->pos < loop->items->n) {
        *item = loop->items->items[loop->pos++];
        if (!loop->filter) return true;
        Scope *scope = r->scope;
        r->scope = scope_new(r, loop->outer);
        assign(r, r->scope, loop->node->a, *item);
        bool take_it = value_truth(r, eval_node(r, loop->filter));
        r->scope = scope;
        if (take_it) return true;
    }
    return false;
}

// Asking a filtered loop for its length filters all the rest at once.
size_t loop_length(Render *r, Loop *loop)
{
    if (!loop->filter) return loop->items->n;
    Seq *all = seq_new(r, 0);
    for (size_t i = 0; i <= loop->index0; i++) seq_add(r, all, v_none());      // what is behind counts, too
    for (Value v; loop_next(r, loop, &v); ) seq_add(r, all, v);
    loop->items = all;
    loop->pos = loop->index0 + 1;
    loop->filter = NULL;
    return all->n;
}

static Flow run_loop(Render *r, const Node *n, Value items, Scope *outer, size_t depth0)
{
    Loop *loop = render_take(r, 1, sizeof *loop);
    *loop = (Loop){.node = n, .filter = n->c, .outer = outer, .items = value_iterate(r, items), .depth0 = depth0};
    Scope *scope = scope_new(r, outer), *before = r->scope;
    Value self = {.kind = V_LOOP, .loop = loop}, item;
    size_t count = 0, n_completed = 0;
    while (loop_next(r, loop, &item)) {
        loop->index0 = count++;
        loop->before = loop->current;
        loop->current = item;
        scope->n = 0;
        r->scope = scope;
        assign(r, scope, n->a, item);
        scope_set(r, scope, SYM_LOOP, self);
        Flow flow = run(r, &n->kids);
        n_completed += flow == FLOW_NEXT;
        if (flow == FLOW_BREAK) break;
    }
    r->scope = before;
    // As Jinja has it, else is for loops without a turn run to its end. A break in there is for the loop around.
    return n_completed == 0 && n->other.n ? run_scoped(r, &n->other, outer) : FLOW_NEXT;
}

// ---- statements ---------------------------------------------------------------------------------------------------

// The filters of {% filter %} and {% set x | ... %} over captured text; the innermost has no operand in the tree.
static Value filter_text(Render *r, const Node *n, Value text)
{
    if (!n) return text;
    render_enter(r);
    text = eval_builtin(r, n, filter_text(r, n->a, text));
    r->depth--;
    return text;
}

static Flow run_capture(Render *r, const Node *n)
{
    size_t mark = capture_begin(r);
    Flow flow = run_scoped(r, &n->kids, r->scope);
    Value text = capture_end(r, mark);
    if (flow != FLOW_NEXT) return flow;         // a break leaves the block, and its text, behind
    text = filter_text(r, n->b, text);
    if (n->type == N_FILTER_BLOCK) {
        value_print(r, text);
        return flow;
    }
    if (n->a->type == N_NAME || n->a->type == N_TUPLE) assign(r, r->scope, n->a, text);
    else {
        Value ns = variable(r, n->a->sym);
        if (ns.kind != V_NAMESPACE) fail_run(r, "cannot assign attribute on non-namespace object");
        dict_put(r, ns.dict, n->a->value, text);
    }
    return flow;
}

static void run_set(Render *r, const Node *n)
{
    if (n->a->type != N_NS_TARGET) {
        Value v = eval_node(r, n->b);
        r->line = n->line;
        assign(r, r->scope, n->a, v);
        return;
    }
    Value ns = variable(r, n->a->sym);
    if (ns.kind != V_NAMESPACE) fail_run(r, "cannot assign attribute on non-namespace object");
    dict_put(r, ns.dict, n->a->value, eval_node(r, n->b));
}

static Flow run_with(Render *r, const Node *n)
{
    Scope *s = scope_new(r, r->scope), *outer = r->scope;
    for (size_t i = 0; i < n->other.n; i++) assign(r, s, n->a->kids.v[i], eval_node(r, n->other.v[i]));
    r->scope = s;
    Flow flow = run(r, &n->kids);
    r->scope = outer;
    return flow;
}

static Value macro_value(Render *r, const Node *n, Value name)
{
    Macro *m = render_take(r, 1, sizeof *m);
    *m = (Macro){n, r->scope, name};
    return (Value){.kind = V_MACRO, .macro = m};
}

// transformers notes a block's place as the length of what the template has put out so far, and its length as that of
// the block's own text. A block inside something captured (a macro, a set block, another block) is thus placed where
// the capturing began. Until the text is finished, a span's end is its length in characters.
static void run_generation(Render *r, const Node *n)
{
    size_t mark = capture_begin(r);
    run_scoped(r, &n->kids, r->scope);
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
    case N_DATA: out_add(r, n->value.s, n->value.len); return FLOW_NEXT;
    case N_PRINT:
        for (size_t i = 0; i < n->kids.n; i++) value_print(r, eval_node(r, n->kids.v[i]));
        return FLOW_NEXT;
    case N_IF: return run_if(r, n);
    case N_FOR: {
        size_t begin = r->out->len;             // a loop that can call itself is captured, which only spans can tell
        Value items = eval_node(r, n->b);
        if (n->flag && r->n_captures == 0) r->capture_mark = begin;
        r->n_captures += n->flag;
        Flow flow = run_loop(r, n, items, r->scope, 0);
        r->n_captures -= n->flag;
        return flow;
    }
    case N_SET: run_set(r, n); return FLOW_NEXT;
    case N_SET_BLOCK:
    case N_FILTER_BLOCK: return run_capture(r, n);
    case N_WITH: return run_with(r, n);
    case N_MACRO: scope_set(r, r->scope, n->sym, macro_value(r, n, r->t->names[n->sym])); return FLOW_NEXT;
    case N_CALL_BLOCK: {
        Value caller = macro_value(r, n, v_none());
        value_print(r, eval_call(r, n->a, &caller));
        return FLOW_NEXT;
    }
    case N_GENERATION: run_generation(r, n); return FLOW_NEXT;
    case N_BLOCK: return run_scoped(r, &n->kids, n->flag ? r->scope : NULL);
    case N_BREAK: return FLOW_BREAK;
    case N_CONTINUE: return FLOW_CONTINUE;
    default: fail_run(r, "no loader for this environment specified");
    }
}

static Flow run(Render *r, const Nodes *body)
{
    Flow flow = FLOW_NEXT;
    render_enter(r);
    for (size_t i = 0; i < body->n && flow == FLOW_NEXT; i++) {
        render_charge(r, 1);
        r->line = body->v[i]->line;
        flow = run_statement(r, body->v[i]);
    }
    r->depth--;
    return flow;
}

void render_body(Render *r)
{
    r->slots = render_take(r, r->t->n_names + 1, sizeof *r->slots);
    memset(r->slots, 0, (r->t->n_names + 1) * sizeof *r->slots);
    size_t first_span = r->spans ? r->spans->n : 0;
    run(r, &r->t->body);
    buf_add(r->out, "", 0);                     // so that data is a string even if nothing was printed
    measure_spans(r, first_span);
}
