// tokenizer: what a loaded tokenizer can be asked, and the way of a text through it: added tokens are cut out first
// (those that ask for it from the normalized text); what lies between them is normalized, split into words and merged.
#include "internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

// ---- tokenizer -----------------------------------------------------------------------------------------------------

int tokenizer_vocab_size(const Tokenizer *t) { return (int)t->vocab.n_ids; }

bool tokenizer_is_special(const Tokenizer *t, int id)
{
    assert(id >= 0 && (size_t)id < t->vocab.n_ids);
    return t->is_special[id];
}

bool tokenizer_is_added(const Tokenizer *t, int id) { return t->is_added[id]; }
int tokenizer_bos(const Tokenizer *t) { return t->bos; }
int tokenizer_eos(const Tokenizer *t) { return t->eos; }
const cJSON *tokenizer_special_tokens(const Tokenizer *t) { return t->special_tokens; }
const char *tokenizer_chat_template(const Tokenizer *t) { return tokenizer_named_template(t, "default"); }
const char *tokenizer_named_template(const Tokenizer *t, const char *name) { return json_string(t->templates, name); }
const cJSON *tokenizer_templates(const Tokenizer *t) { return t->templates; }
const char *tokenizer_warning(const Tokenizer *t) { return t->warning; }

void tokenizer_pad(Tokenizer *t, int n_ids)
{
    size_t old = t->vocab.n_ids, n = (size_t)n_ids;
    if (n <= old) return;
    vocab_grow(&t->vocab, n);
    t->is_added = mem_grow(t->is_added, n, sizeof *t->is_added);
    t->is_special = mem_grow(t->is_special, n, sizeof *t->is_special);
    memset(t->is_added + old, 0, (n - old) * sizeof *t->is_added);
    memset(t->is_special + old, 0, (n - old) * sizeof *t->is_special);
}

// ---- encoding ------------------------------------------------------------------------------------------------------

static void split_and_merge(Encoder *en, size_t i, Segment s)
{
    if (s.len == 0) return;
    if (i == en->t->splitters.n) {
        bpe_word(en, s);
        return;
    }
    const Step *step = &en->t->splitters.items[i];
    if (step_changes_text(step)) {
        split_and_merge(en, i + 1, step_apply(step, s, &en->split[i]));
        return;
    }
    for (size_t at = 0, n; at < s.len; at += n) {
        n = step_split(step, s.text + at, s.text + s.len);
        split_and_merge(en, i + 1, segment_part(s, at, n));
    }
}

static void encode_normalized(Encoder *en, Segment s) { split_and_merge(en, 0, s); }

// The end of the white space at p.
static const char *skip_space(const char *p, const char *end)
{
    size_t n;
    while (p < end && char_class(p, end, &n) & CLASS_SPACE) p += n;
    return p;
}

static const char *char_before(const char *start, const char *p)
{
    do p--;
    while (p > start && ((unsigned char)*p & 0xC0) == 0x80);
    return p;
}

static const char *skip_space_back(const char *start, const char *p)
{
    size_t n;
    while (p > start) {
        const char *before = char_before(start, p);
        if (!(char_class(before, p, &n) & CLASS_SPACE)) break;
        p = before;
    }
    return p;
}

// Is there no word character next to [p, p + n), on either side?
static bool stands_alone(Segment s, const char *p, size_t n)
{
    const char *end = s.text + s.len;
    size_t unused;
    bool left = p == s.text || !(char_class(char_before(s.text, p), p, &unused) & CLASS_WORD);
    bool right = p + n == end || !(char_class(p + n, end, &unused) & CLASS_WORD);
    return left && right;
}

// Cuts the added tokens of one trie out of s; `between` gets the text between them. A token that does not count (a
// special one without PARSE_SPECIAL, a single_word inside a word) still hides others inside it, as in the Rust library.
static void cut_added(Encoder *en, const Trie *trie, Segment s, void (*between)(Encoder *, Segment))
{
    const Tokenizer *t = en->t;
    const char *end = s.text + s.len, *done = s.text;
    for (const char *p = s.text; p < end;) {
        size_t n = 1;
        int found = trie->starts[(unsigned char)*p] ? trie_match(trie, p, end, &n) : -1;
        p += n;
        if (found < 0) continue;
        const AddedToken *a = &t->added[found];
        if ((a->special && !en->parse_special) || (a->single_word && !stands_alone(s, p - n, n))) continue;
        const char *first = p - n, *last = p;
        if (a->lstrip && done < p) first = done < first ? skip_space_back(done, first) : done;
        if (a->rstrip) last = skip_space(p < done ? done : p, end);   // the one before may have taken blanks up to done
        if (first > done) between(en, segment_part(s, (size_t)(done - s.text), (size_t)(first - done)));
        encoding_add(en->out, a->id, segment_range(s, (size_t)(first - s.text), (size_t)(last - s.text)));
        done = last;
    }
    if (done < end) between(en, segment_part(s, (size_t)(done - s.text), (size_t)(end - done)));
}

static void encode_segment(Encoder *en, Segment s)
{
    s = steps_apply(&en->t->normalizers, s, en->normal);
    if (en->t->normalized.n) cut_added(en, &en->t->normalized, s, encode_normalized);
    else encode_normalized(en, s);
}

// ---- offsets of the ByteLevel post-processor -----------------------------------------------------------------------

static bool is_blank(const char *p, const char *end, size_t *n)
{
    if (end - p >= 2 && memcmp(p, "\xC4\xA0", 2) == 0) {  // U+0120, which stands for a space in the byte alphabet
        *n = 2;
        return true;
    }
    return char_class(p, end, n) & CLASS_SPACE;
}

// Cuts the blanks at both ends of a token from its range. One blank at the start of the text stays if add_prefix_space
// is set, since it was put there.
static void trim_token(const Tokenizer *t, Encoding *enc, size_t i, const char *text, bool first)
{
    bool added = t->is_added[enc->ids[i]];
    const char *p = added ? text + enc->begin[i] : tokenizer_piece(t, enc->ids[i]);
    const char *end = added ? text + enc->end[i] : p + t->vocab.len[enc->ids[i]];
    size_t leading = 0, trailing = 0, n;
    for (const char *q = p; q < end && is_blank(q, end, &n); q += n) leading++;
    for (const char *q = end; q > p && is_blank(char_before(p, q), q, &n); q = char_before(p, q)) trailing++;
    if (leading == 1 && first && t->trim_keeps_one) leading = 0;
    const char *from = text + enc->begin[i], *to = text + enc->end[i];
    for (; leading > 0 && from < to; leading--) {
        char_class(from, to, &n);
        from += n;
    }
    for (; trailing > 0 && to > from; trailing--) to = char_before(from, to);
    enc->begin[i] = (size_t)(from - text);
    enc->end[i] = (size_t)(to - text);
}

bool tokenizer_encode(const Tokenizer *t, const char *text, size_t len, unsigned flags, Encoding *out, Err *e)
{
    if (len > INT32_MAX) return fail(e, "expected a text of at most %d bytes, found one of %zu", INT32_MAX, len);
    size_t valid = t->llama2c ? len : utf8_valid(text, len);
    if (valid < len) return fail(e, "invalid UTF-8: byte 0x%02X at offset %zu", (unsigned char)text[valid], valid);

    Encoder en = {.t = t, .parse_special = flags & PARSE_SPECIAL, .out = out};
    bool add_special_tokens = flags & ADD_SPECIAL_TOKENS;
    en.split = mem_alloc(t->splitters.n, sizeof *en.split);
    out->n = 0;
    for (size_t i = 0; add_special_tokens && i < t->n_before; i++) encoding_add(out, t->before[i], (ByteRange){0, 0});
    size_t first = out->n;
    cut_added(&en, &t->raw, (Segment){text, len, NULL, 0}, encode_segment);
    for (size_t i = first; t->trim_offsets && i < out->n; i++)
        trim_token(t, out, i, text, i == first || out->begin[i] == 0);
    for (size_t i = 0; add_special_tokens && i < t->n_after; i++) encoding_add(out, t->after[i], (ByteRange){0, 0});

    for (size_t i = 0; i < 2; i++) mapped_free(&en.normal[i]);
    for (size_t i = 0; i < t->splitters.n; i++) mapped_free(&en.split[i]);
    free(en.split);
    free(en.symbols);
    free(en.heap);
    buf_free(&en.spelling);
    return true;
}
