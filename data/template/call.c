// jinja_call: finding a builtin by its name, and putting the arguments of a call where its parameters are.
#include "jinja.h"

bool has_word(const char *words, Value name)
{
    for (const char *p = words; name.len > 0; p++) {
        if (*p == *name.s && strcspn(p, " ") == name.len && memcmp(p, name.s, name.len) == 0) return true;
        if (!(p = strchr(p, ' '))) break;
    }
    return false;
}

const Builtin *row_find(const Builtin *rows, uint32_t of, Value name)
{
    for (; rows->name; rows++)
        if ((rows->of & of) && has_word(rows->name, name)) return rows;
    return NULL;
}

Value args_pop(Args *a, Value name)
{
    for (size_t i = 0; i < a->kw.keys.n; i++) {
        if (!text_same(a->kw.keys.items[i], name)) continue;
        seq_remove(&a->kw.keys, i);
        return seq_remove(&a->kw.vals, i);
    }
    return v_missing();
}

Value args_take(Args *a, size_t i, Value name) { return i < a->n ? a->v[i] : args_pop(a, name); }

void args_end(Render *r, const Args *a, size_t n, Value callee)
{
    if (a->n > n) fail_run(r, "'%s' takes at most %zu arguments, but got %zu", value_chars(r, callee), n, a->n);
    if (a->kw.keys.n == 0) return;
    fail_run(r, "'%s' takes no argument '%s' here", value_chars(r, callee), value_chars(r, a->kw.keys.items[0]));
}

// Afterwards v[i] is the argument for the i-th parameter of the row, V_MISSING if it was left out.
static void bind_params(Render *r, const Bound *b, Args *a)
{
    Value *bound = render_take(r, 8, sizeof *bound);
    size_t n = 0;
    for (const char *p = b->row->params; *p; p += *p == ' ') {
        size_t len = strcspn(p, " ");
        bound[n] = args_take(a, n, v_str(p, len));
        if (bound[n++].kind == V_MISSING && n <= b->row->need)
            fail_run(r, "'%s' needs the argument '%.*s'", value_chars(r, b->name), (int)len, p);
        p += len;
    }
    args_end(r, a, n, b->name);
    a->v = bound;
    a->n = n;
}

Value function_new(Render *r, const Builtin *row, Value name, Value v)
{
    return (Value){.kind = V_FUNCTION, .bound = NEW(r, Bound, row, name, v)};
}

Value call_builtin(Render *r, const Bound *b, Args *a)
{
    const Builtin *row = b->row;
    const char *what = row->of & FILTER ? "filter" : row->of & TEST ? "test" : row->of & GLOBAL ? "function" : "method";
    if (!row->fn) fail_run(r, "the %s '%s' " NOT_HERE, what, value_chars(r, b->name));
    render_charge(r, 1 + (b->v.kind == V_STRING ? b->v.len / 16 : 0));
    if (row->params) bind_params(r, b, a);
    a->how = row->how;
    return row->fn(r, b->v, a);
}
