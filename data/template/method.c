// jinja_method: the methods of strings, lists, dicts and loops, and the filters that make text.
#include "jinja.h"

// ---- strings ------------------------------------------------------------------------------------------------------

// An argument of a method must be a string; a filter takes every value as text.
enum { ANY_VALUE = 1 };
static Value text_of(Render *r, Value v, int how)
{
    if (how != ANY_VALUE) need_kind(r, v, SET(V_STRING), "a method of strings");
    return value_to_str(r, v);
}

BUILTIN(change_case) { return str_case(r, value_to_str(r, v), (CaseRule)a->how); }

BUILTIN(strip)
{
    if (is_a(a->v[0], GIVEN)) need_kind(r, a->v[0], SET(V_STRING), "strip");
    return str_strip(value_to_str(r, v), a->v[0], a->how);
}

BUILTIN(split) { return v_seq(V_LIST, str_split(r, v, a->v[0], value_int_or(r, a->v[1], -1), a->how == SIDE_RIGHT)); }
BUILTIN(split_lines) { return v_seq(V_LIST, str_lines(r, v, value_truth_or(r, a->v[0], false))); }

BUILTIN(replace)
{
    int64_t count = is_a(a->v[2], GIVEN) ? value_int_or(r, a->v[2], -1) : -1;
    Value old = text_of(r, a->v[0], a->how), new = text_of(r, a->v[1], a->how);
    return str_replace(r, value_to_str(r, v), old, new, count);
}

BUILTIN(join)
{
    const Seq *parts = value_iterate(r, a->v[0]);
    for (size_t i = 0; i < parts->n; i++) text_of(r, parts->items[i], 0);
    return str_join(r, v, parts);
}

// Of a method like find(part, from, to): the part of s between the positions; V_MISSING if `from` is behind its end.
static Value window_of(Render *r, Value s, const Args *a, int64_t *from)
{
    int64_t n = (int64_t)str_count(s), to = is_a(a->v[2], GIVEN) ? value_int_or(r, a->v[2], 0) : n;
    *from = is_a(a->v[1], GIVEN) ? value_int_or(r, a->v[1], 0) : 0;
    if (*from < 0) *from = *from + n < 0 ? 0 : *from + n;
    if (to < 0) to = to + n < 0 ? 0 : to + n;
    return *from > n ? v_missing() : str_slice(s, (size_t)*from, to > *from ? (size_t)to : (size_t)*from);
}

enum { FIND_LAST = 1, FIND_OR_FAIL = 2 };
BUILTIN(find)
{
    int64_t from;
    Value part = text_of(r, a->v[0], 0), window = window_of(r, v, a, &from);
    size_t at = window.kind == V_MISSING ? SIZE_MAX : str_find(window, part, a->how & FIND_LAST);
    if (at == SIZE_MAX && (a->how & FIND_OR_FAIL)) fail_run(r, "the text to be found is not there");
    return v_int(at == SIZE_MAX ? -1 : from + (int64_t)str_count(v_str(window.s, at)));
}

static bool has_end(Value s, Value part, int side)
{
    return part.len <= s.len && memcmp(side == SIDE_LEFT ? s.s : s.s + s.len - part.len, part.s, part.len) == 0;
}

BUILTIN(starts_or_ends)
{
    int64_t from;
    Value part = a->v[0], window = window_of(r, v, a, &from);
    const Seq *parts = part.kind == V_TUPLE ? part.seq : &(Seq){.items = &part, .n = 1};
    bool hit = false;
    for (size_t i = 0; i < parts->n && !hit; i++) {
        part = text_of(r, parts->items[i], 0);
        hit = window.kind != V_MISSING && has_end(window, part, a->how);
    }
    return v_bool(hit);
}

BUILTIN(remove_end)
{
    Value part = text_of(r, a->v[0], 0);
    if (!has_end(v, part, a->how)) return v;
    return v_str(v.s + (a->how == SIDE_LEFT ? part.len : 0), v.len - part.len);
}

// ---- filters ------------------------------------------------------------------------------------------------------

BUILTIN(escape) { return v.markup && !a->how ? v : str_html(r, value_to_str(r, v)); }

// string and safe.
BUILTIN(string)
{
    v = value_to_str(r, v);
    v.markup |= a->how;
    return v;
}

BUILTIN(indent)
{
    Value width = a->v[0];
    need_kind(r, v, SET(V_STRING), "indent");
    bool first = value_truth_or(r, a->v[1], false), blank = value_truth_or(r, a->v[2], false);
    size_t mark = r->out->len;
    out_value(r, v);
    out_text(r, "\n");                          // so that a last, empty line counts as one
    const Seq *lines = str_lines(r, out_cut(r, mark), false);
    for (int64_t n = width.kind == V_STRING ? 0 : value_int_or(r, width, 4); n > 0; n--) out_text(r, " ");
    if (width.kind != V_STRING) width = out_cut(r, mark);
    for (size_t i = 0; i < lines->n; i++) {
        Value line = lines->items[i];
        if (i) out_text(r, "\n");
        if (i ? line.len || blank : first) out_value(r, width);
        out_value(r, line);
    }
    return out_cut(r, mark);
}

// json.dumps(v, ensure_ascii=False, indent=None, separators=None, sort_keys=False), which is transformers' own tojson.
BUILTIN(tojson)
{
    Value indent = a->v[1], separators = a->v[2];
    Style style = {true, value_truth_or(r, a->v[0], false), value_truth_or(r, a->v[3], false),
                   indent, v_text(is_a(indent, GIVEN) ? "," : ", "), v_text(": ")};
    if (is_a(indent, GIVEN)) need_kind(r, indent, INTS | SET(V_STRING), "the indent of tojson");
    if (is_a(separators, GIVEN)) {
        const Seq *two = value_iterate(r, separators);
        if (two->n != 2) fail_run(r, "tojson needs two separators, but got %zu", two->n);
        style.item_sep = two->items[0];
        style.key_sep = two->items[1];
    }
    size_t mark = r->out->len;
    value_write(r, v, &style, 0);
    return out_cut(r, mark);
}

// ---- list, dict, loop ---------------------------------------------------------------------------------------------

// The sandbox forgets to forbid pop, and templates use it. The list is this render's own.
BUILTIN(list_pop)
{
    int64_t n = (int64_t)v.seq->n, i = value_int_or(r, a->v[0], -1);
    if (i < 0) i += n;
    if (i < 0 || i >= n) fail_run(r, "pop found no such item in a list of %lld", (long long)n);
    return seq_remove(v.seq, (size_t)i);
}

BUILTIN(get)
{
    need_hashable(r, a->v[0]);
    const Value *member = dict_get(r, v.dict, a->v[0]);
    return member ? *member : a->v[1].kind == V_MISSING ? v_none() : a->v[1];
}

enum { KEYS, VALUES, ITEMS };
BUILTIN(view)
{
    static const char *const names[] = {[KEYS] = "dict_keys", [VALUES] = "dict_values", [ITEMS] = "dict_items"};
    const Dict *d = v.dict;
    Seq *s = a->how == ITEMS ? dict_items(r, d) : seq_copy(r, a->how == KEYS ? &d->keys : &d->vals);
    s->name = names[a->how];
    return v_seq(V_VIEW, s);
}

BUILTIN(cycle)
{
    if (a->n == 0) fail_run(r, "loop.cycle needs at least one value");
    return a->v[v.loop->index0 % a->n];
}

BUILTIN(changed)
{
    Value before = v.loop->changed, now = v_seq(V_TUPLE, seq_copy(r, &(Seq){.items = a->v, .n = a->n}));
    v.loop->changed = now;
    return v_bool(before.kind == V_MISSING || !value_equal(r, before, now));
}

// ---- the table ----------------------------------------------------------------------------------------------------

// To add a method: a row with the kinds that have it. Names that Python or Jinja knows and this engine refuses stand
// in a row without a function.
enum { STR = SET(V_STRING), BOTH = SIDE_LEFT | SIDE_RIGHT };
static const Builtin rows[] = {
    {"upper", STR | FILTER, "", change_case, CASE_UPPER, 0},
    {"lower", STR | FILTER, "", change_case, CASE_LOWER, 0},
    {"capitalize", STR | FILTER, "", change_case, CASE_CAPITAL, 0},
    {"title", STR, "", change_case, CASE_TITLE, 0},
    {"title", FILTER, "", change_case, CASE_WORDS, 0},
    {"strip", STR, "_", strip, BOTH, 0},
    {"trim", FILTER, "chars", strip, BOTH, 0},
    {"lstrip", STR, "_", strip, SIDE_LEFT, 0},
    {"rstrip", STR, "_", strip, SIDE_RIGHT, 0},
    {"split", STR, "sep maxsplit", split, SIDE_LEFT, 0},
    {"rsplit", STR, "sep maxsplit", split, SIDE_RIGHT, 0},
    {"splitlines", STR, "keepends", split_lines, 0, 0},
    {"replace", STR, "_ _ _", replace, 0, 2},
    {"replace", FILTER, "old new count", replace, ANY_VALUE, 2},
    {"join", STR, "_", join, 0, 1},
    {"find", STR, "_ _ _", find, 0, 1},
    {"rfind", STR, "_ _ _", find, FIND_LAST, 1},
    {"index", STR, "_ _ _", find, FIND_OR_FAIL, 1},
    {"rindex", STR, "_ _ _", find, FIND_LAST | FIND_OR_FAIL, 1},
    {"startswith", STR, "_ _ _", starts_or_ends, SIDE_LEFT, 1},
    {"endswith", STR, "_ _ _", starts_or_ends, SIDE_RIGHT, 1},
    {"removeprefix", STR, "_", remove_end, SIDE_LEFT, 1},
    {"removesuffix", STR, "_", remove_end, SIDE_RIGHT, 1},
    {"string", FILTER, "", string, false, 0},
    {"safe", FILTER, "", string, true, 0},
    {"escape e", FILTER, "", escape, false, 0},
    {"forceescape", FILTER, "", escape, true, 0},
    {"indent", FILTER, "width first blank", indent, 0, 0},
    {"tojson", FILTER, "ensure_ascii indent separators sort_keys", tojson, 0, 0},
    {"pop", SET(V_LIST), "_", list_pop, 0, 0},
    {"get", SET(V_DICT), "_ _", get, 0, 1},
    {"keys", SET(V_DICT), "", view, KEYS, 0},
    {"values", SET(V_DICT), "", view, VALUES, 0},
    {"items", SET(V_DICT), "", view, ITEMS, 0},
    {"cycle", SET(V_LOOP), NULL, cycle, 0, 0},
    {"changed", SET(V_LOOP), NULL, changed, 0, 0},
    {.name = "casefold center count encode expandtabs format format_map isalnum isalpha isascii isdecimal isdigit "
             "isidentifier islower isnumeric isprintable isspace istitle isupper ljust maketrans partition rjust "
             "rpartition swapcase translate zfill", .of = STR},
    {.name = "clear copy", .of = SET(V_LIST)},
    {.name = "count index", .of = ARRAYS},
    {.name = "copy fromkeys", .of = SET(V_DICT)},
    {.name = "center filesizeformat format pprint striptags truncate urlencode urlize wordcount wordwrap xmlattr",
     .of = FILTER},
    {0},
};

const Builtin *method_find(Value obj, Value name) { return row_find(rows, SET(obj.kind), name); }
const Builtin *text_filter_find(Value name) { return row_find(rows, FILTER, name); }
