// normalize: the steps that change a text: NFC, Prepend and Replace. Each byte of a changed text knows the range of the
// original text that it stands for. An inserted string has the range of the character after it; the characters that
// NFC makes of one combining sequence all have the range of that whole sequence.
#include "internal.h"

#include <stdlib.h>
#include <string.h>

// ---- segments ------------------------------------------------------------------------------------------------------

Segment segment_part(Segment s, size_t at, size_t len)
{
    return (Segment){s.text + at, len, s.map ? s.map + at : NULL, s.base + at};
}

static bool is_continuation(char c) { return ((unsigned char)c & 0xC0) == 0x80; }

ByteRange segment_range(Segment s, size_t begin, size_t end)
{
    if (s.map) return (ByteRange){s.map[begin].begin, s.map[end - 1].end};
    while (begin > 0 && is_continuation(s.text[begin])) begin--;
    while (end < s.len && is_continuation(s.text[end])) end++;
    return (ByteRange){(uint32_t)(s.base + begin), (uint32_t)(s.base + end)};
}

void mapped_free(MappedText *m)
{
    buf_free(&m->text);
    free(m->map);
}

static void mapped_add(MappedText *m, const char *text, size_t n, ByteRange r)
{
    buf_add(&m->text, text, n);
    if (m->cap < m->text.cap) {
        m->cap = m->text.cap;
        m->map = mem_grow(m->map, m->cap, sizeof *m->map);
    }
    for (size_t i = m->text.len - n; i < m->text.len; i++) m->map[i] = r;
}

// Bytes [at, end) of s as they are, character by character; bytes that are not UTF-8 stand for themselves.
static void mapped_copy(MappedText *m, Segment s, size_t at, size_t end)
{
    while (at < end) {
        uint32_t code;
        int n = (signed char)s.text[at] >= 0 ? 1 : utf8_decode(s.text + at, s.text + end, &code);
        if (n == 0) n = 1;
        ByteRange r = s.map ? s.map[at] : (ByteRange){(uint32_t)(s.base + at), (uint32_t)(s.base + at) + (uint32_t)n};
        mapped_add(m, s.text + at, (size_t)n, r);
        at += (size_t)n;
    }
}

static Segment mapped_segment(const MappedText *m) { return (Segment){m->text.data, m->text.len, m->map, 0}; }

// ---- NFC -----------------------------------------------------------------------------------------------------------

enum { S_BASE = 0xAC00, L_BASE = 0x1100, V_BASE = 0x1161, T_BASE = 0x11A7, L_COUNT = 19, V_COUNT = 21, T_COUNT = 28 };

typedef struct { uint32_t code, combining; ByteRange from; } Mark;
typedef struct { Mark *items; size_t n, cap; } Marks;

const Decomposition *unicode_row(uint32_t first, uint32_t second)
{
    size_t low = 0, high = second ? n_unicode_composition : n_unicode_decomposition;
    while (low < high) {
        size_t mid = (low + high) / 2;
        const Decomposition *d = &unicode_decomposition[second ? unicode_composition[mid] : mid];
        uint32_t key = second ? d->first : d->code;
        if (key == first && (!second || d->second == second)) return d;
        if (key < first || (key == first && d->second < second)) low = mid + 1;
        else high = mid;
    }
    return NULL;
}

static void decompose(uint32_t code, ByteRange from, Marks *out)
{
    uint32_t syllable = code - S_BASE;
    if (syllable < L_COUNT * V_COUNT * T_COUNT) {
        decompose(L_BASE + syllable / (V_COUNT * T_COUNT), from, out);
        decompose(V_BASE + syllable % (V_COUNT * T_COUNT) / T_COUNT, from, out);
        if (syllable % T_COUNT) decompose(T_BASE + syllable % T_COUNT, from, out);
        return;
    }
    const Decomposition *d = unicode_row(code, 0);
    if (d) {
        decompose(d->first, from, out);
        if (d->second) decompose(d->second, from, out);
        return;
    }
    ARRAY_ROOM(out->items, out->n, out->cap);
    out->items[out->n++] = (Mark){code, unicode_value(unicode_combining, n_unicode_combining, code), from};
}

// The composed character, 0 if there is none.
static uint32_t compose(uint32_t a, uint32_t b)
{
    if (a - L_BASE < L_COUNT && b - V_BASE < V_COUNT) return S_BASE + ((a - L_BASE) * V_COUNT + b - V_BASE) * T_COUNT;
    if (a - S_BASE < L_COUNT * V_COUNT * T_COUNT && (a - S_BASE) % T_COUNT == 0 && b - T_BASE - 1 < T_COUNT - 1)
        return a + b - T_BASE;
    const Decomposition *d = b ? unicode_row(a, b) : NULL;
    return d ? d->code : 0;
}

// Sorts each run of marks with a combining class by that class, keeping the order of equals. Counting, because a
// hostile text may have a million of them in a row.
static void reorder(Marks *marks)
{
    Mark *sorted = NULL;
    for (size_t at = 0, end; at < marks->n; at = end) {
        size_t place[257] = {0};
        bool in_order = true;
        for (end = at; end < marks->n && marks->items[end].combining; end++) {
            if (end > at && marks->items[end].combining < marks->items[end - 1].combining) in_order = false;
            place[marks->items[end].combining + 1]++;
        }
        if (end == at) end++;
        if (in_order) continue;
        for (size_t i = 1; i < 257; i++) place[i] += place[i - 1];
        sorted = mem_grow(sorted, end - at, sizeof *sorted);
        for (size_t i = at; i < end; i++) sorted[place[marks->items[i].combining]++] = marks->items[i];
        memcpy(marks->items + at, sorted, (end - at) * sizeof *sorted);
    }
    free(sorted);
}

static void range_widen(ByteRange *r, ByteRange by)
{
    if (by.begin < r->begin) r->begin = by.begin;
    if (by.end > r->end) r->end = by.end;
}

// Joins marks with the last starter before them, unless one of the same or a higher class stands between.
static void recompose(Marks *marks)
{
    size_t n = 0, starter = SIZE_MAX;
    for (size_t i = 0; i < marks->n; i++) {
        Mark mark = marks->items[i];
        uint32_t last = n > 0 ? marks->items[n - 1].combining : 0;
        bool blocked = starter == SIZE_MAX || (starter + 1 < n && last >= mark.combining);
        uint32_t code = blocked ? 0 : compose(marks->items[starter].code, mark.code);
        if (code) {
            marks->items[starter].code = code;
            range_widen(&marks->items[starter].from, mark.from);
            continue;
        }
        if (mark.combining == 0) starter = n;
        marks->items[n++] = mark;
    }
    marks->n = n;
}

// Appends the characters; a starter and the marks after it share one range.
static void marks_write(const Marks *marks, MappedText *out)
{
    for (size_t at = 0, end; at < marks->n; at = end) {
        ByteRange all = marks->items[at].from;
        for (end = at + 1; end < marks->n && marks->items[end].combining; end++)
            range_widen(&all, marks->items[end].from);
        for (size_t i = at; i < end; i++) {
            char bytes[4];
            int n = utf8_encode(marks->items[i].code, bytes);
            mapped_add(out, bytes, (size_t)n, all);
        }
    }
}

// Finds the first part that NFC may change, unstable characters and the one before them: *start, and its end.
static size_t find_unstable(Segment s, size_t from, size_t *start)
{
    const char *end = s.text + s.len;
    size_t n;
    *start = from;
    for (size_t at = from; at < s.len; at += n) {
        if (char_class(s.text + at, end, &n) & CLASS_UNSTABLE) {
            do at += n;
            while (at < s.len && char_class(s.text + at, end, &n) & CLASS_UNSTABLE);
            return at;
        }
        *start = at;
    }
    *start = s.len;
    return s.len;
}

static Segment normalize_nfc(Segment s, MappedText *out)
{
    size_t start, end = find_unstable(s, 0, &start), done = 0;
    if (start == s.len) return s;
    Marks marks = {0};
    for (; start < s.len; end = find_unstable(s, end, &start)) {
        marks.n = 0;
        uint32_t code;
        int n;
        for (size_t at = start; at < end && (n = utf8_decode(s.text + at, s.text + end, &code)); at += (size_t)n)
            decompose(code, segment_range(s, at, at + (size_t)n), &marks);
        reorder(&marks);
        recompose(&marks);
        mapped_copy(out, s, done, start);
        size_t mark = out->text.len;
        marks_write(&marks, out);
        if (out->text.len - mark == end - start && memcmp(out->text.data + mark, s.text + start, end - start) == 0) {
            out->text.len = mark;                         // it was NFC: keep the range of each character
            mapped_copy(out, s, start, end);
        }
        done = end;
    }
    mapped_copy(out, s, done, s.len);
    free(marks.items);
    return mapped_segment(out);
}

// ---- Prepend, Replace ----------------------------------------------------------------------------------------------

static bool starts_with(Segment s, const char *text, size_t n) { return s.len >= n && memcmp(s.text, text, n) == 0; }

static Segment prepend(const Step *step, Segment s, MappedText *out)
{
    if (s.len == 0 || (step->when != PREPEND_ALWAYS && starts_with(s, step->to, step->n_to))) return s;
    uint32_t code;
    int n = utf8_decode(s.text, s.text + s.len, &code);
    ByteRange next = s.map ? s.map[0] : (ByteRange){(uint32_t)s.base, (uint32_t)s.base + (uint32_t)(n ? n : 1)};
    if (step->when == PREPEND_AT_START && next.begin != 0) return s;
    mapped_add(out, step->to, step->n_to, next);
    mapped_copy(out, s, 0, s.len);
    return mapped_segment(out);
}

static Segment replace(const Step *step, Segment s, MappedText *out)
{
    const char *at = s.text, *end = s.text + s.len, *hit = mem_find(at, s.len, step->from, step->n_from);
    if (!hit) return s;
    for (; hit; hit = mem_find(at, (size_t)(end - at), step->from, step->n_from)) {
        size_t place = (size_t)(hit - s.text);
        mapped_copy(out, s, (size_t)(at - s.text), place);
        mapped_add(out, step->to, step->n_to, segment_range(s, place, place + step->n_from));
        at = hit + step->n_from;
    }
    mapped_copy(out, s, (size_t)(at - s.text), s.len);
    return mapped_segment(out);
}

// ---- steps ---------------------------------------------------------------------------------------------------------

Step *steps_add(Steps *steps, StepKind kind)
{
    ARRAY_ROOM(steps->items, steps->n, steps->cap);
    steps->items[steps->n] = (Step){.kind = kind};
    return &steps->items[steps->n++];
}

Step *step_set(Step *step, const char *from, const char *to)
{
    if (from) step->n_from = strlen(step->from = mem_strdup(from));
    if (to) step->n_to = strlen(step->to = mem_strdup(to));
    return step;
}

void steps_free(Steps *steps)
{
    for (size_t i = 0; i < steps->n; i++) {
        free(steps->items[i].from);
        free(steps->items[i].to);
    }
    free(steps->items);
}

// ORDER STEP: of the enumeration in internal.h.
bool step_changes_text(const Step *step) { return step->kind <= STEP_REPLACE; }

Segment step_apply(const Step *step, Segment s, MappedText *out)
{
    buf_clear(&out->text);
    return step->kind == STEP_NFC ? normalize_nfc(s, out) : step->kind == STEP_PREPEND ? prepend(step, s, out)
                                                                                        : replace(step, s, out);
}

Segment steps_apply(const Steps *steps, Segment s, MappedText out[2])
{
    for (size_t i = 0; i < steps->n; i++) s = step_apply(&steps->items[i], s, &out[s.text == out[0].text.data]);
    return s;
}
