// bpe: a word (or, for SentencePiece-style tokenizers, a whole segment) to ids. It starts as one symbol a character and
// the neighbours whose merge has the lowest rank are joined, leftmost first, until no pair has a merge. A heap of
// candidates keeps this at n log n. A candidate is stale when its rank is no longer the one that its symbol holds.
#include "internal.h"

#include <stdlib.h>
#include <string.h>

#define NO_RANK UINT32_MAX
#define NO_SYMBOL UINT32_MAX

// ---- the ids of a text ---------------------------------------------------------------------------------------------

void encoding_free(Encoding *enc)
{
    free(enc->ids);
    free(enc->begin);
    free(enc->end);
    *enc = (Encoding){0};
}

void encoding_add(Encoding *enc, int id, ByteRange r)
{
    if (enc->n == enc->cap) {
        enc->cap = enc->cap ? 2 * enc->cap : 64;
        enc->ids = mem_grow(enc->ids, enc->cap, sizeof *enc->ids);
        enc->begin = mem_grow(enc->begin, enc->cap, sizeof *enc->begin);
        enc->end = mem_grow(enc->end, enc->cap, sizeof *enc->end);
    }
    enc->ids[enc->n] = id;
    enc->begin[enc->n] = r.begin;
    enc->end[enc->n++] = r.end;
}

// ---- merging -------------------------------------------------------------------------------------------------------

static void heap_sift_down(uint64_t *heap, size_t n, size_t at)
{
    uint64_t key = heap[at];
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && heap[child + 1] < heap[child]) child++;
        if (key <= heap[child]) break;
        heap[at] = heap[child];
    }
    heap[at] = key;
}

static void heap_push(Encoder *en, uint64_t key)
{
    ARRAY_ROOM(en->heap, en->n_heap, en->cap_heap);
    size_t at = en->n_heap++;
    for (; at > 0 && key < en->heap[(at - 1) / 2]; at = (at - 1) / 2) en->heap[at] = en->heap[(at - 1) / 2];
    en->heap[at] = key;
}

static uint64_t heap_pop(Encoder *en)
{
    uint64_t top = en->heap[0];
    en->heap[0] = en->heap[--en->n_heap];
    if (en->n_heap) heap_sift_down(en->heap, en->n_heap, 0);
    return top;
}

// Looks up the merge of symbol `at` with the one after it. The key orders candidates by rank, then from the left.
static bool symbol_rank(Encoder *en, uint32_t at, uint64_t *key)
{
    Symbol *s = &en->symbols[at];
    const Merge *m = s->next == NO_SYMBOL ? NULL : merges_find(&en->t->merges, s->id, en->symbols[s->next].id);
    s->rank = m ? m->rank : NO_RANK;
    if (!m) return false;
    s->merged = m->id;
    *key = (uint64_t)m->rank << 32 | at;
    return true;
}

static void symbol_join_next(Encoder *en, uint32_t at)
{
    Symbol *s = &en->symbols[at], *dead = &en->symbols[s->next];
    s->id = s->merged;
    s->end = dead->end;
    s->next = dead->next;
    dead->rank = NO_RANK;
    if (s->next != NO_SYMBOL) en->symbols[s->next].prev = at;
    uint64_t key;
    if (symbol_rank(en, at, &key)) heap_push(en, key);
    if (s->prev != NO_SYMBOL && symbol_rank(en, s->prev, &key)) heap_push(en, key);
}

static size_t merge_all(Encoder *en, size_t n)
{
    en->n_heap = 0;
    uint64_t key;
    for (uint32_t i = 0; i < n; i++) {
        if (!symbol_rank(en, i, &key)) continue;
        ARRAY_ROOM(en->heap, en->n_heap, en->cap_heap);
        en->heap[en->n_heap++] = key;
    }
    for (size_t i = en->n_heap / 2; i-- > 0;) heap_sift_down(en->heap, en->n_heap, i);
    while (en->n_heap) {
        key = heap_pop(en);
        uint32_t at = (uint32_t)key;
        if (en->symbols[at].rank == key >> 32) symbol_join_next(en, at);
    }
    return n;
}

static size_t symbol_add(Encoder *en, size_t n, int id, size_t begin, size_t end)
{
    ARRAY_ROOM(en->symbols, n, en->cap_symbols);
    en->symbols[n] = (Symbol){.id = id, .begin = (uint32_t)begin, .end = (uint32_t)end};
    return n + 1;
}

// A character and the continuation bytes behind it, four bytes at most: in text that is not UTF-8 (tokenizer.bin takes
// any bytes) this is the unit that llama2.c looks up.
static size_t chunk_length(const char *p, const char *end)
{
    size_t n = 1;
    while (n < 4 && p + n < end && ((unsigned char)p[n] & 0xC0) == 0x80) n++;
    return n;
}

static int chunk_id(const Tokenizer *t, const char *p, size_t n)
{
    return n == 1 ? t->single[(unsigned char)*p] : vocab_find(&t->vocab, p, n);
}

static bool has_byte_ids(const Tokenizer *t, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (t->byte_id[(unsigned char)p[i]] < 0) return false;
    return true;
}

static size_t symbols_init(Encoder *en, Segment word)
{
    const Tokenizer *t = en->t;
    size_t n = 0, step;
    bool after_unknown = false;
    for (size_t i = 0; i < word.len; i += step) {
        const char *p = word.text + i;
        step = t->byte_level ? 1 : chunk_length(p, word.text + word.len);
        int id = chunk_id(t, p, step);
        bool unknown = false;
        if (id >= 0) {
            n = symbol_add(en, n, id, i, i + step);
        } else if (has_byte_ids(t, p, step)) {
            for (size_t k = 0; k < step; k++)
                n = symbol_add(en, n, t->byte_id[(unsigned char)p[k]], i + k, i + k + 1);
        } else if (t->unk_id >= 0) {
            unknown = true;
            if (after_unknown && t->fuse_unk) en->symbols[n - 1].end = (uint32_t)(i + step);
            else n = symbol_add(en, n, t->unk_id, i, i + step);
        }
        after_unknown = unknown;
    }
    for (size_t i = 0; i < n; i++) {
        en->symbols[i].prev = i ? (uint32_t)i - 1 : NO_SYMBOL;
        en->symbols[i].next = i + 1 < n ? (uint32_t)i + 1 : NO_SYMBOL;
    }
    return n;
}

// The id of the word if the vocabulary has it whole.
static int whole_word(Encoder *en, Segment word)
{
    const Tokenizer *t = en->t;
    if (!t->byte_level) return vocab_find(&t->vocab, word.text, word.len);
    buf_clear(&en->spelling);
    for (size_t i = 0; i < word.len; i++) {
        char letter[4];
        size_t n = byte_alphabet((unsigned char)word.text[i], letter);
        buf_add(&en->spelling, letter, n);
    }
    return vocab_find(&t->vocab, en->spelling.data, en->spelling.len);
}

// Without a pre-tokenizer a whole text is one word. If no merge joins a border ("▁", or a space in tokenizer.bin) to
// what stands before it, the text may be cut there with the same result, and the heap stays as small as a real word.
void bpe_find_border(Tokenizer *t, const char *border)
{
    size_t n = strlen(border);
    if (vocab_find(&t->vocab, border, n) < 0) return;     // an unknown border may be fused with its neighbour
    for (size_t i = 0; i <= SIZE_MAX >> t->merges.shift; i++) {
        const Merge *m = &t->merges.slots[i];
        if (m->left < 0 || strncmp(tokenizer_piece(t, m->right), border, n) != 0) continue;
        const char *left = tokenizer_piece(t, m->left);
        size_t len = t->vocab.len[m->left];
        if (len < n || memcmp(left + len - n, border, n) != 0) return;
    }
    memcpy(t->border, border, n);
    t->n_border = n;
}

// The length of the first part of s: the borders at its start, and the text up to the next border.
static size_t border_length(const Tokenizer *t, Segment s)
{
    if (t->n_border == 0) return s.len;
    size_t at = 0, n = t->n_border;
    while (at + n <= s.len && memcmp(s.text + at, t->border, n) == 0) at += n;
    const char *next = mem_find(s.text + at, s.len - at, t->border, n);
    return next ? (size_t)(next - s.text) : s.len;
}

void bpe_word(Encoder *en, Segment word)
{
    int id = en->t->ignore_merges ? whole_word(en, word) : -1;
    if (id >= 0) {
        encoding_add(en->out, id, segment_range(word, 0, word.len));
        return;
    }
    for (size_t at = 0, len; at < word.len; at += len) {
        len = border_length(en->t, segment_part(word, at, word.len - at));
        Segment part = segment_part(word, at, len);
        if (merge_all(en, symbols_init(en, part)) == 0) continue;
        for (uint32_t i = 0; i != NO_SYMBOL; i = en->symbols[i].next) {
            const Symbol *s = &en->symbols[i];
            encoding_add(en->out, s->id, segment_range(part, s->begin, s->end));
        }
    }
}
