// jinja_op: operators, comparison, subscripts, slices and attributes, with what the sandbox refuses.
#include "jinja.h"

#include <math.h>

static const char *const op_text[] = {"+", "-", "*", "/", "//", "%", "** or pow()", "==", "!=", "<", "<=", ">", ">="};

// ---- arithmetic ---------------------------------------------------------------------------------------------------

static _Noreturn void fail_big(Render *r) { fail_kind(r, "limit", "an integer has more than 128 bits"); }

static Int int_mul(Render *r, Int a, Int b)
{
    unsigned __int128 x = a < 0 ? -(unsigned __int128)a : (unsigned __int128)a;
    unsigned __int128 y = b < 0 ? -(unsigned __int128)b : (unsigned __int128)b;
    if (x && y > (unsigned __int128)INT_LIMIT / x) fail_big(r);
    return (a < 0) != (b < 0) ? -(Int)(x * y) : (Int)(x * y);
}

static Int int_add(Render *r, Int a, Int b)
{
    if (b > 0 ? a > INT_LIMIT - b : a < -INT_LIMIT - b) fail_big(r);
    return a + b;
}

// Python rounds the quotient down, and the remainder has the divisor's sign.
static Int int_floordiv(Int a, Int b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }
static Int int_mod(Int a, Int b) { return a % b + (a % b != 0 && (a < 0) != (b < 0) ? b : 0); }

static double float_mod(double a, double b)
{
    double m = fmod(a, b);
    if (m != 0 && (m < 0) != (b < 0)) return m + b;
    return m == 0 ? copysign(0, b) : m;
}

static Value power(Render *r, Value a, Value b)
{
    if (is_int(a) && is_int(b) && int_of(b) >= 0) {
        Int base = int_of(a), result = 1;
        for (Int n = int_of(b); n > 0; n /= 2) {
            if (n % 2) result = int_mul(r, result, base);
            if (base >= -1 && base <= 1) { if (n % 2 == 0 && base == -1) base = 1; }
            else if (n > 1) base = int_mul(r, base, base);
        }
        return v_int(result);
    }
    if (float_of(a) == 0 && float_of(b) < 0) fail_run(r, "0.0 cannot be raised to a negative power");
    double f = pow(float_of(a), float_of(b));
    if (isnan(f) && float_of(a) < 0) fail_run(r, "the result would be a complex number, which is not known here");
    if (isinf(f) && isfinite(float_of(a))) fail_run(r, "(34, 'Numerical result out of range')");
    return v_float(f);
}

static Value arithmetic(Render *r, Op op, Value a, Value b)
{
    bool ints = is_int(a) && is_int(b);
    double x = float_of(a), y = float_of(b);
    bool by_zero = ints ? int_of(b) == 0 : y == 0;
    switch (op) {
    case OP_ADD: return ints ? v_int(int_add(r, int_of(a), int_of(b))) : v_float(x + y);
    case OP_SUB: return ints ? v_int(int_add(r, int_of(a), -int_of(b))) : v_float(x - y);
    case OP_MUL: return ints ? v_int(int_mul(r, int_of(a), int_of(b))) : v_float(x * y);
    case OP_DIV:
        if (by_zero) fail_run(r, ints ? "division by zero" : "float division by zero");
        return v_float(x / y);
    case OP_FLOORDIV:
        if (by_zero) fail_run(r, ints ? "integer division or modulo by zero" : "float floor division by zero");
        return ints ? v_int(int_floordiv(int_of(a), int_of(b))) : v_float(floor((x - float_mod(x, y)) / y + 0.5));
    case OP_MOD:
        if (by_zero) fail_run(r, ints ? "integer modulo by zero" : "float modulo");
        return ints ? v_int(int_mod(int_of(a), int_of(b))) : v_float(float_mod(x, y));
    default: return power(r, a, b);
    }
}

static Value repeat(Render *r, Value v, Int times)
{
    if (times < 0) times = 0;
    size_t each = v.kind == V_STRING ? v.len : v.seq->n;
    if (each && times > (Int)(MAX_BYTES / each))
        fail_kind(r, "limit", "a sequence repeated to more than %zu items", MAX_BYTES);
    if (v.kind == V_STRING) {
        size_t mark = r->out->len;
        for (Int i = 0; i < times && each; i++) out_add(r, v.s, v.len);
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
        char *both = render_take(r, a.len + b.len + 1, 1);
        render_charge(r, (a.len + b.len) / 64);
        memcpy(both, a.s, a.len);
        memcpy(both + a.len, b.s, b.len);
        Value s = v_str(both, a.len + b.len);
        s.markup = markup;
        return s;
    }
    Seq *s = seq_new(r, a.seq->n + b.seq->n);
    for (size_t i = 0; i < a.seq->n; i++) seq_add(r, s, a.seq->items[i]);
    for (size_t i = 0; i < b.seq->n; i++) seq_add(r, s, b.seq->items[i]);
    return v_seq(a.kind, s);
}

static bool is_sized(Value v) { return v.kind == V_STRING || v.kind == V_LIST || v.kind == V_TUPLE; }

Value op_binary(Render *r, Op op, Value a, Value b)
{
    if (is_number(a) && is_number(b)) return arithmetic(r, op, a, b);
    if (op == OP_MOD && a.kind == V_STRING) return str_percent(r, a, b);
    if (a.kind == V_UNDEFINED) fail_undefined(r, a);
    if (b.kind == V_UNDEFINED) fail_undefined(r, b);
    if (op == OP_ADD && is_sized(a)) {
        if (a.kind == b.kind) return concat(r, a, b);
        fail_run(r, "can only concatenate %s (not \"%s\") to %s", type_name(a), type_name(b), type_name(a));
    }
    if (op == OP_MUL && (is_sized(a) || is_sized(b))) {
        if (is_int(b)) return repeat(r, a, int_of(b));
        if (is_int(a)) return repeat(r, b, int_of(a));
        fail_run(r, "can't multiply sequence by non-int of type '%s'", type_name(is_sized(a) ? b : a));
    }
    fail_run(r, "unsupported operand type(s) for %s: '%s' and '%s'", op_text[op], type_name(a), type_name(b));
}

Value op_negate(Render *r, Value v, bool minus)
{
    if (v.kind == V_UNDEFINED) fail_undefined(r, v);
    if (!is_number(v)) fail_run(r, "bad operand type for unary %c: '%s'", minus ? '-' : '+', type_name(v));
    if (is_int(v)) return v_int(minus ? -int_of(v) : int_of(v));
    return v_float(minus ? -v.f : v.f);
}

bool op_contains(Render *r, Value container, Value item)
{
    if (container.kind == V_STRING) {
        if (item.kind != V_STRING)
            fail_run(r, "'in <string>' requires string as left operand, not %s", type_name(item));
        render_charge(r, container.len / 64);
        return str_find(container, item, 0) != SIZE_MAX;
    }
    if (container.kind == V_DICT) {
        if (!is_hashable(r, item)) fail_run(r, "unhashable type: '%s'", type_name(item));
        return dict_get(r, container.dict, item) != NULL;
    }
    if (!is_seq(container) && container.kind != V_UNDEFINED)
        fail_run(r, "argument of type '%s' is not iterable", type_name(container));
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
    case OP_IN: return op_contains(r, b, a);
    case OP_NOT_IN: return !op_contains(r, b, a);
    default: return value_less(r, a, b, op_text[op]);
    }
}

// ---- subscripts ---------------------------------------------------------------------------------------------------

// What every Python object carries; the sandbox hides it, and its message tells it from what is not there.
static bool is_dunder(Value name)
{
    static const char *const names[] = {
        "__class__", "__delattr__", "__dir__", "__doc__", "__eq__", "__format__", "__ge__", "__getattribute__",
        "__getstate__", "__gt__", "__hash__", "__init__", "__init_subclass__", "__le__", "__lt__", "__ne__", "__new__",
        "__reduce__", "__reduce_ex__", "__repr__", "__setattr__", "__sizeof__", "__str__", "__subclasshook__",
    };
    if (name.len < 5 || name.s[0] != '_') return false;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (text_is(name, names[i])) return true;
    return false;
}

static bool is_mutator(Value obj, Value name)
{
    static const char *const list[] = {"append", "reverse", "insert", "sort", "extend", "remove", NULL};
    static const char *const dict[] = {"clear", "pop", "popitem", "setdefault", "update", NULL};
    const char *const *names = obj.kind == V_LIST ? list : obj.kind == V_DICT ? dict : list + 6;
    while (*names && !text_is(name, *names)) names++;
    return *names;
}

static Value loop_attr(Render *r, Loop *loop, Value name)
{
    Int at = (Int)loop->index0;
    if (text_is(name, "index")) return v_int(at + 1);
    if (text_is(name, "index0")) return v_int(at);
    if (text_is(name, "first")) return v_bool(at == 0);
    if (text_is(name, "length")) return v_int((Int)loop_length(r, loop));
    if (text_is(name, "revindex")) return v_int((Int)loop_length(r, loop) - at);
    if (text_is(name, "revindex0")) return v_int((Int)loop_length(r, loop) - at - 1);
    if (text_is(name, "depth")) return v_int((Int)loop->depth0 + 1);
    if (text_is(name, "depth0")) return v_int((Int)loop->depth0);
    bool last = text_is(name, "last");
    if (last || text_is(name, "nextitem")) {
        Value next;
        if (loop_next(r, loop, &next)) loop->after = next;
        else next = undefined_hint(r, "there is no next item");
        return last ? v_bool(loop->after.kind == V_MISSING) : next;
    }
    if (text_is(name, "previtem")) return at ? loop->before : undefined_hint(r, "there is no previous item");
    return (Value){.kind = V_MISSING};
}

Value value_own_attr(Render *r, Value obj, Value name)
{
    const Value *member = obj.kind == V_NAMESPACE ? dict_get(r, obj.dict, name) : NULL;
    if (member) return *member;
    if (obj.kind == V_LOOP) {
        Value v = loop_attr(r, obj.loop, name);
        if (v.kind != V_MISSING) return v;
    }
    if (obj.kind == V_CYCLER && text_is(name, "current")) return obj.turns->items->items[obj.turns->at];
    if (obj.kind == V_MACRO && text_is(name, "name")) return obj.macro->name;
    if (obj.kind == V_TUPLE && obj.seq->type && text_is(name, "grouper")) return obj.seq->items[0];
    if (obj.kind == V_TUPLE && obj.seq->type && text_is(name, "list")) return obj.seq->items[1];
    if (is_dunder(name) || is_mutator(obj, name)) return undefined_member(r, obj, name, true);
    const Builtin *method = method_find(obj, name);
    if (!method) return (Value){.kind = V_MISSING};
    Bound *b = render_take(r, 1, sizeof *b);
    *b = (Bound){obj, method};
    return (Value){.kind = V_METHOD, .bound = b};
}

Value value_attr(Render *r, Value obj, Value name)
{
    if (obj.kind == V_UNDEFINED) fail_undefined(r, obj);
    Value v = value_own_attr(r, obj, name);
    if (v.kind != V_MISSING) return v;
    const Value *member = obj.kind == V_DICT ? dict_get(r, obj.dict, name) : NULL;
    return member ? *member : undefined_member(r, obj, name, false);
}

Value value_item(Render *r, Value obj, Value key)
{
    if (obj.kind == V_UNDEFINED) fail_undefined(r, obj);
    if (obj.kind == V_DICT && is_hashable(r, key)) {
        const Value *member = dict_get(r, obj.dict, key);
        if (member) return *member;
    }
    bool seq = obj.kind == V_LIST || obj.kind == V_TUPLE || obj.kind == V_RANGE;
    if (is_int(key) && (seq || obj.kind == V_STRING)) {
        Int n = (Int)value_length(r, obj), i = int_of(key) < 0 ? int_of(key) + n : int_of(key);
        render_charge(r, obj.kind == V_STRING ? obj.len / 16 : 0);
        if (i >= 0 && i < n) return seq ? obj.seq->items[i] : str_slice(obj, (size_t)i, (size_t)i + 1);
    }
    Value v = key.kind == V_STRING ? value_own_attr(r, obj, key) : (Value){.kind = V_MISSING};
    return v.kind != V_MISSING ? v : undefined_member(r, obj, key, false);
}

static Int slice_bound(Render *r, Value v, Int n, Int low, Int high, Int otherwise)
{
    if (v.kind == V_NONE) return otherwise;
    if (!is_int(v)) fail_run(r, "slice indices must be integers or None or have an __index__ method");
    Int i = int_of(v) < 0 ? int_of(v) + n : int_of(v);
    return i < low ? low : i > high ? high : i;
}

Value value_slice(Render *r, Value obj, Value from, Value to, Value step)
{
    if (obj.kind == V_UNDEFINED) fail_undefined(r, obj);
    if (obj.kind == V_DICT) fail_run(r, "unhashable type: 'slice'");
    bool seq = obj.kind == V_LIST || obj.kind == V_TUPLE || obj.kind == V_RANGE;
    if (!seq && obj.kind != V_STRING) fail_run(r, "'%s' object is not subscriptable", type_name(obj));
    Int n = (Int)value_length(r, obj), far = (Int)1 << 64, by = slice_bound(r, step, 0, -far, far, 1);
    if (by == 0) fail_run(r, "slice step cannot be zero");
    Int low = by > 0 ? 0 : -1, high = by > 0 ? n : n - 1;
    Int i = slice_bound(r, from, n, low, high, by > 0 ? low : high);
    Int end = slice_bound(r, to, n, low, high, by > 0 ? high : low);
    if (obj.kind == V_STRING && by == 1) {
        render_charge(r, obj.len / 16);
        Value s = str_slice(obj, (size_t)i, (size_t)(end > i ? end : i));
        s.markup = obj.markup;
        return s;
    }
    const Seq *items = value_iterate(r, obj);
    Seq *s = seq_new(r, 0);
    for (; by > 0 ? i < end : i > end; i += by) seq_add(r, s, items->items[i]);
    return seq ? v_seq(obj.kind == V_TUPLE ? V_TUPLE : V_LIST, s) : str_join(r, v_text(""), s);
}
