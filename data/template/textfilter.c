// jinja_textfilter: the filters that make text out of text, and tojson, in a table at the end.
#include "jinja.h"

static Value text(Render *r, Value v) { return value_to_str(r, v); }

// For filters that go on with a string as it comes and fail in Python's own way on anything else.
static Value need_text(Render *r, Value v, const char *method)
{
    if (v.kind == V_UNDEFINED) fail_undefined(r, v);
    if (v.kind != V_STRING) fail_run(r, "'%s' object has no attribute '%s'", type_name(v), method);
    return v;
}

static Value with_markup(Value v, bool markup)
{
    v.markup = markup;
    return v;
}

#define FILTER(fn, expr) \
    static Value fn(Render *r, Value v, Args *a) { (void)a; return expr; }
FILTER(do_upper, str_case(r, text(r, v), CASE_UPPER))
FILTER(do_lower, str_case(r, text(r, v), CASE_LOWER))
FILTER(do_capitalize, str_case(r, text(r, v), CASE_CAPITAL))
FILTER(do_string, text(r, v))
FILTER(do_escape, v.markup ? v : str_html(r, text(r, v)))
FILTER(do_forceescape, str_html(r, text(r, v)))
FILTER(do_safe, with_markup(text(r, v), true))
FILTER(do_center, str_pad(r, text(r, v), value_int_or(r, a->v[0], 80), v_text(" "), 0))

static Value do_trim(Render *r, Value v, Args *a)
{
    if (is_given(a->v[0]) && a->v[0].kind != V_STRING) fail_run(r, "strip arg must be None or str");
    return str_strip(text(r, v), a->v[0], true, true);
}

// Every word begins with a capital, words beginning behind blanks, hyphens and opening brackets.
static Value do_title(Render *r, Value v, Args *a)
{
    (void)a;
    Value s = text(r, v);
    size_t mark = r->out->len;
    for (const char *p = s.s, *end = p + s.len, *word = p; p <= end; p += p < end ? char_len(p, end) : 1) {
        bool edge = p == end || *p == '-' || (*p && strchr("({[<", *p)) || space_at(p, end);
        if (!edge) continue;
        Value part = str_case(r, v_str(word, (size_t)(p - word)), CASE_WORD);
        out_add(r, part.s, part.len);
        size_t n = p < end ? char_len(p, end) : 0;
        out_add(r, p, n);
        word = p + n;
    }
    return out_cut(r, mark);
}

static Value do_replace(Render *r, Value v, Args *a)
{
    Int count = is_given(a->v[2]) ? value_int_or(r, a->v[2], -1) : -1;
    return str_replace(r, text(r, v), text(r, a->v[0]), text(r, a->v[1]), count);
}

static Value do_format(Render *r, Value v, Args *a)
{
    if (a->n && a->n_kw) fail_run(r, "can't handle positional and keyword arguments at the same time");
    Seq *args = seq_new(r, a->n);
    Dict *named = dict_new(r, a->n_kw);
    for (size_t i = 0; i < a->n; i++) seq_add(r, args, a->v[i]);
    for (size_t i = 0; i < a->n_kw; i++) dict_put(r, named, a->names[i], a->kw[i]);
    return str_percent(r, text(r, v), a->n_kw ? v_dict(named) : v_seq(V_TUPLE, args));
}

static Value do_indent(Render *r, Value v, Args *a)
{
    Value s = v, width = a->v[0];
    if (v.kind == V_LIST) fail_run(r, "'list' object has no attribute 'splitlines'");
    if (v.kind == V_UNDEFINED) fail_undefined(r, v);
    if (v.kind != V_STRING) fail_run(r, "unsupported operand type(s) for +=: '%s' and 'str'", type_name(v));
    if (width.kind != V_STRING) width = str_pad(r, v_text(""), value_int_or(r, width, 4), v_text(" "), 1);
    bool first = value_truth_or(r, a->v[1], false), blank = value_truth_or(r, a->v[2], false);
    size_t mark = r->out->len;
    out_add(r, s.s, s.len);
    out_text(r, "\n");                          // so that a last, empty line counts as one
    const Seq *lines = str_lines(r, out_cut(r, mark), false);
    for (size_t i = 0; i < lines->n; i++) {
        Value line = lines->items[i];
        if (i) out_text(r, "\n");
        if (i ? line.len || blank : first) out_add(r, width.s, width.len);
        out_add(r, line.s, line.len);
    }
    return out_cut(r, mark);
}

static Value do_truncate(Render *r, Value v, Args *a)
{
    Value end = a->v[2].kind == V_MISSING ? v_text("...") : need_text(r, a->v[2], "len");
    Int length = value_int_or(r, a->v[0], 255), tail = (Int)str_count(end);
    Int leeway = is_given(a->v[3]) ? value_int_or(r, a->v[3], 5) : 5;
    if (length < tail) fail_run(r, "expected length >= %d, got %d", (int)tail, (int)length);
    if (leeway < 0) fail_run(r, "expected leeway >= 0, got %d", (int)leeway);
    if ((Int)value_length(r, v) <= length + leeway) return v;
    Value s = value_slice(r, v, v_none(), v_int(length - tail), v_none());
    need_text(r, s, "rsplit");
    if (!value_truth_or(r, a->v[1], false)) s = str_split(r, s, v_text(" "), 1, true)->items[0];
    return op_binary(r, OP_ADD, s, end);
}

static bool is_word_code(uint32_t c) { return code_is_letter(c) || c == '_' || (c >= '0' && c <= '9'); }

static Value do_wordcount(Render *r, Value v, Args *a)
{
    (void)a;
    Value s = text(r, v);
    Int n = 0;
    bool inside = false;
    for (const char *p = s.s, *end = p + s.len; p < end; p += char_len(p, end)) {
        bool word = is_word_code(char_code(p, end));
        n += word && !inside;
        inside = word;
    }
    return v_int(n);
}

// ---- wrapping -----------------------------------------------------------------------------------------------------

// The bytes of the piece at p that may not be broken: blanks, or a word up to a hyphen between letters.
static size_t wrap_piece(const char *p, const char *end, bool on_hyphens)
{
    const char *q = p;
    bool blank = space_at(p, end) > 0;
    while (q < end && (space_at(q, end) > 0) == blank) {
        bool hyphen = on_hyphens && !blank && *q == '-' && q > p + 1 && q + 2 < end;
        hyphen = hyphen && code_is_letter((unsigned char)q[-1]) && code_is_letter(char_code(q + 1, end)) &&
                 code_is_letter(char_code(q + 2, end));
        q += char_len(q, end);
        if (hyphen) break;
    }
    return (size_t)(q - p);
}

// One line of the text, wrapped as textwrap does it: pieces fill a line up to `width`, blanks at a break go.
static void wrap_line(Render *r, Value line, Int width, Value brk, bool break_long, bool on_hyphens)
{
    const char *end = line.s + line.len;
    Value gap = v_text("");                     // the blanks before the next piece
    Int used = 0;
    for (const char *p = line.s; p < end; ) {
        Value piece = v_str(p, wrap_piece(p, end, on_hyphens));
        Int count = (Int)str_count(piece), room = width - used - (Int)str_count(gap);
        render_charge(r, 1 + piece.len / 16);
        if (space_at(p, end)) {
            if (used > 0 || p == line.s) gap = piece;
            p += piece.len;
            continue;
        }
        if (count > room && break_long && count > width && room > 0) {
            piece = str_slice(piece, 0, (size_t)room);
        } else if (count > room && (used > 0 || gap.len > 0)) {
            if (used > 0) out_add(r, brk.s, brk.len);
            used = 0;
            gap.len = 0;
            continue;
        }
        out_add(r, gap.s, gap.len);
        out_add(r, piece.s, piece.len);
        used += (Int)str_count(gap) + (Int)str_count(piece);
        gap.len = 0;
        p += piece.len;
    }
}

static Value do_wordwrap(Render *r, Value v, Args *a)
{
    Int width = value_int_or(r, a->v[0], 79);
    Value brk = is_given(a->v[2]) ? need_text(r, a->v[2], "join") : v_text("\n");
    const Seq *lines = str_lines(r, need_text(r, v, "splitlines"), false);
    if (width <= 0) fail_run(r, "invalid width %d (must be > 0)", (int)width);
    size_t mark = r->out->len;
    for (size_t i = 0; i < lines->n; i++) {
        if (i) out_add(r, brk.s, brk.len);
        wrap_line(r, lines->items[i], width, brk, value_truth_or(r, a->v[1], true), value_truth_or(r, a->v[3], true));
    }
    return out_cut(r, mark);
}

// ---- the web ------------------------------------------------------------------------------------------------------

static void url_quote(Render *r, Value v, bool in_query)
{
    Value s = text(r, v);
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.s[i];
        bool plain = c < 128 && (is_word_code(c) || strchr("-.~", c)) && c;
        char escaped[4];
        snprintf(escaped, sizeof escaped, "%%%02X", c);
        if (plain || (c == '/' && !in_query)) out_add(r, s.s + i, 1);
        else out_text(r, c == ' ' && in_query ? "+" : escaped);
    }
}

static Value do_urlencode(Render *r, Value v, Args *a)
{
    (void)a;
    size_t mark = r->out->len;
    if (v.kind != V_DICT && !is_seq(v)) {
        url_quote(r, v, false);
        return out_cut(r, mark);
    }
    const Seq *pairs = v.kind == V_DICT ? dict_items(r, v.dict) : value_iterate(r, v);
    for (size_t i = 0; i < pairs->n; i++) {
        const Seq *pair = value_iterate(r, pairs->items[i]);
        if (pair->n != 2) fail_run(r, "not enough values to unpack (expected 2, got %zu)", pair->n);
        if (i) out_text(r, "&");
        url_quote(r, pair->items[0], true);
        out_text(r, "=");
        url_quote(r, pair->items[1], true);
    }
    return out_cut(r, mark);
}

static Value do_xmlattr(Render *r, Value v, Args *a)
{
    if (v.kind == V_UNDEFINED) fail_undefined(r, v);
    if (v.kind != V_DICT) fail_run(r, "'%s' object has no attribute 'items'", type_name(v));
    size_t mark = r->out->len;
    for (size_t i = 0; i < v.dict->n; i++) {
        Value key = text(r, v.dict->keys[i]), value = v.dict->vals[i];
        if (value.kind == V_NONE || value.kind == V_UNDEFINED) continue;
        for (size_t k = 0; k < key.len; k++)
            if (key.s[k] && strchr(" \t\n\r\f\v/>=", key.s[k]))
                fail_run(r, "Invalid character in attribute name: %s", repr_text(r, key));
        if (r->out->len > mark || value_truth_or(r, a->v[0], true)) out_text(r, " ");
        key = str_html(r, key);
        value = value.markup ? value : str_html(r, text(r, value));
        out_add(r, key.s, key.len);
        out_text(r, "=\"");
        out_add(r, value.s, value.len);
        out_text(r, "\"");
    }
    return out_cut(r, mark);
}

// Tags and comments go, runs of blanks become one, and the few entities that escaping makes turn back.
static Value do_striptags(Render *r, Value v, Args *a)
{
    static const char *const entities[] = {
        "&lt;", "<", "&gt;", ">", "&quot;", "\"", "&#34;", "\"", "&#39;", "'", "&amp;", "&",
    };
    (void)a;
    Value s = text(r, v);
    size_t mark = r->out->len;
    for (size_t at = 0; at < s.len; ) {
        bool comment = s.len - at >= 4 && memcmp(s.s + at, "<!--", 4) == 0;
        Value close = v_text(comment ? "-->" : ">");
        size_t end = s.s[at] == '<' ? str_find(s, close, at + (comment ? 4 : 1)) : SIZE_MAX;
        render_charge(r, s.s[at] == '<' ? s.len / 64 : 0);
        if (end == SIZE_MAX) out_add(r, s.s + at++, 1);
        else at = end + close.len;
    }
    s = str_join(r, v_text(" "), str_split(r, out_cut(r, mark), v_none(), -1, false));
    for (size_t i = 0; i < sizeof entities / sizeof *entities; i += 2)
        s = str_replace(r, s, v_text(entities[i]), v_text(entities[i + 1]), -1);
    return s;
}

// ---- whole values as text -----------------------------------------------------------------------------------------

// json.dumps(v, ensure_ascii=False, indent=None, separators=None, sort_keys=False), which is transformers' own tojson.
static Value do_tojson(Render *r, Value v, Args *a)
{
    Value indent = a->v[1], separators = a->v[2];
    JsonStyle style = {indent, v_text(is_given(indent) ? "," : ", "), v_text(": "), value_truth_or(r, a->v[0], false),
                       value_truth_or(r, a->v[3], false)};
    if (is_given(indent) && indent.kind != V_STRING && !is_int(indent))
        fail_run(r, "can't multiply sequence by non-int of type '%s'", type_name(indent));
    if (is_given(separators)) {
        const Seq *two = value_iterate(r, separators);
        if (two->n != 2)
            fail_run(r, two->n < 2 ? "not enough values to unpack (expected 2, got %zu)"
                                   : "too many values to unpack (expected 2)", two->n);
        style.item_sep = two->items[0];
        style.key_sep = two->items[1];
    }
    size_t mark = r->out->len;
    value_json(r, v, &style, 0);
    return out_cut(r, mark);
}

// pprint sorts the keys of dicts. It would also break lines longer than 80 characters; this does not.
static Value sorted_keys(Render *r, Value v)
{
    if (v.kind != V_DICT && v.kind != V_LIST && v.kind != V_TUPLE) return v;
    render_enter(r);
    Seq *s = seq_new(r, 0);
    Dict *d = dict_new(r, 0);
    if (v.kind == V_DICT) {
        Seq *items = dict_items(r, v.dict);
        Value *keys = render_take(r, items->n, sizeof *keys);
        for (size_t i = 0; i < items->n; i++) keys[i] = v.dict->keys[i];
        sort_values(r, items->items, keys, items->n, false);
        for (size_t i = 0; i < items->n; i++) dict_put(r, d, keys[i], sorted_keys(r, items->items[i].seq->items[1]));
    } else {
        for (size_t i = 0; i < v.seq->n; i++) seq_add(r, s, sorted_keys(r, v.seq->items[i]));
    }
    r->depth--;
    return v.kind == V_DICT ? v_dict(d) : v_seq(v.kind, s);
}

static Value do_pprint(Render *r, Value v, Args *a)
{
    (void)a;
    return v_text(repr_text(r, sorted_keys(r, v)));
}

static const Builtin filters[] = {
    {"capitalize", "do_capitalize", "", do_capitalize}, {"center", "do_center", "width=", do_center},
    {"e", "escape", "", do_escape}, {"escape", "escape", "", do_escape},
    {"forceescape", "do_forceescape", "", do_forceescape}, {"format", "do_format", NULL, do_format},
    {"indent", "do_indent", "width= first= blank=", do_indent}, {"lower", "do_lower", "", do_lower},
    {"pprint", "do_pprint", "", do_pprint}, {"replace", "do_replace", "@old new count=", do_replace},
    {"safe", "do_mark_safe", "", do_safe}, {"string", "soft_str", "", do_string},
    {"striptags", "do_striptags", "", do_striptags}, {"title", "do_title", "", do_title},
    {"tojson", "tojson", "ensure_ascii= indent= separators= sort_keys=", do_tojson},
    {"trim", "do_trim", "chars=", do_trim},
    {"truncate", "do_truncate", "@length= killwords= end= leeway=", do_truncate}, {"upper", "do_upper", "", do_upper},
    {"urlencode", "do_urlencode", "", do_urlencode}, {"wordcount", "do_wordcount", "", do_wordcount},
    {"wordwrap", "do_wordwrap", "@width= break_long_words= wrapstring= break_on_hyphens=", do_wordwrap},
    {"xmlattr", "do_xmlattr", "@autospace=", do_xmlattr},
};

const Builtin *text_filter_find(Value name)
{
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if (text_is(name, filters[i].name)) return &filters[i];
    return NULL;
}
