// vocab: the lookup tables of the tokenizer: pieces by spelling, merges by pair, added tokens by prefix. The first two
// are open-addressing hash tables that are sized once, at most half full, and only read afterwards. Each hashes with a
// random key of its own, so that no file can be made whose entries crowd together; what is found depends on no key.
#include "internal.h"

#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Smallest power of two that keeps n entries at most half full.
static size_t table_size(size_t n)
{
    size_t size = 16;
    while (size < 2 * n) size *= 2;
    return size;
}

static HashKey hash_key(void)
{
    HashKey k = {0};
    int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, &k, sizeof k) != (ssize_t)sizeof k) {      // no such file: at least not always the same
        double now = now_seconds();
        memcpy(&k.add, &now, sizeof now);
        k.multiply = k.add ^ (uint64_t)(uintptr_t)&k;
    }
    if (fd >= 0) close(fd);
    k.multiply |= 1;
    return k;
}

// Both halves of the 128-bit product, folded into one.
static uint64_t hash_mix(uint64_t word, HashKey k)
{
    unsigned __int128 product = (unsigned __int128)(word ^ k.add) * k.multiply;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

// ---- pieces --------------------------------------------------------------------------------------------------------

uint32_t vocab_hash(const Vocab *v, const char *p, size_t n)
{
    uint64_t h = n, word;
    for (; n >= 8; p += 8, n -= 8) {
        memcpy(&word, p, 8);
        h = hash_mix(h ^ word, v->key);
    }
    word = 0;
    memcpy(&word, p, n);
    return (uint32_t)(hash_mix(h ^ word, v->key) >> 32);
}

void vocab_grow(Vocab *v, size_t n_ids)
{
    if (n_ids <= v->n_ids) return;
    v->at = mem_grow(v->at, n_ids, sizeof *v->at);
    v->len = mem_grow(v->len, n_ids, sizeof *v->len);
    for (; v->n_ids < n_ids; v->n_ids++) v->at[v->n_ids] = NO_PIECE, v->len[v->n_ids] = 0;
}

void vocab_init(Vocab *v, size_t n_ids, size_t n_pieces)
{
    v->key = hash_key();
    vocab_grow(v, n_ids);
    size_t size = table_size(n_pieces);
    v->mask = size - 1;
    v->slots = mem_alloc(size, sizeof *v->slots);
    for (size_t i = 0; i < size; i++) v->slots[i].id = -1;
}

void vocab_free(Vocab *v)
{
    buf_free(&v->text);
    free(v->at);
    free(v->len);
    free(v->slots);
}

void vocab_spell(Vocab *v, int id, const char *text, size_t len)
{
    v->at[id] = v->text.len;
    v->len[id] = len;
    buf_add(&v->text, text, len);
    buf_addc(&v->text, 0);
}

static VocabSlot *vocab_slot(const Vocab *v, uint32_t hash, const char *text, size_t len)
{
    size_t i = hash & v->mask;
    for (; v->slots[i].id >= 0; i = (i + 1) & v->mask) {
        int id = v->slots[i].id;
        if (v->slots[i].hash == hash && v->len[id] == len && memcmp(v->text.data + v->at[id], text, len) == 0) break;
    }
    return &v->slots[i];
}

int vocab_add(Vocab *v, int id)
{
    const char *text = v->text.data + v->at[id];
    uint32_t hash = vocab_hash(v, text, v->len[id]);
    VocabSlot *slot = vocab_slot(v, hash, text, v->len[id]);
    if (slot->id >= 0) return slot->id;
    *slot = (VocabSlot){hash, id};
    return -1;
}

int vocab_find(const Vocab *v, const char *text, size_t len)
{
    return vocab_slot(v, vocab_hash(v, text, len), text, len)->id;
}

size_t byte_alphabet(unsigned char byte, char out[4])
{
    uint32_t code = byte;
    if (byte <= 0x20) code = 0x100u + byte;
    else if (byte >= 0x7F && byte <= 0xA0) code = 0x121u + byte - 0x7F;
    else if (byte == 0xAD) code = 0x143;
    return (size_t)utf8_encode(code, out);
}

const char *tokenizer_piece(const Tokenizer *t, int id)
{
    assert(id >= 0 && (size_t)id < t->vocab.n_ids);
    return t->vocab.at[id] == NO_PIECE ? "" : t->vocab.text.data + t->vocab.at[id];
}

int tokenizer_id(const Tokenizer *t, const char *piece)
{
    for (size_t i = 0; i < t->n_added; i++)
        if (strcmp(t->added[i].content, piece) == 0) return t->added[i].id;
    return vocab_find(&t->vocab, piece, strlen(piece));
}

int tokenizer_eot(const Tokenizer *t)
{
    const char *piece = json_string(t->special_tokens, "eot_token");
    return piece ? tokenizer_id(t, piece) : -1;
}

// ---- merges --------------------------------------------------------------------------------------------------------

size_t merges_place(const MergeTable *m, int left, int right)
{
    return (size_t)(hash_mix((uint64_t)(uint32_t)left << 32 | (uint32_t)right, m->key) >> m->shift);
}

void merges_build(MergeTable *m, const MergeList *list)
{
    size_t size = table_size(list->n), mask = size - 1;
    m->key = hash_key();
    m->slots = mem_alloc(size, sizeof *m->slots);
    m->shift = 64;
    for (size_t i = size; i > 1; i /= 2) m->shift--;
    for (size_t i = 0; i < size; i++) m->slots[i].left = -1;
    for (size_t i = 0; i < list->n; i++) {
        const Merge *pair = &list->items[i];
        size_t at = merges_place(m, pair->left, pair->right);
        while (m->slots[at].left >= 0 && (m->slots[at].left != pair->left || m->slots[at].right != pair->right))
            at = (at + 1) & mask;
        m->slots[at] = *pair;
    }
}

const Merge *merges_find(const MergeTable *m, int left, int right)
{
    size_t mask = SIZE_MAX >> m->shift;
    for (size_t at = merges_place(m, left, right);; at = (at + 1) & mask) {
        const Merge *slot = &m->slots[at];
        if (slot->left == left && slot->right == right) return slot;
        if (slot->left < 0) return NULL;
    }
}

// ---- added tokens --------------------------------------------------------------------------------------------------

// The child of `node` for this byte, 0 if there is none (the root is nobody's child).
static int trie_child(const Trie *t, int node, unsigned char byte)
{
    int child = t->nodes[node].child;
    while (child && t->nodes[child].byte != byte) child = t->nodes[child].sibling;
    return child;
}

static int trie_new(Trie *t, unsigned char byte)
{
    ARRAY_ROOM(t->nodes, t->n, t->cap);
    t->nodes[t->n] = (TrieNode){.value = -1, .byte = byte};
    return (int)t->n++;
}

void trie_add(Trie *t, const char *text, size_t len, int value)
{
    assert(len > 0);
    if (t->n == 0) trie_new(t, 0);
    t->starts[(unsigned char)text[0]] = true;
    int node = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)text[i];
        int child = trie_child(t, node, byte);
        if (!child) {
            child = trie_new(t, byte);
            t->nodes[child].sibling = t->nodes[node].child;
            t->nodes[node].child = child;
        }
        node = child;
    }
    t->nodes[node].value = value;
}

int trie_match(const Trie *t, const char *p, const char *end, size_t *len)
{
    int best = -1, node = 0;
    for (size_t i = 0; i < (size_t)(end - p) && (node = trie_child(t, node, (unsigned char)p[i])); i++) {
        if (t->nodes[node].value < 0) continue;
        best = t->nodes[node].value;
        *len = i + 1;
    }
    return best;
}
