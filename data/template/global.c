// jinja_global: the tests (x is odd) and the functions that every template can call (range, namespace, ...).
#include "jinja.h"

#include <stdlib.h>
#include <time.h>

// ---- tests --------------------------------------------------------------------------------------------------------

BUILTIN(is_kind) { return v_bool(is_a(v, (uint32_t)a->how)); }
BUILTIN(is_bool) { return v_bool(v.kind == V_BOOL && v.b == a->how); }
BUILTIN(compare) { return v_bool(op_compare(r, (Op)a->how, v, a->v[0])); }

// How much is left over by a division by 2, or by the argument.
BUILTIN(leaves)
{
    need_kind(r, v, NUMBERS, "'is odd' and the like");
    Value left = op_binary(r, OP_MOD, v, a->n ? a->v[0] : v_int(2));
    return v_bool(is_a(left, NUMBERS) && float_of(left) == a->how);
}

// Identity: of small values their equality, of the rest whether they are one object.
BUILTIN(same_as)
{
    Value other = a->v[0];
    if (v.kind != other.kind) return v_bool(false);
    return v_bool(v.kind <= V_STRING ? value_equal(r, v, other) : v.seq == other.seq);
}

// To add a test: a row. One that asks for kinds of values needs no function of its own.
static const Builtin tests[] = {
    {"defined", TEST, "", is_kind, (int)~SET(V_UNDEFINED), 0},
    {"undefined", TEST, "", is_kind, SET(V_UNDEFINED), 0},
    {"none", TEST, "", is_kind, SET(V_NONE), 0},
    {"boolean", TEST, "", is_kind, SET(V_BOOL), 0},
    {"integer", TEST, "", is_kind, SET(V_INT) | SET(V_BIG), 0},
    {"float", TEST, "", is_kind, SET(V_FLOAT), 0},
    {"number", TEST, "", is_kind, NUMBERS | SET(V_BIG), 0},
    {"string", TEST, "", is_kind, SET(V_STRING), 0},
    {"mapping", TEST, "", is_kind, SET(V_DICT), 0},
    {"sequence", TEST, "", is_kind, ARRAYS | SET(V_STRING) | SET(V_UNDEFINED) | SET(V_DICT), 0},
    {"iterable", TEST, "", is_kind, ITERABLE | SET(V_LOOP), 0},
    {"callable", TEST, "", is_kind, SET(V_UNDEFINED) | SET(V_FUNCTION) | SET(V_MACRO) | SET(V_LOOP), 0},
    {"true", TEST, "", is_bool, true, 0},
    {"false", TEST, "", is_bool, false, 0},
    {"odd", TEST, "", leaves, 1, 0},
    {"even", TEST, "", leaves, 0, 0},
    {"divisibleby", TEST, "num", leaves, 0, 1},
    {"sameas", TEST, "other", same_as, 0, 1},
    {"in", TEST, "seq", compare, OP_IN, 1},
    {"== eq equalto", TEST, "_", compare, OP_EQ, 1},
    {"!= ne", TEST, "_", compare, OP_NE, 1},
    {"> gt greaterthan", TEST, "_", compare, OP_GT, 1},
    {">= ge", TEST, "_", compare, OP_GE, 1},
    {"< lt lessthan", TEST, "_", compare, OP_LT, 1},
    {"<= le", TEST, "_", compare, OP_LE, 1},
    {.name = "escaped filter lower test upper", .of = TEST},
    {0},
};

const Builtin *test_find(Value name) { return row_find(tests, TEST, name); }

// ---- global functions ---------------------------------------------------------------------------------------------

BUILTIN(range)
{
    bool from_zero = a->v[1].kind == V_MISSING;
    int64_t start = from_zero ? 0 : value_int_or(r, a->v[0], 0), stop = value_int_or(r, a->v[from_zero ? 0 : 1], 0);
    int64_t step = value_int_or(r, a->v[2], 1), far = (int64_t)1 << 60;
    if (step == 0) fail_run(r, "the step of a range cannot be zero");
    bool too_far = start > far || start < -far || stop > far || stop < -far || step > far || step < -far;
    int64_t n = too_far ? MAX_RANGE + 1 : (stop - start + step + (step > 0 ? -1 : 1)) / step;
    if (n > MAX_RANGE) fail_run(r, "a range of more than %d numbers is not for templates", MAX_RANGE);
    Seq *s = seq_new(r, n > 0 ? (size_t)n : 0);
    for (int64_t i = 0; i < n; i++) seq_add(r, s, v_int(start + i * step));
    char name[80];
    snprintf(name, sizeof name, step == 1 ? "range(%lld, %lld)" : "range(%lld, %lld, %lld)", (long long)start,
             (long long)stop, (long long)step);
    s->name = value_chars(r, v_text(name));
    return v_seq(V_RANGE, s);
}

// dict(mapping or pairs, key=value, ...), which namespace() takes, too.
BUILTIN(make_dict)
{
    Dict *d = dict_new(r, a->kw.keys.n);
    Value from = a->n ? a->v[0] : v_dict(dict_new(r, 0));
    if (a->n > 1) fail_run(r, "a dict is made from one value, not from %zu", a->n);
    const Seq *pairs = from.kind == V_DICT ? dict_items(r, from.dict) : value_iterate(r, from);
    for (size_t i = 0; i < pairs->n; i++) {
        const Seq *two = value_iterate(r, pairs->items[i]);
        if (two->n != 2) fail_run(r, "an entry of a dict is made from 2 values, not from %zu", two->n);
        dict_put(r, d, two->items[0], two->items[1]);
    }
    for (size_t i = 0; i < a->kw.keys.n; i++) dict_put(r, d, a->kw.keys.items[i], a->kw.vals.items[i]);
    return (Value){.kind = (uint8_t)a->how, .dict = d};
}

BUILTIN(raise_exception) { fail_kind(r, "raise", "%s", value_chars(r, a->v[0])); }

// The time is UTC if SOURCE_DATE_EPOCH fixes it, so that a file made from it is the same everywhere.
BUILTIN(strftime_now)
{
    const char *fixed = getenv("SOURCE_DATE_EPOCH");
    time_t now = fixed ? (time_t)strtoll(fixed, NULL, 10) : time(NULL);
    struct tm parts;
    need_kind(r, a->v[0], SET(V_STRING), "strftime_now");
    if (!(fixed ? gmtime_r(&now, &parts) : localtime_r(&now, &parts))) fail_run(r, "this time has no calendar date");
    // Python gives microseconds for %f, and no zone to a time that has none.
    Value format = str_replace(r, a->v[0], v_text("%f"), v_text("000000"), -1);
    format = str_replace(r, format, v_text("%z"), v_text(""), -1);
    format = str_replace(r, format, v_text("%Z"), v_text(""), -1);
    size_t size = 256 + 32 * format.len;        // no field prints more than a long name of a day
    char *text = render_take(r, size, 1);
    return v_str(text, strftime(text, size, value_chars(r, format), &parts));
}

// To add a function: a row.
static const Builtin globals[] = {
    {"range", GLOBAL, "_ _ _", range, 0, 1},
    {"dict", GLOBAL, NULL, make_dict, V_DICT, 0},
    {"namespace", GLOBAL, NULL, make_dict, V_NAMESPACE, 0},
    {"raise_exception", GLOBAL, "message", raise_exception, 0, 1},
    {"strftime_now", GLOBAL, "format", strftime_now, 0, 1},
    {.name = "cycler joiner lipsum", .of = GLOBAL},
    {0},
};

const Builtin *global_find(Value name) { return row_find(globals, GLOBAL, name); }
