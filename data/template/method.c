// jinja_method: the methods of str, list, dict and of Jinja's own objects, each a row in a table.
#include "jinja.h"

#define ROW(name, params, fn) {name, name, params, fn}
#define COUNT(table) (sizeof (table) / sizeof *(table))

static const Builtin *row_find(const Builtin *rows, size_t n, Value name)
{
    for (size_t i = 0; i < n; i++)
        if (rows[i].name[0] == name.s[0] && text_is(name, rows[i].name)) return &rows[i];
    return NULL;
}

// Methods written in C take their arguments by place, and CPython words their complaints in its own way.
static void check_count(Render *r, Args *a, const char *type, const char *name, size_t min, size_t max)
{
    if (a->n_kw) fail_run(r, "%s.%s() takes no keyword arguments", type, name);
    if (a->n >= min && a->n <= max) return;
    if (max == 0) fail_run(r, "%s.%s() takes no arguments (%zu given)", type, name, a->n);
    if (min == 1 && max == 1) fail_run(r, "%s.%s() takes exactly one argument (%zu given)", type, name, a->n);
    size_t bound = a->n < min ? min : max;
    fail_run(r, "%s expected at %s %zu argument%s, got %zu", name, a->n < min ? "least" : "most", bound,
             bound == 1 ? "" : "s", a->n);
}

static Value arg(const Args *a, size_t i) { return i < a->n ? a->v[i] : (Value){.kind = V_MISSING}; }

static Value arg_str(Render *r, const Args *a, size_t i, const char *method)
{
    Value v = arg(a, i);
    if (v.kind == V_STRING) return v;
    if (a->n <= 1) fail_run(r, "%s() argument must be str, not %s", method, type_name(v));
    fail_run(r, "%s() argument %zu must be str, not %s", method, i + 1, type_name(v));
}

static Int arg_int(Render *r, const Args *a, size_t i, Int otherwise) { return value_int_or(r, arg(a, i), otherwise); }

// ---- str ----------------------------------------------------------------------------------------------------------

#define CASE_METHOD(fn, rule) \
    static Value fn(Render *r, Value s, Args *a) \
    { \
        check_count(r, a, "str", &#fn[4], 0, 0); \
        return str_case(r, s, rule); \
    }
CASE_METHOD(str_upper, CASE_UPPER)
CASE_METHOD(str_lower, CASE_LOWER)
CASE_METHOD(str_title, CASE_TITLE)
CASE_METHOD(str_capitalize, CASE_CAPITAL)
CASE_METHOD(str_swapcase, CASE_SWAP)

static Value strip_by(Render *r, Value s, Args *a, const char *name, bool left, bool right)
{
    check_count(r, a, "str", name, 0, 1);
    if (is_given(arg(a, 0)) && a->v[0].kind != V_STRING) fail_run(r, "%s arg must be None or str", name);
    return str_strip(s, arg(a, 0), left, right);
}

static Value str_strip_(Render *r, Value s, Args *a) { return strip_by(r, s, a, "strip", true, true); }
static Value str_lstrip(Render *r, Value s, Args *a) { return strip_by(r, s, a, "lstrip", true, false); }
static Value str_rstrip(Render *r, Value s, Args *a) { return strip_by(r, s, a, "rstrip", false, true); }

static Value split_by(Render *r, Value s, Args *a, bool from_right)
{
    if (is_given(a->v[0]) && a->v[0].kind != V_STRING) fail_run(r, "must be str or None, not %s", type_name(a->v[0]));
    return v_seq(V_LIST, str_split(r, s, a->v[0], value_int_or(r, a->v[1], -1), from_right));
}

static Value str_split_(Render *r, Value s, Args *a) { return split_by(r, s, a, false); }
static Value str_rsplit(Render *r, Value s, Args *a) { return split_by(r, s, a, true); }
static Value str_splitlines(Render *r, Value s, Args *a)
{
    return v_seq(V_LIST, str_lines(r, s, value_truth(r, a->v[0])));
}

// Positions from and to of a method like find(part, from, to), in code points, as the part of s between them.
static Value str_window(Render *r, Value s, const Args *a, size_t first, Int *from)
{
    Int n = (Int)str_count(s), to;
    *from = is_given(arg(a, first)) ? arg_int(r, a, first, 0) : 0;
    to = is_given(arg(a, first + 1)) ? arg_int(r, a, first + 1, 0) : n;
    if (*from < 0) *from = *from + n < 0 ? 0 : *from + n;
    if (to < 0) to = to + n < 0 ? 0 : to + n;
    if (*from > n) return (Value){.kind = V_MISSING};
    return str_slice(s, (size_t)*from, to > *from ? (size_t)to : (size_t)*from);
}

static Int find_in(Render *r, Value s, Args *a, const char *name, bool last)
{
    check_count(r, a, "str", name, 1, 3);
    Int from;
    Value part = a->v[0], window = str_window(r, s, a, 1, &from);
    if (part.kind != V_STRING) fail_run(r, "must be str, not %s", type_name(part));
    size_t at = window.kind == V_MISSING ? SIZE_MAX : str_find(window, part, 0);
    if (at == SIZE_MAX) return -1;
    if (last)
        for (at = window.len - part.len; memcmp(window.s + at, part.s, part.len) != 0; at--) continue;
    return from + (Int)str_count(v_str(window.s, at));
}

static Value str_find_(Render *r, Value s, Args *a) { return v_int(find_in(r, s, a, "find", false)); }
static Value str_rfind(Render *r, Value s, Args *a) { return v_int(find_in(r, s, a, "rfind", true)); }

static Value found(Render *r, Int at)
{
    if (at < 0) fail_run(r, "substring not found");
    return v_int(at);
}

static Value str_index(Render *r, Value s, Args *a) { return found(r, find_in(r, s, a, "index", false)); }
static Value str_rindex(Render *r, Value s, Args *a) { return found(r, find_in(r, s, a, "rindex", true)); }

static Value str_count_(Render *r, Value s, Args *a)
{
    check_count(r, a, "str", "count", 1, 3);
    Int from, n = 0;
    Value part = a->v[0], window = str_window(r, s, a, 1, &from);
    if (part.kind != V_STRING) fail_run(r, "must be str, not %s", type_name(part));
    if (window.kind == V_MISSING) return v_int(0);
    if (part.len == 0) return v_int((Int)str_count(window) + 1);
    for (size_t at = 0; (at = str_find(window, part, at)) != SIZE_MAX; at += part.len) n++;
    return v_int(n);
}

static bool has_end(Value s, Value part, bool at_start)
{
    return part.len <= s.len && memcmp(at_start ? s.s : s.s + s.len - part.len, part.s, part.len) == 0;
}

static Value ends_with(Render *r, Value s, Args *a, const char *name, bool at_start)
{
    check_count(r, a, "str", name, 1, 3);
    Int from;
    Value part = a->v[0], window = str_window(r, s, a, 1, &from);
    if (part.kind != V_STRING && part.kind != V_TUPLE)
        fail_run(r, "%s first arg must be str or a tuple of str, not %s", name, type_name(part));
    if (window.kind == V_MISSING) return v_bool(false);
    if (part.kind == V_STRING) return v_bool(has_end(window, part, at_start));
    for (size_t i = 0; i < part.seq->n; i++) {
        Value one = part.seq->items[i];
        if (one.kind != V_STRING) fail_run(r, "tuple for %s must only contain str, not %s", name, type_name(one));
        if (has_end(window, one, at_start)) return v_bool(true);
    }
    return v_bool(false);
}

static Value str_startswith(Render *r, Value s, Args *a) { return ends_with(r, s, a, "startswith", true); }
static Value str_endswith(Render *r, Value s, Args *a) { return ends_with(r, s, a, "endswith", false); }

static Value str_replace_(Render *r, Value s, Args *a)
{
    check_count(r, a, "str", "replace", 2, 3);
    Value old = arg_str(r, a, 0, "replace"), new = arg_str(r, a, 1, "replace");
    return str_replace(r, s, old, new, arg_int(r, a, 2, -1));
}

static Value str_join_(Render *r, Value s, Args *a)
{
    check_count(r, a, "str", "join", 1, 1);
    if (!is_seq(a->v[0]) && a->v[0].kind != V_STRING && a->v[0].kind != V_DICT && a->v[0].kind != V_UNDEFINED)
        fail_run(r, "can only join an iterable");
    const Seq *parts = value_iterate(r, a->v[0]);
    for (size_t i = 0; i < parts->n; i++)
        if (parts->items[i].kind != V_STRING)
            fail_run(r, "sequence item %zu: expected str instance, %s found", i, type_name(parts->items[i]));
    return str_join(r, s, parts);
}

static Value pad_by(Render *r, Value s, Args *a, const char *name, int side)
{
    check_count(r, a, "str", name, 1, 2);
    Value fill = arg(a, 1);
    if (fill.kind == V_MISSING) fill = v_text(" ");
    if (fill.kind != V_STRING) fail_run(r, "The fill character must be a unicode character, not %s", type_name(fill));
    if (str_count(fill) != 1) fail_run(r, "The fill character must be exactly one character long");
    return str_pad(r, s, arg_int(r, a, 0, 0), fill, side);
}

static Value str_ljust(Render *r, Value s, Args *a) { return pad_by(r, s, a, "ljust", -1); }
static Value str_rjust(Render *r, Value s, Args *a) { return pad_by(r, s, a, "rjust", 1); }
static Value str_center(Render *r, Value s, Args *a) { return pad_by(r, s, a, "center", 0); }

static Value str_zfill(Render *r, Value s, Args *a)
{
    check_count(r, a, "str", "zfill", 1, 1);
    size_t mark = r->out->len, sign = s.len > 0 && (s.s[0] == '-' || s.s[0] == '+');
    Value digits = str_pad(r, v_str(s.s + sign, s.len - sign), arg_int(r, a, 0, 0) - (Int)sign, v_text("0"), 1);
    out_add(r, s.s, sign);
    out_add(r, digits.s, digits.len);
    return out_cut(r, mark);
}

typedef bool (*CodeTest)(uint32_t c);

static bool code_is_digit(uint32_t c) { return c >= '0' && c <= '9'; }
static bool code_is_alnum(uint32_t c) { return code_is_digit(c) || code_is_letter(c); }
static bool code_is_white(uint32_t c) { char p[4]; return space_at(p, p + utf8_encode(c, p)) > 0; }
static bool code_is_ascii(uint32_t c) { return c < 128; }

static bool all_codes(Value s, CodeTest test)
{
    for (const char *p = s.s, *end = s.s + s.len; p < end; p += char_len(p, end))
        if (!test(char_code(p, end))) return false;
    return s.len > 0;
}

// There is a letter with this case and none with the other.
static bool is_cased(Value s, CodeTest test, CodeTest other)
{
    bool any = false;
    for (const char *p = s.s, *end = s.s + s.len; p < end; p += char_len(p, end)) {
        if (other(char_code(p, end))) return false;
        any |= test(char_code(p, end));
    }
    return any;
}

static bool is_title(Value s)
{
    bool any = false, in_word = false;
    for (const char *p = s.s, *end = s.s + s.len; p < end; p += char_len(p, end)) {
        uint32_t c = char_code(p, end);
        if (code_is_upper(c) ? in_word : code_is_lower(c) && !in_word) return false;
        any |= in_word = code_is_upper(c) || code_is_lower(c);
    }
    return any;
}

#define IS_METHOD(fn, expr) \
    static Value fn(Render *r, Value s, Args *a) \
    { \
        check_count(r, a, "str", &#fn[4], 0, 0); \
        return v_bool(expr); \
    }
IS_METHOD(str_isdigit, all_codes(s, code_is_digit))
IS_METHOD(str_isalpha, all_codes(s, code_is_letter))
IS_METHOD(str_isalnum, all_codes(s, code_is_alnum))
IS_METHOD(str_isspace, all_codes(s, code_is_white))
IS_METHOD(str_isascii, s.len == 0 || all_codes(s, code_is_ascii))
IS_METHOD(str_isupper, is_cased(s, code_is_upper, code_is_lower))
IS_METHOD(str_islower, is_cased(s, code_is_lower, code_is_upper))
IS_METHOD(str_istitle, is_title(s))

static Value str_removeprefix(Render *r, Value s, Args *a)
{
    check_count(r, a, "str", "removeprefix", 1, 1);
    Value part = arg_str(r, a, 0, "removeprefix");
    return has_end(s, part, true) ? v_str(s.s + part.len, s.len - part.len) : s;
}

static Value str_removesuffix(Render *r, Value s, Args *a)
{
    check_count(r, a, "str", "removesuffix", 1, 1);
    Value part = arg_str(r, a, 0, "removesuffix");
    return has_end(s, part, false) ? v_str(s.s, s.len - part.len) : s;
}

static Value partition(Render *r, Value s, Args *a, const char *name, bool last)
{
    check_count(r, a, "str", name, 1, 1);
    Value sep = a->v[0], empty = v_text("");
    if (sep.kind != V_STRING) fail_run(r, "must be str, not %s", type_name(sep));
    const Seq *two = str_split(r, s, sep, 1, last);
    bool hit = two->n == 2;
    Seq *parts = seq_new(r, 3);
    seq_add(r, parts, hit || !last ? two->items[0] : empty);
    seq_add(r, parts, hit ? sep : empty);
    seq_add(r, parts, hit ? two->items[1] : last ? s : empty);
    return v_seq(V_TUPLE, parts);
}

static Value str_partition(Render *r, Value s, Args *a) { return partition(r, s, a, "partition", false); }
static Value str_rpartition(Render *r, Value s, Args *a) { return partition(r, s, a, "rpartition", true); }
static Value str_format_(Render *r, Value s, Args *a) { return str_format(r, s, a); }

static const Builtin str_methods[] = {
    ROW("strip", NULL, str_strip_), ROW("split", "sep= maxsplit=", str_split_), ROW("startswith", NULL, str_startswith),
    ROW("endswith", NULL, str_endswith), ROW("replace", NULL, str_replace_), ROW("lstrip", NULL, str_lstrip),
    ROW("rstrip", NULL, str_rstrip), ROW("rsplit", "sep= maxsplit=", str_rsplit), ROW("upper", NULL, str_upper),
    ROW("lower", NULL, str_lower), ROW("title", NULL, str_title), ROW("capitalize", NULL, str_capitalize),
    ROW("casefold", NULL, str_lower), ROW("swapcase", NULL, str_swapcase), ROW("find", NULL, str_find_),
    ROW("rfind", NULL, str_rfind), ROW("index", NULL, str_index), ROW("rindex", NULL, str_rindex),
    ROW("count", NULL, str_count_), ROW("join", NULL, str_join_), ROW("format", NULL, str_format_),
    ROW("zfill", NULL, str_zfill), ROW("ljust", NULL, str_ljust), ROW("rjust", NULL, str_rjust),
    ROW("center", NULL, str_center), ROW("isdigit", NULL, str_isdigit), ROW("isdecimal", NULL, str_isdigit),
    ROW("isnumeric", NULL, str_isdigit), ROW("isalpha", NULL, str_isalpha), ROW("isalnum", NULL, str_isalnum),
    ROW("isspace", NULL, str_isspace), ROW("isascii", NULL, str_isascii), ROW("isupper", NULL, str_isupper),
    ROW("islower", NULL, str_islower), ROW("istitle", NULL, str_istitle),
    ROW("removeprefix", NULL, str_removeprefix), ROW("removesuffix", NULL, str_removesuffix),
    ROW("partition", NULL, str_partition), ROW("rpartition", NULL, str_rpartition),
    ROW("splitlines", "keepends=", str_splitlines),
};

// ---- list, dict, and Jinja's objects ------------------------------------------------------------------------------

static Value list_index(Render *r, Value v, Args *a)
{
    check_count(r, a, "list", "index", 1, 3);
    Int n = (Int)v.seq->n, from = arg_int(r, a, 1, 0), to = arg_int(r, a, 2, n);
    if (from < 0) from = from + n < 0 ? 0 : from + n;
    if (to < 0) to += n;
    for (Int i = from; i < to && i < n; i++)
        if (value_equal(r, v.seq->items[i], a->v[0])) return v_int(i);
    if (v.kind == V_TUPLE) fail_run(r, "tuple.index(x): x not in tuple");
    fail_run(r, "%s is not in %s", repr_text(r, a->v[0]), type_name(v));
}

static Value list_count(Render *r, Value v, Args *a)
{
    check_count(r, a, type_name(v), "count", 1, 1);
    Int n = 0;
    for (size_t i = 0; i < v.seq->n; i++) n += value_equal(r, v.seq->items[i], a->v[0]);
    return v_int(n);
}

static Value list_copy(Render *r, Value v, Args *a)
{
    check_count(r, a, "list", "copy", 0, 0);
    return value_slice(r, v, v_none(), v_none(), v_none());
}

// The sandbox forgets to forbid pop and clear, and templates use pop. The list is this render's own.
static Value list_pop(Render *r, Value v, Args *a)
{
    check_count(r, a, "list", "pop", 0, 1);
    Int n = (Int)v.seq->n, i = arg_int(r, a, 0, -1);
    if (n == 0) fail_run(r, "pop from empty list");
    if (i < 0) i += n;
    if (i < 0 || i >= n) fail_run(r, "pop index out of range");
    Value item = v.seq->items[i];
    memmove(v.seq->items + i, v.seq->items + i + 1, (size_t)(n - i - 1) * sizeof item);
    v.seq->n--;
    return item;
}

static Value list_clear(Render *r, Value v, Args *a)
{
    check_count(r, a, "list", "clear", 0, 0);
    v.seq->n = 0;
    return v_none();
}

static const Builtin list_methods[] = {
    ROW("index", NULL, list_index), ROW("count", NULL, list_count), ROW("copy", NULL, list_copy),
    ROW("pop", NULL, list_pop), ROW("clear", NULL, list_clear),
};

static Value dict_get_(Render *r, Value v, Args *a)
{
    check_count(r, a, "dict", "get", 1, 2);
    if (!is_hashable(r, a->v[0])) fail_run(r, "unhashable type: '%s'", type_name(a->v[0]));
    const Value *found_value = dict_get(r, v.dict, a->v[0]);
    return found_value ? *found_value : a->n > 1 ? a->v[1] : v_none();
}

static Value view(Render *r, const char *type, const Seq *items)
{
    Seq *s = render_take(r, 1, sizeof *s);
    *s = *items;
    s->type = type;
    return v_seq(V_VIEW, s);
}

static Value dict_items_(Render *r, Value v, Args *a)
{
    check_count(r, a, "dict", "items", 0, 0);
    return view(r, "dict_items", dict_items(r, v.dict));
}

static Value dict_keys(Render *r, Value v, Args *a)
{
    check_count(r, a, "dict", "keys", 0, 0);
    return view(r, "dict_keys", &(Seq){.items = v.dict->keys, .n = v.dict->n});
}

static Value dict_values(Render *r, Value v, Args *a)
{
    check_count(r, a, "dict", "values", 0, 0);
    return view(r, "dict_values", &(Seq){.items = v.dict->vals, .n = v.dict->n});
}

static Value dict_copy(Render *r, Value v, Args *a)
{
    check_count(r, a, "dict", "copy", 0, 0);
    return v_dict(dict_from(r, v));
}

static const Builtin dict_methods[] = {
    ROW("get", NULL, dict_get_), ROW("items", NULL, dict_items_), ROW("keys", NULL, dict_keys),
    ROW("values", NULL, dict_values), ROW("copy", NULL, dict_copy),
};

static Value loop_cycle(Render *r, Value v, Args *a)
{
    if (a->n == 0) fail_run(r, "no items for cycling given");
    return a->v[v.loop->index0 % a->n];
}

static Value loop_changed(Render *r, Value v, Args *a)
{
    Seq *now = seq_new(r, a->n);
    for (size_t i = 0; i < a->n; i++) seq_add(r, now, a->v[i]);
    Value before = v.loop->changed;
    v.loop->changed = v_seq(V_TUPLE, now);
    return v_bool(before.kind == V_MISSING || !value_equal(r, before, v.loop->changed));
}

static const Builtin loop_methods[] = { ROW("cycle", NULL, loop_cycle), ROW("changed", NULL, loop_changed) };

static Value cycler_next(Render *r, Value v, Args *a)
{
    check_count(r, a, "Cycler", "next", 0, 0);
    Turns *t = v.turns;
    Value now = t->items->items[t->at];
    t->at = (t->at + 1) % t->items->n;
    return now;
}

static Value cycler_reset(Render *r, Value v, Args *a)
{
    check_count(r, a, "Cycler", "reset", 0, 0);
    v.turns->at = 0;
    return v_none();
}

static const Builtin cycler_methods[] = { ROW("next", NULL, cycler_next), ROW("reset", NULL, cycler_reset) };

const Builtin *method_find(Value obj, Value name)
{
    if (name.len == 0) return NULL;
    switch (obj.kind) {
    case V_STRING: return row_find(str_methods, COUNT(str_methods), name);
    case V_LIST: return row_find(list_methods, COUNT(list_methods), name);
    case V_TUPLE: case V_RANGE: return row_find(list_methods, 2, name);
    case V_DICT: return row_find(dict_methods, COUNT(dict_methods), name);
    case V_LOOP: return row_find(loop_methods, COUNT(loop_methods), name);
    case V_CYCLER: return row_find(cycler_methods, COUNT(cycler_methods), name);
    default: return NULL;
    }
}
