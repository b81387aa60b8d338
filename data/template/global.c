// jinja_global: the tests (x is odd) and the functions that every template can call (range, namespace, ...).
// Each is a row in a table.
#include "jinja.h"

#include <stdlib.h>
#include <time.h>

#define COUNT(table) (sizeof (table) / sizeof *(table))

// ---- tests --------------------------------------------------------------------------------------------------------

static bool remainder_is(Render *r, Value v, Value by, Int want)
{
    Value left = op_binary(r, OP_MOD, v, by);
    return is_number(left) && float_of(left) == (double)want;
}

#define TEST(fn, expr) \
    static Value fn(Render *r, Value v, Args *a) { (void)r; (void)a; return v_bool(expr); }
TEST(test_odd, remainder_is(r, v, v_int(2), 1))
TEST(test_even, remainder_is(r, v, v_int(2), 0))
TEST(test_divisibleby, remainder_is(r, v, a->v[0], 0))
TEST(test_defined, v.kind != V_UNDEFINED)
TEST(test_undefined, v.kind == V_UNDEFINED)
TEST(test_none, v.kind == V_NONE)
TEST(test_boolean, v.kind == V_BOOL)
TEST(test_false, v.kind == V_BOOL && !v.b)
TEST(test_true, v.kind == V_BOOL && v.b)
TEST(test_integer, v.kind == V_INT)
TEST(test_float, v.kind == V_FLOAT)
TEST(test_string, v.kind == V_STRING)
TEST(test_mapping, v.kind == V_DICT)
TEST(test_number, is_number(v))
TEST(test_sequence, v.kind == V_STRING || v.kind == V_UNDEFINED || v.kind == V_DICT || (is_seq(v) && v.kind < V_VIEW))
TEST(test_iterable, v.kind == V_STRING || v.kind == V_UNDEFINED || v.kind == V_DICT || is_seq(v) || v.kind == V_LOOP)
TEST(test_callable, v.kind == V_UNDEFINED || v.kind == V_FUNCTION || v.kind == V_METHOD || v.kind == V_MACRO ||
                    v.kind == V_JOINER || v.kind == V_LOOP)
TEST(test_escaped, v.markup)
TEST(test_in, op_contains(r, a->v[0], v))
TEST(test_filter, v.kind == V_STRING && filter_find(v))
TEST(test_test, v.kind == V_STRING && test_find(v))

// The operators as tests are Python's own functions, whose complaint is another.
static Value compare(Render *r, Op op, const char *name, Value v, const Args *a)
{
    if (a->n != 1) fail_run(r, "%s expected 2 arguments, got %zu", name, a->n + 1);
    return v_bool(op_compare(r, op, v, a->v[0]));
}

#define OPERATOR(fn, op) static Value fn(Render *r, Value v, Args *a) { return compare(r, op, &#fn[5], v, a); }
OPERATOR(test_eq, OP_EQ)
OPERATOR(test_ne, OP_NE)
OPERATOR(test_lt, OP_LT)
OPERATOR(test_le, OP_LE)
OPERATOR(test_gt, OP_GT)
OPERATOR(test_ge, OP_GE)

// Identity: of small values their equality, of the rest whether they are one object.
static Value test_sameas(Render *r, Value v, Args *a)
{
    Value other = a->v[0];
    if (v.kind != other.kind) return v_bool(false);
    return v_bool(v.kind <= V_STRING ? value_equal(r, v, other) : v.seq == other.seq);
}

static Value test_lower(Render *r, Value v, Args *a)
{
    (void)a;
    v = value_to_str(r, v);
    return call_builtin(r, method_find(v, v_text("islower")), v, &(Args){0});
}

static Value test_upper(Render *r, Value v, Args *a)
{
    (void)a;
    v = value_to_str(r, v);
    return call_builtin(r, method_find(v, v_text("isupper")), v, &(Args){0});
}

static const Builtin tests[] = {
    {"odd", "test_odd", "", test_odd}, {"even", "test_even", "", test_even},
    {"divisibleby", "test_divisibleby", "num", test_divisibleby}, {"defined", "test_defined", "", test_defined},
    {"undefined", "test_undefined", "", test_undefined}, {"filter", "test_filter", "@", test_filter},
    {"test", "test_test", "@", test_test}, {"none", "test_none", "", test_none},
    {"boolean", "test_boolean", "", test_boolean}, {"false", "test_false", "", test_false},
    {"true", "test_true", "", test_true}, {"integer", "test_integer", "", test_integer},
    {"float", "test_float", "", test_float}, {"lower", "test_lower", "", test_lower},
    {"upper", "test_upper", "", test_upper}, {"string", "test_string", "", test_string},
    {"mapping", "test_mapping", "", test_mapping}, {"number", "test_number", "", test_number},
    {"sequence", "test_sequence", "", test_sequence}, {"iterable", "test_iterable", "", test_iterable},
    {"callable", "callable", "", test_callable}, {"sameas", "test_sameas", "other", test_sameas},
    {"escaped", "test_escaped", "", test_escaped}, {"in", "test_in", "seq", test_in},
    {"==", "eq", NULL, test_eq}, {"eq", "eq", NULL, test_eq}, {"equalto", "eq", NULL, test_eq},
    {"!=", "ne", NULL, test_ne}, {"ne", "ne", NULL, test_ne},
    {">", "gt", NULL, test_gt}, {"gt", "gt", NULL, test_gt}, {"greaterthan", "gt", NULL, test_gt},
    {">=", "ge", NULL, test_ge}, {"ge", "ge", NULL, test_ge},
    {"<", "lt", NULL, test_lt}, {"lt", "lt", NULL, test_lt}, {"lessthan", "lt", NULL, test_lt},
    {"<=", "le", NULL, test_le}, {"le", "le", NULL, test_le},
};

const Builtin *test_find(Value name)
{
    for (size_t i = 0; i < COUNT(tests); i++)
        if (text_is(name, tests[i].name)) return &tests[i];
    return NULL;
}

// ---- global functions ---------------------------------------------------------------------------------------------

static Value make_range(Render *r, Value self, Args *a)
{
    (void)self;
    Int part[3] = {0, 0, 1};
    if (a->n_kw) fail_run(r, "range() takes no keyword arguments");
    if (a->n == 0 || a->n > 3)
        fail_run(r, "range expected at %s argument%s, got %zu", a->n ? "most 3" : "least 1", a->n ? "s" : "", a->n);
    for (size_t i = 0; i < a->n; i++) {
        if (!is_int(a->v[i]))
            fail_run(r, "'%s' object cannot be interpreted as an integer", type_name(a->v[i]));
        part[a->n == 1 ? 1 : i] = int_of(a->v[i]);
    }
    if (part[2] == 0) fail_run(r, "range() arg 3 must not be zero");
    Int far = (Int)1 << 100, n = 0;
    for (size_t i = 0; i < 3; i++)
        if (part[i] > far || part[i] < -far) n = MAX_RANGE + 1;
    if (n == 0 && (part[2] > 0 ? part[1] > part[0] : part[1] < part[0]))
        n = (part[1] - part[0] + part[2] + (part[2] > 0 ? -1 : 1)) / part[2];
    if (n > MAX_RANGE)
        fail_run(r, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).", MAX_RANGE);
    Seq *s = seq_new(r, (size_t)n);
    s->start = part[0];
    s->stop = part[1];
    s->step = part[2];
    for (Int i = 0; i < n; i++) seq_add(r, s, v_int(part[0] + i * part[2]));
    return v_seq(V_RANGE, s);
}

Dict *dict_from(Render *r, Value from)
{
    Dict *d = dict_new(r, 0);
    const Seq *pairs = from.kind == V_DICT ? dict_items(r, from.dict) : value_iterate(r, from);
    for (size_t i = 0; i < pairs->n; i++) {
        Value pair = pairs->items[i];
        if (!is_seq(pair) && pair.kind != V_STRING)
            fail_run(r, "cannot convert dictionary update sequence element #%zu to a sequence", i);
        const Seq *two = value_iterate(r, pair);
        if (two->n != 2)
            fail_run(r, "dictionary update sequence element #%zu has length %zu; 2 is required", i, two->n);
        dict_put(r, d, two->items[0], two->items[1]);
    }
    return d;
}

// dict(mapping or pairs, key=value, ...), which namespace() takes too.
static Dict *dict_from_args(Render *r, Args *a)
{
    if (a->n > 1) fail_run(r, "dict expected at most 1 argument, got %zu", a->n);
    Dict *d = a->n ? dict_from(r, a->v[0]) : dict_new(r, a->n_kw);
    for (size_t i = 0; i < a->n_kw; i++) dict_put(r, d, a->names[i], a->kw[i]);
    return d;
}

static Value make_dict(Render *r, Value self, Args *a)
{
    (void)self;
    return v_dict(dict_from_args(r, a));
}

static Value make_namespace(Render *r, Value self, Args *a)
{
    (void)self;
    Value v = v_dict(dict_from_args(r, a));
    v.kind = V_NAMESPACE;
    return v;
}

static Value make_cycler(Render *r, Value self, Args *a)
{
    (void)self;
    if (a->n == 0) fail_run(r, "at least one item has to be provided");
    Turns *t = render_take(r, 1, sizeof *t);
    *t = (Turns){.items = seq_new(r, a->n)};
    for (size_t i = 0; i < a->n; i++) seq_add(r, t->items, a->v[i]);
    return (Value){.kind = V_CYCLER, .turns = t};
}

static Value make_joiner(Render *r, Value self, Args *a)
{
    (void)self;
    Turns *t = render_take(r, 1, sizeof *t);
    *t = (Turns){.first = a->v[0].kind == V_MISSING ? v_text(", ") : a->v[0]};
    return (Value){.kind = V_JOINER, .turns = t};
}

static Value lipsum(Render *r, Value self, Args *a)
{
    (void)self;
    (void)a;
    fail_run(r, "lipsum() makes random text, but a template must print the same text each time");
}

static Value raise_exception(Render *r, Value self, Args *a)
{
    (void)self;
    fail_kind(r, "raise", "%s", value_chars(r, a->v[0]));
}

// The time is UTC if SOURCE_DATE_EPOCH fixes it, so that a file made from it is the same everywhere.
static Value strftime_now(Render *r, Value self, Args *a)
{
    (void)self;
    const char *fixed = getenv("SOURCE_DATE_EPOCH");
    time_t now = fixed ? (time_t)strtoll(fixed, NULL, 10) : time(NULL);
    struct tm parts;
    if (a->v[0].kind != V_STRING) fail_run(r, "strftime() argument 1 must be str, not %s", type_name(a->v[0]));
    if (!(fixed ? gmtime_r(&now, &parts) : localtime_r(&now, &parts))) fail_run(r, "this time has no calendar date");
    // Python gives microseconds for %f, and no zone to a time that has none.
    Value format = str_replace(r, a->v[0], v_text("%f"), v_text("000000"), -1);
    format = str_replace(r, format, v_text("%z"), v_text(""), -1);
    format = str_replace(r, format, v_text("%Z"), v_text(""), -1);
    size_t size = 256 + 32 * format.len;        // no field prints more than a long name of a day
    char *text = render_take(r, size, 1);
    return v_str(text, strftime(text, size, value_chars(r, format), &parts));
}

static const Builtin globals[] = {
    {"range", "range", NULL, make_range}, {"dict", "<dict>", NULL, make_dict},
    {"namespace", "<namespace>", NULL, make_namespace}, {"cycler", "<cycler>", NULL, make_cycler},
    {"joiner", "<joiner>", "sep=", make_joiner}, {"lipsum", "generate_lorem_ipsum", NULL, lipsum},
    {"raise_exception", "raise_exception", "message", raise_exception},
    {"strftime_now", "strftime_now", "format", strftime_now},
};

const Builtin *global_find(Value name)
{
    for (size_t i = 0; i < COUNT(globals); i++)
        if (text_is(name, globals[i].name)) return &globals[i];
    return NULL;
}
