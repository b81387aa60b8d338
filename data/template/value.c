// jinja_value: what every value can do: undefined values, lists, dicts, truth, equality, order, iteration, sorting.
#include "jinja.h"

// ---- undefined values and arguments -------------------------------------------------------------------------------

Value undefined_new(Render *r, const char *of, Value name, bool unsafe)
{
    return (Value){.kind = V_UNDEFINED, .undef = NEW(r, Undef, of, name, unsafe)};
}

_Noreturn void fail_undefined(Render *r, Value v)
{
    const Undef *u = v.undef;
    const char *name = value_chars(r, u->name);
    if (u->unsafe) fail_kind(r, "security", "'%s' of %s is not for templates", name, u->of);
    if (!u->of) fail_kind(r, "undefined", "'%s' is undefined", name);
    fail_kind(r, "undefined", "%s has no '%s'", u->of, name);
}

void need_kind(Render *r, Value v, uint32_t kinds, const char *what)
{
    if (is_a(v, kinds)) return;
    if (v.kind == V_UNDEFINED) fail_undefined(r, v);
    fail_run(r, "%s does not work with %s", what, type_name(v));
}

int64_t value_int_or(Render *r, Value v, int64_t otherwise)
{
    if (v.kind == V_MISSING) return otherwise;
    need_kind(r, v, INTS, "an argument that must be an int");
    return int_of(v);
}

bool value_truth_or(Render *r, Value v, bool otherwise) { return v.kind == V_MISSING ? otherwise : value_truth(r, v); }

// ---- lists and dicts ----------------------------------------------------------------------------------------------

Seq *seq_new(Render *r, size_t cap)
{
    Seq *s = NEW(r, Seq, .cap = cap);
    if (cap) s->items = render_take(r, cap, sizeof *s->items);
    return s;
}

void seq_add(Render *r, Seq *s, Value v)
{
    render_charge(r, 1);
    s->items = render_room(r, s->items, s->n, &s->cap, sizeof *s->items);
    s->items[s->n++] = v;
}

Seq *seq_copy(Render *r, const Seq *from)
{
    Seq *s = seq_new(r, from->n);
    for (size_t i = 0; i < from->n; i++) seq_add(r, s, from->items[i]);
    return s;
}

Value seq_remove(Seq *s, size_t i)
{
    Value item = s->items[i];
    s->n--;
    memmove(s->items + i, s->items + i + 1, (s->n - i) * sizeof item);
    return item;
}

Dict *dict_new(Render *r, size_t cap) { return NEW(r, Dict, *seq_new(r, cap), *seq_new(r, cap)); }

Dict *dict_copy(Render *r, const Dict *from)
{
    return NEW(r, Dict, *seq_copy(r, &from->keys), *seq_copy(r, &from->vals));
}

// A scan: the dicts of a chat are small, and large ones are charged for it.
const Value *dict_get(Render *r, const Dict *d, Value key)
{
    render_charge(r, d->keys.n / 8);
    for (size_t i = 0; i < d->keys.n; i++) {
        Value k = d->keys.items[i];
        bool texts = k.kind == V_STRING && key.kind == V_STRING;
        if (texts ? text_same(k, key) : value_equal(r, k, key)) return &d->vals.items[i];
    }
    return NULL;
}

void need_hashable(Render *r, Value v)
{
    need_kind(r, v, ~(SET(V_LIST) | SET(V_DICT) | SET(V_VIEW)), "use as a key");
    render_enter(r);
    for (size_t i = 0; v.kind == V_TUPLE && i < v.seq->n; i++) need_hashable(r, v.seq->items[i]);
    r->depth--;
}

void dict_put(Render *r, Dict *d, Value key, Value value)
{
    need_hashable(r, key);
    Value *old = (Value *)dict_get(r, d, key);
    if (old) {
        *old = value;
        return;
    }
    seq_add(r, &d->keys, key);
    seq_add(r, &d->vals, value);
}

Seq *dict_items(Render *r, const Dict *d)
{
    Seq *items = seq_new(r, d->keys.n);
    for (size_t i = 0; i < d->keys.n; i++) {
        Seq *pair = seq_new(r, 2);
        seq_add(r, pair, d->keys.items[i]);
        seq_add(r, pair, d->vals.items[i]);
        seq_add(r, items, v_seq(V_TUPLE, pair));
    }
    return items;
}

Seq *value_iterate(Render *r, Value v)
{
    need_kind(r, v, ITERABLE, "iteration");
    Seq *s = seq_new(r, 0);
    if (v.kind == V_DICT) {
        *s = v.dict->keys;
    } else if (is_a(v, SEQS)) {
        *s = *v.seq;
        if (v.kind == V_ITER) v.seq->n = 0;
    } else if (v.kind == V_STRING) {
        for (const char *p = v.s, *end = v.s + v.len; p < end; p += s->items[s->n - 1].len)
            seq_add(r, s, v_str(p, char_len(p, end)));
    }
    return s;
}

size_t value_length(Render *r, Value v)
{
    if (v.kind == V_LOOP) return v.loop->items->n;
    need_kind(r, v, ITERABLE & ~SET(V_ITER), "length");
    return v.kind == V_UNDEFINED ? 0 : v.kind == V_STRING ? str_count(v) : v.kind == V_DICT ? v.dict->keys.n : v.seq->n;
}

// ---- truth, equality, order ---------------------------------------------------------------------------------------

bool value_truth(Render *r, Value v)
{
    switch (v.kind) {
    case V_MISSING: case V_UNDEFINED: case V_NONE: return false;
    case V_BOOL: return v.b;
    case V_INT: return v.i != 0;
    case V_FLOAT: return v.f != 0;
    case V_STRING: return v.len > 0;
    case V_LIST: case V_TUPLE: case V_RANGE: case V_VIEW: case V_DICT: case V_LOOP: return value_length(r, v) > 0;
    default: return true;
    }
}

static bool dicts_equal(Render *r, const Dict *a, const Dict *b)
{
    if (a->keys.n != b->keys.n) return false;
    for (size_t i = 0; i < a->keys.n; i++) {
        const Value *other = dict_get(r, b, a->keys.items[i]);
        if (!other || !value_equal(r, a->vals.items[i], *other)) return false;
    }
    return true;
}

static bool seqs_equal(Render *r, const Seq *a, const Seq *b)
{
    bool same = a->n == b->n;
    for (size_t i = 0; same && i < a->n; i++) same = value_equal(r, a->items[i], b->items[i]);
    return same;
}

bool value_equal(Render *r, Value a, Value b)
{
    render_charge(r, 1 + (a.kind == V_STRING ? a.len / 64 : 0));
    if (is_a(a, INTS) && is_a(b, INTS)) return int_of(a) == int_of(b);
    if (is_a(a, NUMBERS) && is_a(b, NUMBERS)) return float_of(a) == float_of(b);
    if (a.kind != b.kind) return false;
    if (a.kind == V_STRING || a.kind == V_BIG) return text_same(a, b);
    if (a.kind <= V_NONE || a.seq == b.seq) return true;          // seq: any pointer of the union
    if (!is_a(a, (SEQS & ~SET(V_ITER)) | SET(V_DICT))) return false;
    render_enter(r);
    bool same = a.kind == V_DICT ? dicts_equal(r, a.dict, b.dict) : seqs_equal(r, a.seq, b.seq);
    r->depth--;
    return same;
}

static bool seq_less(Render *r, const Seq *a, const Seq *b, bool or_equal)
{
    size_t i = 0, n = a->n < b->n ? a->n : b->n;
    while (i < n && value_equal(r, a->items[i], b->items[i])) i++;
    if (i == n) return or_equal ? a->n <= b->n : a->n < b->n;
    render_enter(r);
    bool less = value_less(r, a->items[i], b->items[i], or_equal);
    r->depth--;
    return less;
}

bool value_less(Render *r, Value a, Value b, bool or_equal)
{
    render_charge(r, 1 + (a.kind == V_STRING ? a.len / 64 : 0));
    if (is_a(a, INTS) && is_a(b, INTS)) return or_equal ? int_of(a) <= int_of(b) : int_of(a) < int_of(b);
    if (is_a(a, NUMBERS) && is_a(b, NUMBERS)) return or_equal ? float_of(a) <= float_of(b) : float_of(a) < float_of(b);
    if (a.kind == V_STRING && b.kind == V_STRING) {     // UTF-8 sorts as its code points do
        int order = memcmp(a.s, b.s, a.len < b.len ? a.len : b.len);
        return order ? order < 0 : or_equal ? a.len <= b.len : a.len < b.len;
    }
    if (a.kind == b.kind && is_a(a, SET(V_LIST) | SET(V_TUPLE))) return seq_less(r, a.seq, b.seq, or_equal);
    if (a.kind == V_UNDEFINED) fail_undefined(r, a);
    if (b.kind == V_UNDEFINED) fail_undefined(r, b);
    fail_run(r, "%s and %s have no order", type_name(a), type_name(b));
}

// Merge sort, since qsort is not stable.
void sort_values(Render *r, Value *items, Value *keys, size_t n, bool reverse)
{
    if (n < 2) return;
    size_t half = n / 2, a = 0, b = half;
    sort_values(r, items, keys, half, reverse);
    sort_values(r, items + half, keys + half, n - half, reverse);
    Value *merged = render_take(r, n, sizeof *merged), *merged_keys = render_take(r, n, sizeof *merged);
    for (size_t i = 0; i < n; i++) {
        bool right = a == half || (b < n && value_less(r, keys[reverse ? a : b], keys[reverse ? b : a], false));
        size_t from = right ? b++ : a++;
        merged[i] = items[from];
        merged_keys[i] = keys[from];
    }
    memcpy(items, merged, n * sizeof *merged);
    memcpy(keys, merged_keys, n * sizeof *merged);
}
