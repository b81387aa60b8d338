// jinja_filter: Jinja's filters apart from those that make text. Filters that are generators in Python give a V_ITER:
// always true, without a length, and empty once it was read; but they do all their work at once.
#include "jinja.h"

#include <math.h>

// ---- attributes of items ------------------------------------------------------------------------------------------

// A path such as "a.0.b": each part is a key, or a number if it is all digits.
static Value path_get(Render *r, Value item, Value path, Value otherwise)
{
    if (!is_a(path, GIVEN)) return item;
    const Seq one = {.items = &path, .n = 1}, *parts = &one;
    if (path.kind == V_STRING) parts = str_split(r, path, v_text("."), -1, false);
    for (size_t i = 0; i < parts->n; i++) {
        Value part = parts->items[i];
        bool digits = part.kind == V_STRING && part.len > 0 && part.s[0] >= '0' && part.s[0] <= '9';
        Value number = digits ? text_to_int(&r->arena, part) : v_missing();
        item = value_item(r, item, number.kind == V_MISSING ? part : number);
        if (item.kind == V_UNDEFINED && is_a(otherwise, GIVEN)) item = otherwise;
    }
    return item;
}

// The sort key of an item: what is at the path, in small letters unless case matters. "a,b" are two paths.
static Value sort_key(Render *r, Value item, Value path, bool cased)
{
    if (path.kind == V_STRING && memchr(path.s, ',', path.len)) {
        Seq *all = str_split(r, path, v_text(","), -1, false);
        for (size_t i = 0; i < all->n; i++) all->items[i] = sort_key(r, item, all->items[i], cased);
        return v_seq(V_LIST, all);
    }
    item = path_get(r, item, path, v_none());
    return item.kind == V_STRING && !cased ? str_case(r, item, CASE_LOWER) : item;
}

static Value sort_by(Render *r, Seq *s, Value path, Value cased, Value reverse)
{
    Value *keys = render_take(r, s->n, sizeof *keys);
    for (size_t i = 0; i < s->n; i++) keys[i] = sort_key(r, s->items[i], path, value_truth_or(r, cased, false));
    sort_values(r, s->items, keys, s->n, value_truth_or(r, reverse, false));
    return v_seq(V_LIST, s);
}

BUILTIN(sort) { return sort_by(r, seq_copy(r, value_iterate(r, v)), a->v[2], a->v[1], a->v[0]); }

BUILTIN(dictsort)
{
    Value by = a->v[1].kind == V_MISSING ? v_text("key") : a->v[1];
    bool by_key = by.kind == V_STRING && text_is(by, "key");
    if (!by_key && !(by.kind == V_STRING && text_is(by, "value"))) fail_run(r, "dictsort sorts by 'key' or by 'value'");
    need_kind(r, v, SET(V_DICT), "dictsort");
    return sort_by(r, dict_items(r, v.dict), v_int(by_key ? 0 : 1), a->v[0], a->v[2]);
}

BUILTIN(unique)
{
    const Seq *from = value_iterate(r, v);
    Seq *s = seq_new(r, 0), *seen = seq_new(r, 0);
    for (size_t i = 0; i < from->n; i++) {
        Value key = sort_key(r, from->items[i], a->v[1], value_truth_or(r, a->v[0], false));
        need_hashable(r, key);
        if (op_compare(r, OP_IN, key, v_seq(V_LIST, seen))) continue;
        seq_add(r, seen, key);
        seq_add(r, s, from->items[i]);
    }
    return v_seq(V_ITER, s);
}

BUILTIN(join)
{
    Seq *s = seq_copy(r, value_iterate(r, v));
    for (size_t i = 0; i < s->n; i++) s->items[i] = path_get(r, s->items[i], a->v[1], v_none());
    return str_join(r, a->v[0].kind == V_MISSING ? v_text("") : value_to_str(r, a->v[0]), s);
}

// ---- map, select, reject ------------------------------------------------------------------------------------------

// Calls the filter or test named by the argument number `at` with the arguments behind it.
static Value call_named(Render *r, const Args *a, size_t at, const Builtin *(*find)(Value), Value item)
{
    Value name = a->v[at];
    const Builtin *row = name.kind == V_STRING ? find(name) : NULL;
    if (!row) fail_run(r, "No %s named '%s'.", find == test_find ? "test" : "filter", value_chars(r, name));
    Args rest = {.v = a->v + at + 1, .n = a->n - at - 1, .kw = *dict_copy(r, &a->kw)};   // binding takes keywords out
    return call_builtin(r, &(Bound){row, name, item}, &rest);
}

BUILTIN(map)
{
    if (!value_truth(r, v)) return v_seq(V_ITER, seq_new(r, 0));
    Value path = a->n ? v_missing() : args_pop(a, v_text("attribute"));
    Value otherwise = a->n ? v_none() : args_pop(a, v_text("default"));
    if (a->n == 0 && (path.kind == V_MISSING || a->kw.keys.n)) fail_run(r, "map needs a filter or an attribute");
    Seq *s = seq_copy(r, value_iterate(r, v));
    for (size_t i = 0; i < s->n; i++)
        s->items[i] = a->n ? call_named(r, a, 0, filter_find, s->items[i]) : path_get(r, s->items[i], path, otherwise);
    return v_seq(V_ITER, s);
}

enum { REJECT = 1, BY_ATTRIBUTE = 2 };
BUILTIN(pick)
{
    Seq *s = seq_new(r, 0);
    if (!value_truth(r, v)) return v_seq(V_ITER, s);
    bool by_attribute = a->how & BY_ATTRIBUTE;
    if (by_attribute && a->n == 0) fail_run(r, "selectattr and rejectattr need an attribute");
    const Seq *from = value_iterate(r, v);
    for (size_t i = 0; i < from->n; i++) {
        Value item = by_attribute ? path_get(r, from->items[i], a->v[0], v_none()) : from->items[i];
        if (a->n > by_attribute) item = call_named(r, a, by_attribute, test_find, item);
        if (value_truth(r, item) == !(a->how & REJECT)) seq_add(r, s, from->items[i]);
    }
    return v_seq(V_ITER, s);
}

// ---- sequences ----------------------------------------------------------------------------------------------------

enum { FIRST, LAST };
BUILTIN(end_item)
{
    if (a->how == LAST) need_kind(r, v, ITERABLE & ~SET(V_ITER), "last");
    const Seq *s = value_iterate(r, v);
    if (s->n) return s->items[a->how == LAST ? s->n - 1 : 0];
    return undefined_new(r, "an empty sequence", v_text(a->how == LAST ? "last" : "first"), false);
}

BUILTIN(reverse)
{
    if (v.kind == V_STRING) return value_slice(r, v, v_none(), v_none(), v_int(-1));
    const Seq *from = value_iterate(r, v);
    Seq *s = seq_new(r, from->n);
    for (size_t i = from->n; i > 0; i--) seq_add(r, s, from->items[i - 1]);
    return v_seq(v.kind == V_ITER ? V_LIST : V_ITER, s);
}

BUILTIN(items)
{
    need_kind(r, v, SET(V_DICT) | SET(V_UNDEFINED), "items");
    return v_seq(V_ITER, v.kind == V_DICT ? dict_items(r, v.dict) : seq_new(r, 0));
}

BUILTIN(use_default)
{
    bool use = v.kind == V_UNDEFINED || (value_truth_or(r, a->v[1], false) && !value_truth(r, v));
    return !use ? v : a->v[0].kind == V_MISSING ? v_text("") : a->v[0];
}

BUILTIN(list) { return v_seq(V_LIST, seq_copy(r, value_iterate(r, v))); }
BUILTIN(length) { return v_int((int64_t)value_length(r, v)); }

// ---- numbers ------------------------------------------------------------------------------------------------------

BUILTIN(to_int)
{
    double f = 0;
    if (v.kind == V_UNDEFINED) fail_undefined(r, v);
    if (a->v[1].kind != V_MISSING) fail_run(r, "the argument 'base' " NOT_HERE);
    if (is_a(v, INTS)) return v_int(int_of(v));
    Value read = v.kind == V_STRING ? text_to_int(&r->arena, v) : v.kind == V_BIG ? v : v_missing();
    if (read.kind != V_MISSING) return read;
    bool number = v.kind == V_FLOAT || (v.kind == V_STRING && text_to_float(&r->arena, v, &f));
    if (v.kind == V_FLOAT) f = v.f;
    if (!number || isnan(f)) return a->v[0].kind == V_MISSING ? v_int(0) : a->v[0];
    if (isinf(f)) fail_run(r, "infinity is no int");
    if (fabs(f) >= 0x1p63) fail_kind(r, "limit", "the result is an int of more than 64 bits");
    return v_int((int64_t)f);
}

BUILTIN(to_float)
{
    double f;
    if (v.kind == V_UNDEFINED) fail_undefined(r, v);
    if (is_a(v, NUMBERS)) return v_float(float_of(v));
    if (is_a(v, SET(V_STRING) | SET(V_BIG)) && text_to_float(&r->arena, v, &f)) return v_float(f);
    return a->v[0].kind == V_MISSING ? v_float(0) : a->v[0];
}

// ---- the table ----------------------------------------------------------------------------------------------------

// To add a filter: a row here, or in method.c if it makes text.
static const Builtin filters[] = {
    {"default d", FILTER, "default_value boolean", use_default, 0, 0},
    {"dictsort", FILTER, "case_sensitive by reverse", dictsort, 0, 0},
    {"first", FILTER, "", end_item, FIRST, 0},
    {"float", FILTER, "default", to_float, 0, 0},
    {"int", FILTER, "default base", to_int, 0, 0},
    {"items", FILTER, "", items, 0, 0},
    {"join", FILTER, "d attribute", join, 0, 0},
    {"last", FILTER, "", end_item, LAST, 0},
    {"length count", FILTER, "", length, 0, 0},
    {"list", FILTER, "", list, 0, 0},
    {"map", FILTER, NULL, map, 0, 0},
    {"reject", FILTER, NULL, pick, REJECT, 0},
    {"rejectattr", FILTER, NULL, pick, REJECT | BY_ATTRIBUTE, 0},
    {"reverse", FILTER, "", reverse, 0, 0},
    {"select", FILTER, NULL, pick, 0, 0},
    {"selectattr", FILTER, NULL, pick, BY_ATTRIBUTE, 0},
    {"sort", FILTER, "reverse case_sensitive attribute", sort, 0, 0},
    {"unique", FILTER, "case_sensitive attribute", unique, 0, 0},
    {.name = "abs attr batch groupby max min random round slice sum", .of = FILTER},
    {0},
};

const Builtin *filter_find(Value name)
{
    const Builtin *row = row_find(filters, FILTER, name);
    return row ? row : text_filter_find(name);
}
