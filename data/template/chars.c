// jinja_chars: characters of UTF-8 text: how long, which code, white space, letters, case.
// A character is a lead byte and the continuation bytes behind it, so that no input can lead past a string's end.
// Letters and white space are exact: they come from the tokenizer's tables of Unicode. Case is exact for ASCII, for the
// plain letters of Latin-1, Greek, Cyrillic, Armenian and full-width Latin, and for all that are one of these with
// accents (the tables know the parts of such letters). Other letters have no case here, and a Greek sigma at the end of
// a word is like any other.
#include "jinja.h"

#include "../../tokenizer/unicode.h"

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

const char *char_before(const char *begin, const char *p)
{
    const char *start = p - 1;
    while (start > begin && p - start < 4 && ((unsigned char)*start & 0xC0) == 0x80) start--;
    return start;
}

unsigned code_class(uint32_t code) { return unicode_value(unicode_classes, n_unicode_classes, code); }

// Python counts four control characters as white space that are none in Unicode.
static bool code_is_space(uint32_t c)
{
    if (c >= 0x1C && c < 0x80) return c <= ' ';
    return code_class(c) & CLASS_SPACE;
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

// What repr() does not escape: all but control and format characters, separators, surrogates and private use.
bool code_is_printable(uint32_t c)
{
    static const UnicodeRange others[] = {
        {0, 31, 1}, {0x7F, 0x9F, 1}, {0xAD, 0xAD, 1}, {0x600, 0x605, 1}, {0x61C, 0x61C, 1}, {0x6DD, 0x6DD, 1},
        {0x70F, 0x70F, 1}, {0x180E, 0x180E, 1}, {0x200B, 0x200F, 1}, {0x202A, 0x202E, 1}, {0x2060, 0x206F, 1},
        {0xD800, 0xF8FF, 1}, {0xFEFF, 0xFEFF, 1}, {0xFFF0, 0xFFFB, 1}, {0xFFFE, 0xFFFF, 1}, {0xE0000, 0x10FFFF, 1},
    };
    return c == ' ' || !(code_is_space(c) || unicode_value(others, sizeof others / sizeof *others, c));
}

// ---- case ---------------------------------------------------------------------------------------------------------

uint32_t code_case(uint32_t c, bool upper)
{
    static const struct { uint32_t first, last, down; } alphabets[] = {     // small letters; how far to their capitals
        {'a', 'z', 32}, {0xE0, 0xFE, 32}, {0x3B1, 0x3C9, 32}, {0x430, 0x44F, 32}, {0x450, 0x45F, 80},
        {0x561, 0x586, 48}, {0xFF41, 0xFF5A, 32},
    };
    for (size_t i = 0; i < sizeof alphabets / sizeof *alphabets; i++) {
        uint32_t down = alphabets[i].down, small = upper ? c : c + down, other = upper ? c - down : c + down;
        if (small < alphabets[i].first || small > alphabets[i].last) continue;
        return code_class(c) & code_class(other) & CLASS_LETTER ? other : c;
    }
    const Decomposition *accented = unicode_row(c, 0);
    if (!accented || !accented->second) return c;
    const Decomposition *other = unicode_row(code_case(accented->first, upper), accented->second);
    return other ? other->code : c;
}

// ---- positions ----------------------------------------------------------------------------------------------------

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
    s.s = begin;
    s.len = (size_t)(p - begin);
    return s;
}
