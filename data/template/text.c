// jinja_text: what Python does with strings: case, strip, split, find, replace, join, and reading numbers.
#include "jinja.h"

#include <errno.h>
#include <stdlib.h>

enum { SHARP_S = 0xDF };                        // the small letter whose capital is two letters

Value str_case(Render *r, Value s, CaseRule rule)
{
    const char *end = s.s + s.len;
    size_t mark = r->out->len;
    bool first = true;                          // of the string or, for two of the rules, of a word
    for (const char *p = s.s; p < end; p += char_len(p, end)) {
        uint32_t c = char_code(p, end), small = code_case(c, false), large = code_case(c, true);
        bool up = rule == CASE_UPPER || (rule != CASE_LOWER && first);
        if (up && c == SHARP_S) out_text(r, rule == CASE_UPPER || rule == CASE_WORDS ? "SS" : "Ss");
        else out_char(r, up ? large : small);
        bool no_letter = small == large && c != SHARP_S, edge = space_at(p, end) > 0 || (c && strchr("-({[<", *p));
        first = rule == CASE_TITLE ? no_letter : rule == CASE_WORDS ? edge : false;
    }
    return out_cut(r, mark);
}

// Does strip take the character of n bytes at p?
static bool is_stripped(Value chars, const char *p, size_t n)
{
    return is_a(chars, GIVEN) ? mem_find(chars.s, chars.len, p, n) != NULL : space_at(p, p + n) > 0;
}

Value str_strip(Value s, Value chars, int sides)
{
    const char *begin = s.s, *end = s.s + s.len, *p;
    for (; (sides & SIDE_LEFT) && begin < end; begin = p) {
        p = begin + char_len(begin, end);
        if (!is_stripped(chars, begin, (size_t)(p - begin))) break;
    }
    for (; (sides & SIDE_RIGHT) && begin < end; end = p) {
        p = char_before(begin, end);
        if (!is_stripped(chars, p, (size_t)(end - p))) break;
    }
    s.s = begin;
    s.len = (size_t)(end - begin);
    return s;
}

size_t str_find(Value s, Value part, bool last)
{
    if (part.len > s.len) return SIZE_MAX;
    const char *p = part.len ? mem_find(s.s, s.len, part.s, part.len) : s.s;
    if (!p) return SIZE_MAX;
    size_t at = last ? s.len - part.len : (size_t)(p - s.s);
    while (last && memcmp(s.s + at, part.s, part.len) != 0) at--;
    return at;
}

// ---- split and join -----------------------------------------------------------------------------------------------

// The first or the last white space: its offset, and its bytes in *n; SIZE_MAX if there is none.
static size_t find_space(Value s, bool last, size_t *n)
{
    const char *end = s.s + s.len;
    for (const char *p = s.s; !last && p < end; p += char_len(p, end))
        if ((*n = space_at(p, end)) > 0) return (size_t)(p - s.s);
    for (const char *p = end; last && p > s.s; p = char_before(s.s, p))
        if ((*n = space_before(s.s, p)) > 0) return (size_t)(p - s.s) - *n;
    return SIZE_MAX;
}

// A separator that is not GIVEN: runs of white space, and those at the ends give no empty parts.
Seq *str_split(Render *r, Value s, Value sep, int64_t max, bool from_right)
{
    Seq *parts = seq_new(r, 0);
    bool given = is_a(sep, GIVEN);
    size_t n = sep.len;
    render_charge(r, s.len / 16);
    if (given) need_kind(r, sep, SET(V_STRING), "split");
    if (given && n == 0) fail_run(r, "split needs a separator that is not empty");
    for (bool more = true; more; ) {
        if (!given) s = str_strip(s, sep, from_right ? SIDE_RIGHT : SIDE_LEFT);
        if (!given && s.len == 0) break;
        bool full = max >= 0 && (int64_t)parts->n == max;       // what is left is the last part
        size_t at = full ? SIZE_MAX : given ? str_find(s, sep, from_right) : find_space(s, from_right, &n);
        more = at != SIZE_MAX;
        Value before = v_str(s.s, more ? at : s.len), behind = more ? v_str(s.s + at + n, s.len - at - n) : before;
        seq_add(r, parts, from_right ? behind : before);
        s = from_right ? before : behind;
    }
    for (size_t i = 0; from_right && i < parts->n / 2; i++) {
        Value t = parts->items[i];
        parts->items[i] = parts->items[parts->n - 1 - i];
        parts->items[parts->n - 1 - i] = t;
    }
    return parts;
}

Seq *str_lines(Render *r, Value s, bool keep)
{
    Seq *lines = seq_new(r, 0);
    const char *end = s.s + s.len, *begin = s.s;
    render_charge(r, s.len / 16);
    for (const char *p = begin; p < end; ) {
        uint32_t c = char_code(p, end);
        const char *behind = p + char_len(p, end);
        if ((c >= 10 && c <= 13) || (c >= 28 && c <= 30) || c == 0x85 || c == 0x2028 || c == 0x2029) {
            if (c == '\r' && behind < end && *behind == '\n') behind++;
            seq_add(r, lines, v_str(begin, (size_t)((keep ? behind : p) - begin)));
            begin = behind;
        }
        p = behind;
    }
    if (begin < end) seq_add(r, lines, v_str(begin, (size_t)(end - begin)));
    return lines;
}

// An empty `old` stands before every character and at the end.
Value str_replace(Render *r, Value s, Value old, Value new, int64_t count)
{
    size_t mark = r->out->len;
    render_charge(r, s.len / 16);
    for (size_t at; count != 0 && (at = str_find(s, old, false)) != SIZE_MAX; count--) {
        size_t n = old.len ? 0 : s.len ? char_len(s.s, s.s + s.len) : 0, behind = at + old.len + n;
        out_add(r, s.s, at);
        out_value(r, new);
        out_add(r, s.s + at + old.len, n);
        bool done = s.len == 0;
        s = v_str(s.s + behind, s.len - behind);
        if (done) break;
        render_charge(r, 1);
    }
    out_value(r, s);
    return out_cut(r, mark);
}

Value str_join(Render *r, Value sep, const Seq *parts)
{
    size_t mark = r->out->len;
    for (size_t i = 0; i < parts->n; i++) {
        if (i) out_value(r, sep);
        value_print(r, parts->items[i]);
    }
    return out_cut(r, mark);
}

Value str_html(Render *r, Value s)
{
    static const char *const names[] = {
        ['&'] = "&amp;", ['<'] = "&lt;", ['>'] = "&gt;", ['"'] = "&#34;", ['\''] = "&#39;",
    };
    size_t mark = r->out->len;
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.s[i];
        if (c < sizeof names / sizeof *names && names[c]) out_text(r, names[c]);
        else out_add(r, s.s + i, 1);
    }
    Value v = out_cut(r, mark);
    v.markup = true;
    return v;
}

// ---- numbers in text ----------------------------------------------------------------------------------------------

// A copy without white space around it and without the underscores that may stand between digits; NULL if one stands
// elsewhere.
static char *clean_number(Arena *a, Value s)
{
    s = str_strip(s, v_none(), SIDE_LEFT | SIDE_RIGHT);
    char *out = arena_take(a, s.len + 1);
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.s[i] == '_' && (i == 0 || i + 1 == s.len || s.s[i - 1] == '_' || s.s[i + 1] == '_')) return NULL;
        if (s.s[i] == 0) return NULL;
        if (s.s[i] != '_') out[n++] = s.s[i];
    }
    out[n] = 0;
    return n > 0 ? out : NULL;
}

Value text_to_int(Arena *a, Value s)
{
    char *text = clean_number(a, s), *digits = text;
    if (!text) return v_missing();
    if (*digits == '-' || *digits == '+') digits++;
    if (!*digits || digits[strspn(digits, "0123456789")]) return v_missing();
    errno = 0;
    int64_t i = strtoll(text, NULL, 10);
    if (errno == 0) return v_int(i);
    while (*digits == '0') digits++;
    if (*text == '-') *--digits = '-';
    return (Value){.kind = V_BIG, .len = strlen(digits), .s = digits};
}

bool text_to_float(Arena *a, Value s, double *out)
{
    char *text = clean_number(a, s), *end;
    if (!text || strpbrk(text, "xXpP(")) return false;
    *out = strtod(text, &end);
    return *end == 0 && end != text;
}
