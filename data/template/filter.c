// jinja_filter: Jinja's filters, in one table at the end. Filters that are generators in Python give a V_ITER here:
// always true, without a length, and empty once it was read; but they do all their work at once.
#include "jinja.h"

#include <math.h>
#include <stdlib.h>

#define FILTER(fn, expr) \
    static Value fn(Render *r, Value v, Args *a) { (void)r; (void)a; return expr; }

static Value generator(Seq *s, const char *type)
{
    s->type = type;
    return v_seq(V_ITER, s);
}

static Value or_text(Value v, const char *otherwise) { return v.kind == V_MISSING ? v_text(otherwise) : v; }

// ---- attributes of items ------------------------------------------------------------------------------------------

// A path such as "a.0.b": each part is a key, or a number if it is all digits.
static Value path_get(Render *r, Value item, Value path, Value otherwise)
{
    if (!is_given(path)) return item;
    if (path.kind != V_STRING) {
        item = value_item(r, item, path);
        return item.kind == V_UNDEFINED && is_given(otherwise) ? otherwise : item;
    }
    const Seq *parts = str_split(r, path, v_text("."), -1, false);
    for (size_t i = 0; i < parts->n; i++) {
        Value part = parts->items[i], number = v_int(0);
        bool digits = part.len > 0 && part.s[0] >= '0' && part.s[0] <= '9' && text_to_int(part, 10, &number.i);
        item = value_item(r, item, digits ? number : part);
        if (item.kind == V_UNDEFINED && is_given(otherwise)) item = otherwise;
    }
    return item;
}

// The sort key of an item: what is at the path, in small letters unless case matters.
static Value sort_key(Render *r, Value item, Value path, bool cased)
{
    item = path_get(r, item, path, v_none());
    return item.kind == V_STRING && !cased ? str_case(r, item, CASE_LOWER) : item;
}

static Value *sort_keys(Render *r, const Seq *s, Value path, bool cased)
{
    Value *keys = render_take(r, s->n, sizeof *keys);
    bool several = path.kind == V_STRING && memchr(path.s, ',', path.len);
    for (size_t i = 0; i < s->n; i++) {
        if (!several) {
            keys[i] = sort_key(r, s->items[i], path, cased);
            continue;
        }
        const Seq *paths = str_split(r, path, v_text(","), -1, false);
        Seq *all = seq_new(r, paths->n);
        for (size_t k = 0; k < paths->n; k++) seq_add(r, all, sort_key(r, s->items[i], paths->items[k], cased));
        keys[i] = v_seq(V_LIST, all);
    }
    return keys;
}

static Seq *copy_items(Render *r, Value v)
{
    const Seq *from = value_iterate(r, v);
    Seq *s = seq_new(r, from->n);
    for (size_t i = 0; i < from->n; i++) seq_add(r, s, from->items[i]);
    return s;
}

static Value do_sort(Render *r, Value v, Args *a)
{
    Seq *s = copy_items(r, v);
    Value *keys = sort_keys(r, s, a->v[2], value_truth_or(r, a->v[1], false));
    sort_values(r, s->items, keys, s->n, value_truth_or(r, a->v[0], false));
    return v_seq(V_LIST, s);
}

static Value do_dictsort(Render *r, Value v, Args *a)
{
    Value by = or_text(a->v[1], "key");
    bool cased = value_truth_or(r, a->v[0], false), key = by.kind == V_STRING && text_is(by, "key");
    if (!key && !(by.kind == V_STRING && text_is(by, "value")))
        fail_run(r, "You can only sort by either \"key\" or \"value\"");
    if (v.kind == V_UNDEFINED) fail_undefined(r, v);
    if (v.kind != V_DICT) fail_run(r, "'%s' object has no attribute 'items'", type_name(v));
    Seq *s = dict_items(r, v.dict);
    sort_values(r, s->items, sort_keys(r, s, v_int(key ? 0 : 1), cased), s->n, value_truth_or(r, a->v[2], false));
    return v_seq(V_LIST, s);
}

static Value do_unique(Render *r, Value v, Args *a)
{
    const Seq *from = value_iterate(r, v);
    Seq *s = seq_new(r, 0), *seen = seq_new(r, 0);
    for (size_t i = 0; i < from->n; i++) {
        Value key = sort_key(r, from->items[i], a->v[1], value_truth_or(r, a->v[0], false));
        if (!is_hashable(r, key)) fail_run(r, "unhashable type: '%s'", type_name(key));
        if (op_contains(r, v_seq(V_LIST, seen), key)) continue;
        seq_add(r, seen, key);
        seq_add(r, s, from->items[i]);
    }
    return generator(s, "generator");
}

static Value extreme(Render *r, Value v, Args *a, const char *op)
{
    const Seq *s = value_iterate(r, v);
    if (s->n == 0) return undefined_hint(r, "No aggregated item, sequence was empty.");
    const Value *keys = sort_keys(r, s, a->v[1], value_truth_or(r, a->v[0], false));
    size_t best = 0;
    for (size_t i = 1; i < s->n; i++)
        if (value_less(r, keys[i], keys[best], op)) best = i;
    return s->items[best];
}

FILTER(do_min, extreme(r, v, a, "<"))
FILTER(do_max, extreme(r, v, a, ">"))

static Value do_groupby(Render *r, Value v, Args *a)
{
    Seq *s = copy_items(r, v), *groups = seq_new(r, 0), *group = NULL;
    bool cased = value_truth_or(r, a->v[2], false);
    Value *keys = render_take(r, s->n, sizeof *keys);
    for (size_t i = 0; i < s->n; i++) {
        Value key = path_get(r, s->items[i], a->v[0], a->v[1]);
        keys[i] = key.kind == V_STRING && !cased ? str_case(r, key, CASE_LOWER) : key;
    }
    sort_values(r, s->items, keys, s->n, false);
    for (size_t i = 0; i < s->n; i++) {
        if (i == 0 || !value_equal(r, keys[i - 1], keys[i])) {
            Seq *pair = seq_new(r, 2);
            pair->type = "_GroupTuple";
            group = seq_new(r, 0);
            seq_add(r, pair, path_get(r, s->items[i], a->v[0], a->v[1]));
            seq_add(r, pair, v_seq(V_LIST, group));
            seq_add(r, groups, v_seq(V_TUPLE, pair));
        }
        seq_add(r, group, s->items[i]);
    }
    return v_seq(V_LIST, groups);
}

static Value do_sum(Render *r, Value v, Args *a)
{
    const Seq *s = value_iterate(r, v);
    Value sum = a->v[1].kind == V_MISSING ? v_int(0) : a->v[1];
    if (sum.kind == V_STRING) fail_run(r, "sum() can't sum strings [use ''.join(seq) instead]");
    for (size_t i = 0; i < s->n; i++) sum = op_binary(r, OP_ADD, sum, path_get(r, s->items[i], a->v[0], v_none()));
    return sum;
}

static Value do_join(Render *r, Value v, Args *a)
{
    const Seq *from = value_iterate(r, v);
    Seq *s = seq_new(r, from->n);
    for (size_t i = 0; i < from->n; i++) seq_add(r, s, path_get(r, from->items[i], a->v[1], v_none()));
    return str_join(r, value_to_str(r, or_text(a->v[0], "")), s);
}

// ---- map, select, reject ------------------------------------------------------------------------------------------

// The arguments from `from` on, as a copy: binding them to parameters changes what it gets.
static Args rest_of(Render *r, const Args *a, size_t from)
{
    Args copy = {.n = a->n > from ? a->n - from : 0, .n_kw = a->n_kw};
    copy.v = render_take(r, copy.n + 1, sizeof *copy.v);
    copy.names = render_take(r, a->n_kw + 1, sizeof *copy.names);
    copy.kw = render_take(r, a->n_kw + 1, sizeof *copy.kw);
    if (copy.n) memcpy(copy.v, a->v + from, copy.n * sizeof *copy.v);
    if (a->n_kw) memcpy(copy.names, a->names, a->n_kw * sizeof *copy.names);
    if (a->n_kw) memcpy(copy.kw, a->kw, a->n_kw * sizeof *copy.kw);
    return copy;
}

static const Builtin *named(Render *r, const Builtin *(*find)(Value), const char *what, Value name)
{
    const Builtin *f = name.kind == V_STRING ? find(name) : NULL;
    if (!f && name.kind == V_UNDEFINED && !name.undef->hint && name.undef->obj.kind == V_MISSING)
        fail_run(r, "No %s named Undefined. (%s is undefined; did you forget to quote the callable name?)", what,
                 repr_text(r, name.undef->name));
    if (!f) fail_run(r, "No %s named %s.", what, repr_text(r, name));
    return f;
}

static Value map_attribute(Render *r, Value v, Args *a)
{
    Value path = {.kind = V_MISSING}, otherwise = v_none();
    for (size_t i = 0; i < a->n_kw; i++) {
        if (text_is(a->names[i], "attribute")) path = a->kw[i];
        else if (text_is(a->names[i], "default")) otherwise = a->kw[i];
    }
    for (size_t i = 0; i < a->n_kw; i++)
        if (path.kind != V_MISSING && !text_is(a->names[i], "attribute") && !text_is(a->names[i], "default"))
            fail_run(r, "Unexpected keyword argument %s", repr_text(r, a->names[i]));
    if (path.kind == V_MISSING) fail_run(r, "map requires a filter argument");
    const Seq *from = value_iterate(r, v);
    Seq *s = seq_new(r, from->n);
    for (size_t i = 0; i < from->n; i++) seq_add(r, s, path_get(r, from->items[i], path, otherwise));
    return generator(s, "generator");
}

static Value do_map(Render *r, Value v, Args *a)
{
    if (!value_truth(r, v)) return generator(seq_new(r, 0), "generator");
    if (a->n == 0) return map_attribute(r, v, a);
    const Seq *from = value_iterate(r, v);
    Seq *s = seq_new(r, from->n);
    for (size_t i = 0; i < from->n; i++) {
        Args rest = rest_of(r, a, 1);
        seq_add(r, s, call_builtin(r, named(r, filter_find, "filter", a->v[0]), from->items[i], &rest));
    }
    return generator(s, "generator");
}

static Value pick(Render *r, Value v, Args *a, bool want, bool by_attribute)
{
    Seq *s = seq_new(r, 0);
    if (!value_truth(r, v)) return generator(s, "generator");
    if (by_attribute && a->n == 0) fail_run(r, "Missing parameter for attribute name");
    const Seq *from = value_iterate(r, v);
    for (size_t i = 0; i < from->n; i++) {
        Value item = by_attribute ? path_get(r, from->items[i], a->v[0], v_none()) : from->items[i];
        if (a->n > by_attribute) {
            Args rest = rest_of(r, a, by_attribute + 1);
            item = call_builtin(r, named(r, test_find, "test", a->v[by_attribute]), item, &rest);
        }
        if (value_truth(r, item) == want) seq_add(r, s, from->items[i]);
    }
    return generator(s, "generator");
}

FILTER(do_select, pick(r, v, a, true, false))
FILTER(do_reject, pick(r, v, a, false, false))
FILTER(do_selectattr, pick(r, v, a, true, true))
FILTER(do_rejectattr, pick(r, v, a, false, true))

// ---- sequences ----------------------------------------------------------------------------------------------------

static Value do_first(Render *r, Value v, Args *a)
{
    (void)a;
    const Seq *s = value_iterate(r, v);
    return s->n ? s->items[0] : undefined_hint(r, "No first item, sequence was empty.");
}

static Value do_last(Render *r, Value v, Args *a)
{
    (void)a;
    if (v.kind == V_ITER || (v.kind != V_STRING && v.kind != V_DICT && !is_seq(v) && v.kind != V_UNDEFINED))
        fail_run(r, "'%s' object is not reversible", type_name(v));
    const Seq *s = value_iterate(r, v);
    return s->n ? s->items[s->n - 1] : undefined_hint(r, "No last item, sequence was empty.");
}

static Value do_reverse(Render *r, Value v, Args *a)
{
    (void)a;
    bool known = v.kind == V_STRING || v.kind == V_DICT || is_seq(v) || v.kind == V_UNDEFINED;
    if (!known) fail_run(r, "argument must be iterable");
    if (v.kind == V_STRING) return value_slice(r, v, v_none(), v_none(), v_int(-1));
    Seq *s = copy_items(r, v);
    for (size_t i = 0; i < s->n / 2; i++) {
        Value t = s->items[i];
        s->items[i] = s->items[s->n - 1 - i];
        s->items[s->n - 1 - i] = t;
    }
    if (v.kind == V_ITER) return v_seq(V_LIST, s);
    return generator(s, v.kind == V_LIST ? "list_reverseiterator" : v.kind == V_RANGE ? "range_iterator" : "reversed");
}

static Value do_items(Render *r, Value v, Args *a)
{
    (void)a;
    if (v.kind == V_UNDEFINED) return generator(seq_new(r, 0), "generator");
    if (v.kind != V_DICT) fail_run(r, "Can only get item pairs from a mapping.");
    return generator(dict_items(r, v.dict), "generator");
}

static Value do_batch(Render *r, Value v, Args *a)
{
    const Seq *from = value_iterate(r, v);
    Int size = value_int_or(r, a->v[0], 0);
    Seq *s = seq_new(r, 0), *row = NULL;
    for (size_t i = 0; i < from->n; i++) {
        if (!row || (Int)row->n == size) seq_add(r, s, v_seq(V_LIST, row = seq_new(r, 0)));
        seq_add(r, row, from->items[i]);
    }
    while (row && is_given(a->v[1]) && (Int)row->n < size) seq_add(r, row, a->v[1]);
    return generator(s, "generator");
}

static Value do_slice(Render *r, Value v, Args *a)
{
    const Seq *from = value_iterate(r, v);
    Int n = value_int_or(r, a->v[0], 0), at = 0;
    if (n == 0) fail_run(r, "integer division or modulo by zero");
    Seq *s = seq_new(r, 0);
    for (Int k = 0; k < n; k++) {
        Seq *column = seq_new(r, 0);
        bool extra = k < (Int)from->n % n;
        for (Int i = 0; i < (Int)from->n / n + extra; i++) seq_add(r, column, from->items[at++]);
        if (!extra && is_given(a->v[1])) seq_add(r, column, a->v[1]);
        seq_add(r, s, v_seq(V_LIST, column));
    }
    return generator(s, "generator");
}

static Value do_random(Render *r, Value v, Args *a)
{
    (void)v;
    (void)a;
    fail_run(r, "random picks by chance, but a template must print the same text each time");
}

static Value do_default(Render *r, Value v, Args *a)
{
    bool use = v.kind == V_UNDEFINED || (value_truth_or(r, a->v[1], false) && !value_truth(r, v));
    return use ? or_text(a->v[0], "") : v;
}

FILTER(do_list, v_seq(V_LIST, copy_items(r, v)))
FILTER(do_length, v_int((Int)value_length(r, v)))

// Only what Python calls attributes: not the keys of a dict.
static Value do_attr(Render *r, Value v, Args *a)
{
    if (v.kind == V_UNDEFINED) fail_undefined(r, v);
    Value found = value_own_attr(r, v, value_to_str(r, a->v[0]));
    return found.kind == V_MISSING ? undefined_member(r, v, a->v[0], false) : found;
}

// ---- numbers ------------------------------------------------------------------------------------------------------

static Value do_abs(Render *r, Value v, Args *a)
{
    (void)a;
    if (!is_number(v)) fail_run(r, "bad operand type for abs(): '%s'", type_name(v));
    return is_int(v) ? v_int(int_of(v) < 0 ? -int_of(v) : int_of(v)) : v_float(fabs(v.f));
}

static Value do_int(Render *r, Value v, Args *a)
{
    Int base = value_int_or(r, a->v[1], 10), i;
    double f = 0;
    if (v.kind == V_UNDEFINED) fail_undefined(r, v);
    if (is_int(v)) return v_int(int_of(v));
    bool base_ok = base >= 0 && base <= 36 && base != 1;
    if (v.kind == V_STRING && base_ok && text_to_int(v, (unsigned)base, &i)) return v_int(i);
    bool number = v.kind == V_FLOAT || (v.kind == V_STRING && text_to_float(v, &f));
    if (v.kind == V_FLOAT) f = v.f;
    return number && !isnan(f) ? v_int(int_from_float(r, f)) : a->v[0].kind == V_MISSING ? v_int(0) : a->v[0];
}

static Value do_float(Render *r, Value v, Args *a)
{
    double f;
    if (v.kind == V_UNDEFINED) fail_undefined(r, v);
    if (is_number(v)) return v_float(float_of(v));
    if (v.kind == V_STRING && text_to_float(v, &f)) return v_float(f);
    return a->v[0].kind == V_MISSING ? v_float(0) : a->v[0];
}

// Half to even, on the number's exact decimals: printf does just that.
static double round_to(double f, Int digits)
{
    char text[700];
    if (digits < 0) {
        double unit = pow(10, (double)-digits);
        return nearbyint(f / unit) * unit;
    }
    snprintf(text, sizeof text, "%.*f", digits > 300 ? 300 : (int)digits, f);
    return strtod(text, NULL);
}

static Value do_round(Render *r, Value v, Args *a)
{
    Value method = or_text(a->v[1], "common");
    Int digits = value_int_or(r, a->v[0], 0);
    bool word = method.kind == V_STRING;
    bool common = word && text_is(method, "common"), up = word && text_is(method, "ceil");
    if (!common && !up && !(word && text_is(method, "floor")))
        fail_run(r, "method must be common, ceil or floor");
    if (!is_number(v) && !common) {
        op_binary(r, OP_MUL, v, v_int(1));
        fail_run(r, "must be real number, not %s", type_name(v));
    }
    if (!is_number(v)) fail_run(r, "type %s doesn't define __round__ method", type_name(v));
    if (common && is_int(v) && digits >= 0) return v_int(int_of(v));
    double rounded = common ? round_to(float_of(v), digits) : 0;
    if (common) return is_int(v) ? v_int(int_from_float(r, rounded)) : v_float(rounded);
    double scale = pow(10, (double)digits), f = float_of(v) * scale;
    return v_float((up ? ceil(f) : floor(f)) / scale);
}

static Value do_filesizeformat(Render *r, Value v, Args *a)
{
    bool binary = value_truth_or(r, a->v[0], false);
    const char *letters = binary ? "KMGTPEZY" : "kMGTPEZY";
    double f = is_number(v) ? float_of(v) : 0, base = binary ? 1024 : 1000, unit = base * base;
    char text[80];
    if (v.kind == V_UNDEFINED) fail_undefined(r, v);
    if (v.kind == V_STRING && !text_to_float(v, &f))
        fail_run(r, "could not convert string to float: %s", repr_text(r, v));
    if (v.kind != V_STRING && !is_number(v))
        fail_run(r, "float() argument must be a string or a real number, not '%s'", type_name(v));
    size_t i = 0;
    while (i < 7 && f >= unit) { i++; unit *= base; }
    if (f == 1) return v_text("1 Byte");
    if (f < base) snprintf(text, sizeof text, "%.0f Bytes", trunc(f));
    else snprintf(text, sizeof text, "%.1f %c%s", base * f / unit, letters[i], binary ? "iB" : "B");
    size_t mark = r->out->len;
    out_text(r, text);
    return out_cut(r, mark);
}

// ---- the table ----------------------------------------------------------------------------------------------------

static const Builtin filters[] = {
    {"abs", "abs", "", do_abs}, {"attr", "do_attr", "@name", do_attr},
    {"batch", "do_batch", "linecount fill_with=", do_batch}, {"count", "len", "", do_length},
    {"d", "do_default", "default_value= boolean=", do_default},
    {"default", "do_default", "default_value= boolean=", do_default},
    {"dictsort", "do_dictsort", "case_sensitive= by= reverse=", do_dictsort},
    {"filesizeformat", "do_filesizeformat", "binary=", do_filesizeformat}, {"first", "sync_do_first", "@", do_first},
    {"float", "do_float", "default=", do_float},
    {"groupby", "sync_do_groupby", "@attribute default= case_sensitive=", do_groupby},
    {"int", "do_int", "default= base=", do_int}, {"items", "do_items", "", do_items},
    {"join", "sync_do_join", "@d= attribute=", do_join}, {"last", "do_last", "@", do_last},
    {"length", "len", "", do_length}, {"list", "sync_do_list", "", do_list}, {"map", "sync_do_map", NULL, do_map},
    {"max", "do_max", "@case_sensitive= attribute=", do_max}, {"min", "do_min", "@case_sensitive= attribute=", do_min},
    {"random", "do_random", "@", do_random}, {"reject", "sync_do_reject", NULL, do_reject},
    {"rejectattr", "sync_do_rejectattr", NULL, do_rejectattr}, {"reverse", "do_reverse", "", do_reverse},
    {"round", "do_round", "precision= method=", do_round}, {"select", "sync_do_select", NULL, do_select},
    {"selectattr", "sync_do_selectattr", NULL, do_selectattr},
    {"slice", "sync_do_slice", "slices fill_with=", do_slice},
    {"sort", "do_sort", "@reverse= case_sensitive= attribute=", do_sort},
    {"sum", "sync_do_sum", "@attribute= start=", do_sum},
    {"unique", "do_unique", "@case_sensitive= attribute=", do_unique},
};

const Builtin *filter_find(Value name)
{
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if (text_is(name, filters[i].name)) return &filters[i];
    return text_filter_find(name);
}
