// split: pre-tokenizers, which cut a text into the words that are merged on their own. The regular expressions of the
// known tokenizers differ in few places, so one hand-written matcher with switches stands for all of them; it tries the
// alternatives in the order of the expression. An expression that is not in the list is refused, never approximated.
#include "internal.h"

#include <string.h>

uint32_t unicode_value(const UnicodeRange *ranges, size_t n, uint32_t code)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (ranges[mid].last < code) low = mid + 1;
        else high = mid;
    }
    return low < n && ranges[low].first <= code ? ranges[low].value : 0;
}

unsigned char_class(const char *p, const char *end, size_t *n)
{
    *n = 1;
    uint32_t c = (unsigned char)*p, code;
    if (c < 0x80) {
        if ((c | 32) - 'a' < 26) return CLASS_LETTER | CLASS_WORD;
        if (c - '0' < 10) return CLASS_NUMBER | CLASS_WORD;
        return c == ' ' || c - '\t' < 5 ? CLASS_SPACE : c == '_' ? CLASS_WORD : 0;
    }
    int length = utf8_decode(p, end, &code);
    if (length == 0) return 0;
    *n = (size_t)length;
    return unicode_value(unicode_classes, n_unicode_classes, code);
}

struct Pattern {
    const char *regex;
    bool any_case;          // contractions: (?i:...)
    bool any_prefix;        // a word may begin with one character that is no letter, number or line end; else a space
    size_t max_digits;      // numbers are cut into parts of that length; 0: any length, with a space before them
    bool line_ends;         // punctuation takes the line ends after it; blanks up to the last line end are one word
};

const char pattern_gpt2[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

const char pattern_llama3[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
                              " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const char pattern_qwen2[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|"     // 2.5 and 3 too
                             " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

// To add one: a row here, with a switch in Pattern and its use in pattern_end if none of the old ones says what is new;
// its name in read_split's message (load_json.c); cases in test_split (tests/test_tokenizer.c); and goldens, for which
// tests/oracle/tokenizer_fixtures.mjs needs a tokenizer that has it.
static const Pattern patterns[] = {
    {pattern_gpt2, false, false, 0, false}, {pattern_llama3, true, true, 3, true}, {pattern_qwen2, true, true, 1, true},
};

const Pattern *pattern_find(const char *regex)
{
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
        if (strcmp(patterns[i].regex, regex) == 0) return &patterns[i];
    return NULL;
}

// The end of a run of characters that have one of the classes (`inside` false: that have none); at most `max` of them.
static const char *run_end(const char *p, const char *end, unsigned classes, bool inside, size_t max)
{
    size_t n;
    for (; p < end && max > 0 && ((char_class(p, end, &n) & classes) != 0) == inside; max--) p += n;
    return p;
}

static bool is_line_end(char c) { return c == '\r' || c == '\n'; }

// The length of 's 't 're 've 'm 'll 'd at p, 0 if there is none. Case folding makes U+017F (long s) an s.
static size_t contraction_length(const Pattern *pat, const char *p, const char *end)
{
    static const char *const names[] = {"s", "t", "re", "ve", "m", "ll", "d"};
    if (*p != '\'') return 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t n = strlen(names[i]), same = 0;
        while (same < n && p + 1 + same < end && (p[1 + same] | (pat->any_case ? 32 : 0)) == names[i][same]) same++;
        if (same == n) return 1 + n;
    }
    return pat->any_case && end - p >= 3 && memcmp(p + 1, "\xC5\xBF", 2) == 0 ? 3 : 0;
}

// A run of white space from p on.
static const char *blank_end(const Pattern *pat, const char *p, const char *end)
{
    const char *run = p, *last = p;
    size_t n;
    for (; run < end && char_class(run, end, &n) & CLASS_SPACE; run += n) last = run;
    if (pat->line_ends)
        for (const char *q = run; q > p; q--)
            if (is_line_end(q[-1])) return q;
    return run == end || last == p ? run : last;          // the last blank is left to the word after it
}

static const char *pattern_end(const Pattern *pat, const char *p, const char *end)
{
    size_t n = contraction_length(pat, p, end);
    if (n) return p + n;
    unsigned first = char_class(p, end, &n), second = 0;
    if (p + n < end) {
        size_t unused;
        second = char_class(p + n, end, &unused);
    }
    bool prefix = pat->any_prefix ? !(first & (CLASS_LETTER | CLASS_NUMBER)) && !is_line_end(*p) : *p == ' ';
    if (first & CLASS_LETTER || (prefix && second & CLASS_LETTER))
        return run_end(p + n, end, CLASS_LETTER, true, SIZE_MAX);

    if (pat->max_digits && first & CLASS_NUMBER) return run_end(p, end, CLASS_NUMBER, true, pat->max_digits);
    if (!pat->max_digits && (first & CLASS_NUMBER || (*p == ' ' && second & CLASS_NUMBER)))
        return run_end(p + n, end, CLASS_NUMBER, true, SIZE_MAX);

    unsigned none = CLASS_SPACE | CLASS_LETTER | CLASS_NUMBER;
    if (!(first & none) || (*p == ' ' && p + n < end && !(second & none))) {
        p = run_end(p + n, end, none, false, SIZE_MAX);
        while (pat->line_ends && p < end && is_line_end(*p)) p++;
        return p;
    }
    return blank_end(pat, p, end);
}

size_t step_split(const Step *step, const char *p, const char *end)
{
    if (step->kind == STEP_PATTERN) return (size_t)(pattern_end(step->pattern, p, end) - p);
    if (step->kind == STEP_DIGITS) {
        size_t n;
        bool digit = char_class(p, end, &n) & CLASS_NUMBER;
        return (size_t)(run_end(p, end, CLASS_NUMBER, digit, digit && !step->whole ? 1 : SIZE_MAX) - p);
    }
    size_t skip = (size_t)(end - p) >= step->n_from && memcmp(p, step->from, step->n_from) == 0 ? step->n_from : 0;
    const char *next = mem_find(p + skip, (size_t)(end - p) - skip, step->from, step->n_from);
    return (size_t)((next ? next : end) - p);
}
