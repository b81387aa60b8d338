// jinja_text: strings as Python sees them, over UTF-8: code points, white space, case, strip, split, find, replace.
// A character is a lead byte and the continuation bytes behind it, so that no input can lead past a string's end.
// Case and "is a letter" come from short tables, not from the whole of Unicode: Latin (basic, supplement, extended A,
// the paired part of B, additional), Greek without its archaic and accented-by-breathing letters, Cyrillic, Armenian,
// full-width Latin. Other letters have no case here, and blocks that are all symbols or marks count as no letters.
#include "jinja.h"

typedef struct { uint32_t low, high; } Range;

size_t char_len(const char *p, const char *end)
{
    size_t n = 1;
    while (p + n < end && n < 4 && ((unsigned char)p[n] & 0xC0) == 0x80) n++;
    return n;
}

uint32_t char_code(const char *p, const char *end)
{
    uint32_t code;
    return utf8_decode(p, end, &code) ? code : 0xFFFD;
}

static const char *char_before(const char *begin, const char *p)
{
    const char *start = p - 1;
    while (start > begin && p - start < 4 && ((unsigned char)*start & 0xC0) == 0x80) start--;
    return start;
}

static bool code_is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

size_t space_at(const char *p, const char *end)
{
    return p < end && code_is_space(char_code(p, end)) ? char_len(p, end) : 0;
}

size_t space_before(const char *begin, const char *p)
{
    if (p == begin) return 0;
    const char *start = char_before(begin, p);
    return code_is_space(char_code(start, p)) ? (size_t)(p - start) : 0;
}

static bool in_ranges(uint32_t c, const Range *ranges, size_t n)
{
    for (size_t i = 0; i < n && ranges[i].low <= c; i++)
        if (c <= ranges[i].high) return true;
    return false;
}

bool code_is_letter(uint32_t c)
{
    static const Range others[] = {
        {0x80, 0xA9}, {0xAB, 0xB4}, {0xB6, 0xB9}, {0xBB, 0xBF}, {0xD7, 0xD7}, {0xF7, 0xF7}, {0x2C2, 0x2C5},
        {0x2D2, 0x2DF},
        {0x300, 0x36F}, {0x37E, 0x37E}, {0x387, 0x387}, {0x482, 0x489}, {0x55A, 0x55F}, {0x589, 0x5CF}, {0x5F3, 0x61F},
        {0x64B, 0x66D}, {0x6D4, 0x6D4}, {0x6D6, 0x6E4}, {0x6E7, 0x6ED}, {0x6F0, 0x6F9}, {0x900, 0x903}, {0x93A, 0x93C},
        {0x93E, 0x94F}, {0x964, 0x970}, {0xE31, 0xE31}, {0xE34, 0xE3F}, {0xE47, 0xE5B}, {0x1680, 0x1680},
        {0x2000, 0x2070},
        {0x2072, 0x207E}, {0x2080, 0x208E}, {0x20A0, 0x2101}, {0x2150, 0x2182}, {0x2189, 0x2BFF}, {0x2E00, 0x2E2E},
        {0x2E30, 0x3004}, {0x3007, 0x3030}, {0x3036, 0x303A}, {0x303D, 0x3040}, {0x3097, 0x309C}, {0x30A0, 0x30A0},
        {0x30FB, 0x30FB}, {0x3190, 0x319F}, {0x31C0, 0x31EF}, {0x3200, 0x33FF}, {0x4DC0, 0x4DFF}, {0xD7FC, 0xF8FF},
        {0xFE00, 0xFE6F}, {0xFEFF, 0xFF20}, {0xFF3B, 0xFF40}, {0xFF5B, 0xFF65}, {0xFFE0, 0xFFFF}, {0x1D000, 0x1D3FF},
        {0x1F000, 0x1FBFF}, {0xE0000, 0x10FFFF},
    };
    if (c < 0x80) return (c | 32) >= 'a' && (c | 32) <= 'z';
    return !in_ranges(c, others, sizeof others / sizeof *others);
}

bool code_is_printable(uint32_t c)
{
    static const Range others[] = {
        {0, 31}, {0x7F, 0xA0}, {0xAD, 0xAD}, {0x600, 0x605}, {0x61C, 0x61C}, {0x6DD, 0x6DD}, {0x70F, 0x70F},
        {0x1680, 0x1680}, {0x180E, 0x180E}, {0x2000, 0x200F}, {0x2028, 0x202F}, {0x205F, 0x206F}, {0x3000, 0x3000},
        {0xD800, 0xF8FF}, {0xFEFF, 0xFEFF}, {0xFFF0, 0xFFFB}, {0xFFFE, 0xFFFF}, {0xE0000, 0x10FFFF},
    };
    return !in_ranges(c, others, sizeof others / sizeof *others);
}

// ---- case ---------------------------------------------------------------------------------------------------------

// Small letters low..high, every step-th of them, whose capitals are `up` further on.
static const struct { uint32_t low, high, step; int up; } cases[] = {
    {'a', 'z', 1, -32}, {0xE0, 0xF6, 1, -32}, {0xF8, 0xFE, 1, -32}, {0xFF, 0xFF, 1, 121}, {0x101, 0x12F, 2, -1},
    {0x133, 0x137, 2, -1}, {0x13A, 0x148, 2, -1}, {0x14B, 0x177, 2, -1}, {0x17A, 0x17E, 2, -1}, {0x1CE, 0x1DC, 2, -1},
    {0x1DF, 0x1EF, 2, -1}, {0x1F5, 0x1F5, 1, -1}, {0x1F9, 0x21F, 2, -1}, {0x223, 0x233, 2, -1}, {0x3AC, 0x3AC, 1, -38},
    {0x3AD, 0x3AF, 1, -37}, {0x3B1, 0x3C1, 1, -32}, {0x3C3, 0x3CB, 1, -32}, {0x3CC, 0x3CC, 1, -64},
    {0x3CD, 0x3CE, 1, -63},
    {0x430, 0x44F, 1, -32}, {0x450, 0x45F, 1, -80}, {0x461, 0x481, 2, -1}, {0x48B, 0x4BF, 2, -1}, {0x4C2, 0x4CE, 2, -1},
    {0x4CF, 0x4CF, 1, -15}, {0x4D1, 0x52F, 2, -1}, {0x561, 0x586, 1, -48}, {0x1E01, 0x1E95, 2, -1},
    {0x1EA1, 0x1EFF, 2, -1}, {0xFF41, 0xFF5A, 1, -32},
};

// Small letters whose capital is another letter's too, so that the way back does not lead to them.
static const struct { uint32_t low, up; } one_way[] = {{0xB5, 0x39C}, {0x131, 'I'}, {0x17F, 'S'}, {0x3C2, 0x3A3}};

static uint32_t code_upper(uint32_t c)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases && cases[i].low <= c; i++)
        if (c <= cases[i].high && (c - cases[i].low) % cases[i].step == 0) return (uint32_t)((int)c + cases[i].up);
    for (size_t i = 0; i < sizeof one_way / sizeof *one_way; i++)
        if (one_way[i].low == c) return one_way[i].up;
    return c;
}

static uint32_t code_lower(uint32_t c)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t low = (uint32_t)((int)c - cases[i].up);
        if (low >= cases[i].low && low <= cases[i].high && (low - cases[i].low) % cases[i].step == 0) return low;
    }
    return c == 0x130 ? 'i' : c == 0x1E9E ? 0xDF : c;
}

bool code_is_upper(uint32_t c) { return code_lower(c) != c; }
bool code_is_lower(uint32_t c) { return code_upper(c) != c || c == 0xDF || c == 0xAA || c == 0xBA; }

static void put_upper(Render *r, uint32_t c, bool title)
{
    if (c == 0xDF) out_text(r, title ? "Ss" : "SS");
    else out_char(r, code_upper(c));
}

// `at` is where c stands in s: a sigma at a word's end has a form of its own.
static void put_lower(Render *r, Value s, const char *at, uint32_t c)
{
    const char *end = s.s + s.len, *next = at + char_len(at, end);
    bool after = at > s.s && code_is_letter(char_code(char_before(s.s, at), end));
    bool before = next < end && code_is_letter(char_code(next, end));
    out_char(r, c == 0x3A3 && after && !before ? 0x3C2 : code_lower(c));
    if (c == 0x130) out_char(r, 0x307);
}

Value str_case(Render *r, Value s, CaseRule rule)
{
    const char *end = s.s + s.len;
    size_t mark = r->out->len;
    bool first = true;                          // of the string, or of a word for CASE_TITLE
    for (const char *p = s.s; p < end; p += char_len(p, end)) {
        uint32_t c = char_code(p, end);
        bool up = rule == CASE_UPPER || (rule == CASE_SWAP ? code_is_lower(c) : rule != CASE_LOWER && first);
        bool stay = rule == CASE_SWAP && !code_is_lower(c) && !code_is_upper(c);
        if (stay) out_char(r, c);
        else if (up) put_upper(r, c, rule == CASE_TITLE || rule == CASE_CAPITAL);
        else put_lower(r, s, p, c);
        first = rule == CASE_TITLE && !code_is_lower(c) && !code_is_upper(c);
    }
    return out_cut(r, mark);
}

// ---- parts of strings ---------------------------------------------------------------------------------------------

size_t str_count(Value s)
{
    size_t n = 0;
    for (const char *p = s.s, *end = s.s + s.len; p < end; p += char_len(p, end)) n++;
    return n;
}

Value str_slice(Value s, size_t from, size_t to)
{
    const char *p = s.s, *end = s.s + s.len;
    size_t i = 0;
    for (; i < from && p < end; i++) p += char_len(p, end);
    const char *begin = p;
    for (; i < to && p < end; i++) p += char_len(p, end);
    return v_str(begin, (size_t)(p - begin));
}

static bool has_char(Value chars, const char *p, size_t n)
{
    for (const char *q = chars.s, *end = q + chars.len; q < end; q += char_len(q, end))
        if (char_len(q, end) == n && memcmp(p, q, n) == 0) return true;
    return false;
}

Value str_strip(Value s, Value chars, bool left, bool right)
{
    bool spaces = !is_given(chars);
    const char *begin = s.s, *end = s.s + s.len;
    while (left && begin < end) {
        size_t n = char_len(begin, end);
        if (!(spaces ? space_at(begin, end) > 0 : has_char(chars, begin, n))) break;
        begin += n;
    }
    while (right && begin < end) {
        const char *p = char_before(begin, end);
        if (!(spaces ? space_before(begin, end) > 0 : has_char(chars, p, (size_t)(end - p)))) break;
        end = p;
    }
    s.s = begin;
    s.len = (size_t)(end - begin);
    return s;
}

size_t str_find(Value s, Value part, size_t from)
{
    if (from > s.len || part.len > s.len - from) return SIZE_MAX;
    if (part.len == 0) return from;
    const char *p = memmem(s.s + from, s.len - from, part.s, part.len);
    return p ? (size_t)(p - s.s) : SIZE_MAX;
}

static void reverse(Seq *s)
{
    for (size_t i = 0; i < s->n / 2; i++) {
        Value t = s->items[i];
        s->items[i] = s->items[s->n - 1 - i];
        s->items[s->n - 1 - i] = t;
    }
}

static Seq *split_spaces(Render *r, Value s, Int max, bool from_right)
{
    Seq *parts = seq_new(r, 0);
    Value none = v_none();
    for (s = str_strip(s, none, !from_right, from_right); s.len > 0; s = str_strip(s, none, !from_right, from_right)) {
        const char *begin = s.s, *end = s.s + s.len, *p = from_right ? end : begin;
        if (max >= 0 && (Int)parts->n == max) {
            seq_add(r, parts, v_str(s.s, s.len));
            break;
        }
        if (from_right) {
            while (p > begin && !space_before(begin, p)) p = char_before(begin, p);
            seq_add(r, parts, v_str(p, (size_t)(end - p)));
            s.len = (size_t)(p - begin);
        } else {
            while (p < end && !space_at(p, end)) p += char_len(p, end);
            seq_add(r, parts, v_str(begin, (size_t)(p - begin)));
            s = v_str(p, (size_t)(end - p));
        }
    }
    return parts;
}

Seq *str_split(Render *r, Value s, Value sep, Int max, bool from_right)
{
    render_charge(r, s.len / 16);
    Seq *parts = is_given(sep) ? seq_new(r, 0) : split_spaces(r, s, max, from_right);
    if (is_given(sep) && sep.len == 0) fail_run(r, "empty separator");
    while (is_given(sep)) {
        size_t at = max >= 0 && (Int)parts->n == max ? SIZE_MAX : str_find(s, sep, 0);
        if (from_right && at != SIZE_MAX)
            for (at = s.len - sep.len; memcmp(s.s + at, sep.s, sep.len) != 0; at--) continue;
        if (at == SIZE_MAX) {
            seq_add(r, parts, v_str(s.s, s.len));
            break;
        }
        size_t behind = at + sep.len;
        seq_add(r, parts, from_right ? v_str(s.s + behind, s.len - behind) : v_str(s.s, at));
        s = from_right ? v_str(s.s, at) : v_str(s.s + behind, s.len - behind);
    }
    if (from_right) reverse(parts);
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

Value str_replace(Render *r, Value s, Value old, Value new, Int count)
{
    size_t mark = r->out->len, done = 0;
    render_charge(r, s.len / 16);
    for (size_t at = 0; count != 0 && (at = str_find(s, old, at)) != SIZE_MAX; count--) {
        out_add(r, s.s + done, at - done);
        out_add(r, new.s, new.len);
        done = at + old.len;
        if (old.len == 0 && at < s.len) {       // an empty text stands before every character and at the end
            size_t n = char_len(s.s + at, s.s + s.len);
            out_add(r, s.s + at, n);
            done = at + n;
        } else if (old.len == 0) {
            break;
        }
        at = done;
        render_charge(r, 1);
    }
    out_add(r, s.s + done, s.len - done);
    return out_cut(r, mark);
}

Value str_join(Render *r, Value sep, const Seq *parts)
{
    size_t mark = r->out->len;
    for (size_t i = 0; i < parts->n; i++) {
        if (i) out_add(r, sep.s, sep.len);
        value_print(r, parts->items[i]);
    }
    return out_cut(r, mark);
}

Value str_pad(Render *r, Value s, Int width, Value fill, int side)
{
    Int pad = width - (Int)str_count(s), left = side < 0 ? 0 : side > 0 ? pad : pad / 2 + (pad & width & 1);
    if (pad <= 0) return s;
    if (pad > (Int)MAX_BYTES) fail_kind(r, "limit", "a text padded to more than %zu characters", MAX_BYTES);
    size_t mark = r->out->len;
    for (Int i = 0; i < left; i++) out_add(r, fill.s, fill.len);
    out_add(r, s.s, s.len);
    for (Int i = left; i < pad; i++) out_add(r, fill.s, fill.len);
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
