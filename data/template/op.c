// jinja_op: operators, comparison, subscripts, slices and attributes, with what the sandbox forbids.
#include "jinja.h"

#include <math.h>

static const char *const op_text[] = {[OP_ADD] = "+", [OP_SUB] = "-", [OP_MUL] = "*", [OP_DIV] = "/",
                                      [OP_FLOORDIV] = "//", [OP_MOD] = "%", [OP_POW] = "**"};

// ---- arithmetic ---------------------------------------------------------------------------------------------------

static Value int_exact(Render *r, Op op, int64_t a, int64_t b)
{
    int64_t c;
    bool overflow = op == OP_ADD   ? __builtin_add_overflow(a, b, &c)
                    : op == OP_SUB ? __builtin_sub_overflow(a, b, &c) : __builtin_mul_overflow(a, b, &c);
    if (overflow) fail_kind(r, "limit", "the result is an int of more than 64 bits");
    return v_int(c);
}

// Python rounds the quotient down, and the remainder has the divisor's sign.
static Value int_floordiv(Render *r, int64_t a, int64_t b)
{
    if (b == -1) return int_exact(r, OP_SUB, 0, a);
    return v_int(a / b - (a % b != 0 && (a < 0) != (b < 0)));
}

static int64_t int_mod(int64_t a, int64_t b)
{
    int64_t m = b == -1 ? 0 : a % b;
    return m != 0 && (a < 0) != (b < 0) ? m + b : m;
}

static double float_mod(double a, double b)
{
    double m = fmod(a, b);
    if (m != 0 && (m < 0) != (b < 0)) return m + b;
    return m == 0 ? copysign(0, b) : m;
}

static Value power(Render *r, Value a, Value b)
{
    if (is_a(a, INTS) && is_a(b, INTS) && int_of(b) >= 0) {
        Value base = v_int(int_of(a)), result = v_int(1);
        for (int64_t n = int_of(b); n > 0; n /= 2) {
            if (n % 2) result = int_exact(r, OP_MUL, result.i, base.i);
            if (n > 1) base = int_exact(r, OP_MUL, base.i, base.i);
        }
        return result;
    }
    double f = pow(float_of(a), float_of(b));
    if (isfinite(float_of(a)) && isfinite(float_of(b)) && !isfinite(f)) fail_run(r, "this power has no finite value");
    return v_float(f);
}

static Value arithmetic(Render *r, Op op, Value a, Value b)
{
    bool ints = is_a(a, INTS) && is_a(b, INTS);
    int64_t i = ints ? int_of(a) : 0, k = ints ? int_of(b) : 0;
    double x = float_of(a), y = float_of(b);
    if ((op == OP_DIV || op == OP_FLOORDIV || op == OP_MOD) && y == 0) fail_run(r, "division by zero");
    switch (op) {
    case OP_ADD: return ints ? int_exact(r, op, i, k) : v_float(x + y);
    case OP_SUB: return ints ? int_exact(r, op, i, k) : v_float(x - y);
    case OP_MUL: return ints ? int_exact(r, op, i, k) : v_float(x * y);
    case OP_DIV: return v_float(x / y);
    case OP_FLOORDIV: return ints ? int_floordiv(r, i, k) : v_float(floor((x - float_mod(x, y)) / y + 0.5));
    case OP_MOD: return ints ? v_int(int_mod(i, k)) : v_float(float_mod(x, y));
    default: return power(r, a, b);
    }
}

static Value repeat(Render *r, Value v, int64_t times)
{
    if (times < 0) times = 0;
    size_t each = v.kind == V_STRING ? v.len : v.seq->n;
    if (each && (size_t)times > MAX_BYTES / each)
        fail_kind(r, "limit", "a sequence repeated to more than %zu items", MAX_BYTES);
    if (v.kind == V_STRING) {
        size_t mark = r->out->len;
        for (int64_t i = 0; i < times && each; i++) out_value(r, v);
        Value s = out_cut(r, mark);
        s.markup = v.markup;
        return s;
    }
    Seq *s = seq_new(r, each * (size_t)times);
    for (size_t i = 0; i < each * (size_t)times; i++) seq_add(r, s, v.seq->items[i % each]);
    return v_seq(v.kind, s);
}

static Value concat(Render *r, Value a, Value b)
{
    if (a.kind == V_STRING) {
        bool markup = a.markup || b.markup;     // what is not markup yet is escaped
        if (markup && !a.markup) a = str_html(r, a);
        if (markup && !b.markup) b = str_html(r, b);
        Value s = str_join(r, v_text(""), &(Seq){.items = (Value[]){a, b}, .n = 2});
        s.markup = markup;
        return s;
    }
    Seq *s = seq_copy(r, a.seq);
    for (size_t i = 0; i < b.seq->n; i++) seq_add(r, s, b.seq->items[i]);
    return v_seq(a.kind, s);
}

Value op_binary(Render *r, Op op, Value a, Value b)
{
    const uint32_t sized = SET(V_STRING) | SET(V_LIST) | SET(V_TUPLE);
    if (is_a(a, NUMBERS) && is_a(b, NUMBERS)) return arithmetic(r, op, a, b);
    if (op == OP_MOD && a.kind == V_STRING) fail_run(r, "the string operator '%%' " NOT_HERE);
    if (a.kind == V_UNDEFINED) fail_undefined(r, a);
    if (b.kind == V_UNDEFINED) fail_undefined(r, b);
    if (op == OP_ADD && is_a(a, sized) && a.kind == b.kind) return concat(r, a, b);
    if (op == OP_MUL && is_a(a, sized) && is_a(b, INTS)) return repeat(r, a, int_of(b));
    if (op == OP_MUL && is_a(b, sized) && is_a(a, INTS)) return repeat(r, b, int_of(a));
    fail_run(r, "'%s' does not work with %s and %s", op_text[op], type_name(a), type_name(b));
}

Value op_negate(Render *r, Value v, bool minus)
{
    need_kind(r, v, NUMBERS, "a sign");
    if (is_a(v, INTS)) return minus ? int_exact(r, OP_SUB, 0, int_of(v)) : v_int(int_of(v));
    return v_float(minus ? -v.f : v.f);
}

// ---- comparison ---------------------------------------------------------------------------------------------------

static bool contains(Render *r, Value container, Value item)
{
    need_kind(r, container, ITERABLE, "'in'");
    if (container.kind == V_STRING) {
        if (item.kind != V_STRING) fail_run(r, "a string cannot hold %s", type_name(item));
        render_charge(r, container.len / 64);
        return str_find(container, item, false) != SIZE_MAX;
    }
    if (container.kind == V_DICT) {
        need_hashable(r, item);
        return dict_get(r, container.dict, item) != NULL;
    }
    const Seq *s = value_iterate(r, container);
    for (size_t i = 0; i < s->n; i++)
        if (value_equal(r, s->items[i], item)) return true;
    return false;
}

bool op_compare(Render *r, Op op, Value a, Value b)
{
    switch (op) {
    case OP_EQ: return value_equal(r, a, b);
    case OP_NE: return !value_equal(r, a, b);
    case OP_LT: case OP_LE: return value_less(r, a, b, op == OP_LE);
    case OP_GT: case OP_GE: return value_less(r, b, a, op == OP_GE);
    case OP_IN: return contains(r, b, a);
    default: return !contains(r, b, a);
    }
}

// ---- attributes ---------------------------------------------------------------------------------------------------

// What the sandbox hides: methods that change their object, and what Python calls __so__.
static bool is_unsafe(Value obj, Value name)
{
    if (name.len > 4 && memcmp(name.s, "__", 2) == 0 && memcmp(name.s + name.len - 2, "__", 2) == 0) return true;
    return (obj.kind == V_LIST && has_word("append extend insert remove reverse sort", name)) ||
           (obj.kind == V_DICT && has_word("clear pop popitem setdefault update", name));
}

// To add an attribute of loop: a line.
static Value loop_attr(Render *r, const Loop *loop, Value name)
{
    int64_t at = (int64_t)loop->index0, n = (int64_t)loop->items->n;
    const Value *item = loop->items->items + at;
    if (text_is(name, "index")) return v_int(at + 1);
    if (text_is(name, "index0")) return v_int(at);
    if (text_is(name, "first")) return v_bool(at == 0);
    if (text_is(name, "last")) return v_bool(at == n - 1);
    if (text_is(name, "length")) return v_int(n);
    if (text_is(name, "revindex")) return v_int(n - at);
    if (text_is(name, "revindex0")) return v_int(n - at - 1);
    if (text_is(name, "depth")) return v_int(1);            // of recursive loops, which are not here
    if (text_is(name, "depth0")) return v_int(0);
    if (text_is(name, "previtem")) return at > 0 ? item[-1] : undefined_new(r, "a loop's first turn", name, false);
    if (text_is(name, "nextitem")) return at < n - 1 ? item[1] : undefined_new(r, "a loop's last turn", name, false);
    return v_missing();
}

// What Python's getattr() finds, else V_MISSING.
static Value own_attr(Render *r, Value obj, Value name)
{
    const Value *member = obj.kind == V_NAMESPACE ? dict_get(r, obj.dict, name) : NULL;
    Value v = obj.kind == V_LOOP ? loop_attr(r, obj.loop, name) : v_missing();
    if (member) return *member;
    if (v.kind != V_MISSING) return v;
    if (obj.kind == V_MACRO && text_is(name, "name")) return obj.macro->name;
    if (is_unsafe(obj, name)) return undefined_new(r, type_name(obj), name, true);
    const Builtin *method = method_find(obj, name);
    return method ? function_new(r, method, name, obj) : v;
}

Value value_attr(Render *r, Value obj, Value name)
{
    if (obj.kind == V_UNDEFINED) fail_undefined(r, obj);
    Value v = own_attr(r, obj, name);
    if (v.kind != V_MISSING) return v;
    const Value *member = obj.kind == V_DICT ? dict_get(r, obj.dict, name) : NULL;
    return member ? *member : undefined_new(r, type_name(obj), name, false);
}

// ---- subscripts ---------------------------------------------------------------------------------------------------

Value value_item(Render *r, Value obj, Value key)
{
    if (obj.kind == V_UNDEFINED) fail_undefined(r, obj);
    const Value *member = obj.kind == V_DICT ? dict_get(r, obj.dict, key) : NULL;
    if (member) return *member;
    if (is_a(key, INTS) && is_a(obj, ARRAYS | SET(V_STRING))) {
        int64_t n = (int64_t)value_length(r, obj), i = int_of(key) < 0 ? int_of(key) + n : int_of(key);
        render_charge(r, obj.kind == V_STRING ? obj.len / 16 : 0);
        if (i >= 0 && i < n)
            return obj.kind == V_STRING ? str_slice(obj, (size_t)i, (size_t)i + 1) : obj.seq->items[i];
    }
    Value v = key.kind == V_STRING ? own_attr(r, obj, key) : v_missing();
    return v.kind != V_MISSING ? v : undefined_new(r, type_name(obj), key, false);
}

static int64_t slice_bound(Render *r, Value v, int64_t n, int64_t low, int64_t high, int64_t otherwise)
{
    if (v.kind == V_NONE) return otherwise;
    need_kind(r, v, INTS, "a slice");
    int64_t i = int_of(v) < 0 ? int_of(v) + n : int_of(v);
    return i < low ? low : i > high ? high : i;
}

Value value_slice(Render *r, Value obj, Value from, Value to, Value step)
{
    need_kind(r, obj, ARRAYS | SET(V_STRING), "a slice");
    int64_t n = (int64_t)value_length(r, obj), far = (int64_t)1 << 40, by = slice_bound(r, step, 0, -far, far, 1);
    if (by == 0) fail_run(r, "the step of a slice cannot be zero");
    int64_t low = by > 0 ? 0 : -1, high = by > 0 ? n : n - 1;
    int64_t i = slice_bound(r, from, n, low, high, by > 0 ? low : high);
    int64_t end = slice_bound(r, to, n, low, high, by > 0 ? high : low);
    if (obj.kind == V_STRING && by == 1) {
        render_charge(r, obj.len / 16);
        return str_slice(obj, (size_t)i, (size_t)(end > i ? end : i));
    }
    const Seq *items = value_iterate(r, obj);
    Seq *s = seq_new(r, 0);
    for (; by > 0 ? i < end : i > end; i += by) seq_add(r, s, items->items[i]);
    return obj.kind == V_STRING ? str_join(r, v_text(""), s) : v_seq(obj.kind == V_TUPLE ? V_TUPLE : V_LIST, s);
}
