// load: finds out what a file is, and reads llama2.c's tokenizer.bin.
//
// tokenizer.bin: int32 max_token_length, then for each piece float32 score, int32 length, bytes; all little-endian.
#include "internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---- tokenizer.bin -------------------------------------------------------------------------------------------------

// A piece is tried at every cut, so that the work grows with the square of its length.
enum { MAX_PIECE = 4096 };

// Checks every record and counts them.
static bool count_pieces(const File *f, size_t *n, Err *e)
{
    *n = 0;
    if (f->size < 4) return fail(e, "expected a tokenizer.json or a llama2.c tokenizer.bin, found %zu bytes", f->size);
    int32_t longest;
    memcpy(&longest, f->data, sizeof longest);
    if (longest < 1 || longest > MAX_PIECE)
        return fail(e, "expected a tokenizer.json or a llama2.c tokenizer.bin, found max_token_length %d", longest);
    for (size_t at = 4; at < f->size; (*n)++) {
        size_t left = f->size - at;
        if (left < 8) return fail(e, "piece %zu: expected 8 bytes of score and length, found %zu", *n, left);
        BinPiece p;
        memcpy(&p, f->data + at, sizeof p);
        at += sizeof p;
        if (!isfinite(p.score)) return fail(e, "piece %zu: expected a finite score, found %g", *n, (double)p.score);
        if (p.len < 1 || p.len > longest)
            return fail(e, "piece %zu: expected a length from 1 to %d, found %d", *n, longest, p.len);
        if (f->size - at < (size_t)p.len)
            return fail(e, "piece %zu: expected %d bytes, the file ends after %zu", *n, p.len, f->size - at);
        if (memchr(f->data + at, 0, (size_t)p.len) && p.len > 1) return fail(e, "piece %zu has a NUL byte", *n);
        at += (size_t)p.len;
    }
    if (*n < N_FIXED || *n > MAX_ID)
        return fail(e, "expected %d pieces (<unk>, <s>, </s>, 256 bytes) or more, up to %d, found %zu", N_FIXED, MAX_ID,
                    *n);
    return true;
}

static int by_score(const void *a, const void *b)
{
    float x = ((const Scored *)a)->score, y = ((const Scored *)b)->score;
    return (x < y) - (x > y);
}

// run.c merges two neighbours when their spellings together are a piece: every way to cut a piece into two pieces is a
// merge, and the score of the whole ranks it. Equal scores have equal ranks.
void merges_from_scores(Tokenizer *t, Scored *pieces, size_t n)
{
    if (n) qsort(pieces, n, sizeof *pieces, by_score);
    MergeList list = {0};
    uint32_t rank = 0;
    for (size_t i = 0; i < n && pieces[i].score > NEVER_MERGED; i++) {
        if (i > 0 && pieces[i].score < pieces[i - 1].score) rank++;
        int id = pieces[i].id;
        const char *text = tokenizer_piece(t, id);
        for (size_t cut = 1; cut < t->vocab.len[id]; cut++) {
            int left = vocab_find(&t->vocab, text, cut);
            int right = left < 0 ? -1 : vocab_find(&t->vocab, text + cut, t->vocab.len[id] - cut);
            if (right < 0) continue;
            ARRAY_ROOM(list.items, list.n, list.cap);
            list.items[list.n++] = (Merge){left, right, id, rank};
        }
    }
    merges_build(&t->merges, &list);
    free(list.items);
}

static void add_special(Tokenizer *t, const char *content, int id)
{
    t->added = mem_grow(t->added, t->n_added + 1, sizeof *t->added);
    t->added[t->n_added++] = (AddedToken){.content = mem_strdup(content), .id = id, .special = true};
}

static bool read_bin(Tokenizer *t, const File *f, Err *e)
{
    size_t n;
    if (!count_pieces(f, &n, e)) return false;
    vocab_init(&t->vocab, n, n);
    Scored *pieces = mem_alloc(n, sizeof *pieces);
    size_t n_scored = 0;
    const char *text = (const char *)f->data + 4;
    for (int id = 0; id < (int)n; id++) {
        BinPiece p;
        memcpy(&p, text, sizeof p);
        text += sizeof p;
        if (*text) vocab_spell(&t->vocab, id, text, (size_t)p.len);            // a NUL alone: an id without a piece
        if (*text && vocab_add(&t->vocab, id) < 0) pieces[n_scored++] = (Scored){p.score, id};
        text += p.len;
    }
    merges_from_scores(t, pieces, n_scored);
    free(pieces);
    bpe_find_border(t, " ");

    for (int b = 0; b < 256; b++) {
        char byte = (char)b;
        t->single[b] = vocab_find(&t->vocab, &byte, 1);
        t->byte_id[b] = FIRST_BYTE + b;
    }
    step_set(steps_add(&t->normalizers, STEP_PREPEND), NULL, " ");
    t->llama2c = true;
    add_special(t, "<s>", BOS);
    add_special(t, "</s>", EOS);
    t->before = mem_alloc(1, sizeof *t->before);
    t->before[0] = BOS;
    t->n_before = 1;
    cJSON_AddStringToObject(t->special_tokens, "bos_token", "<s>");
    cJSON_AddStringToObject(t->special_tokens, "eos_token", "</s>");
    cJSON_AddStringToObject(t->special_tokens, "unk_token", "<unk>");
    t->bos = BOS;
    t->eos = EOS;
    return true;
}

// A JSON object begins with "{"; a tokenizer.bin may too (max_token_length 123), but then has NUL bytes behind it.
static bool looks_like_json(const File *f)
{
    size_t at = 0;
    while (at < f->size && strchr(" \t\r\n", f->data[at]) && f->data[at]) at++;
    return at < f->size && f->data[at] == '{' && !memchr(f->data, 0, f->size < 4 ? f->size : 4);
}

// ---- either format -------------------------------------------------------------------------------------------------

void err_one_line(Err *e)
{
    for (char *c = e->text; *c; c++)
        if ((unsigned char)*c < ' ') *c = ' ';
}

// Tries and flags, once the pieces, the added tokens and the normalizers are there.
static void index_added(Tokenizer *t)
{
    t->is_added = mem_alloc(t->vocab.n_ids, sizeof *t->is_added);
    t->is_special = mem_alloc(t->vocab.n_ids, sizeof *t->is_special);
    MappedText normal[2] = {{.cap = 0}, {.cap = 0}};
    for (size_t i = 0; i < t->n_added; i++) {
        const AddedToken *a = &t->added[i];
        t->is_added[a->id] = true;
        if (a->special) t->is_special[a->id] = true;
        Segment content = {a->content, strlen(a->content), NULL, 0};
        if (a->normalized) content = steps_apply(&t->normalizers, content, normal);
        if (content.len) trie_add(a->normalized ? &t->normalized : &t->raw, content.text, content.len, (int)i);
    }
    if (t->llama2c) t->is_special[0] = true;              // <unk>
    for (size_t i = 0; i < 2; i++) mapped_free(&normal[i]);
}

void tokenizer_free(Tokenizer *t)
{
    if (!t) return;
    vocab_free(&t->vocab);
    free(t->merges.slots);
    for (size_t i = 0; i < t->n_added; i++) free(t->added[i].content);
    free(t->added);
    free(t->raw.nodes);
    free(t->normalized.nodes);
    free(t->is_added);
    free(t->is_special);
    steps_free(&t->normalizers);
    steps_free(&t->splitters);
    steps_free(&t->decoders);
    free(t->before);
    free(t->after);
    cJSON_Delete(t->special_tokens);
    cJSON_Delete(t->templates);
    free(t->warning);
    free(t->gguf);
    free(t);
}

Tokenizer *tokenizer_load(const char *path, Err *e)
{
    char *file = file_is_dir(path) ? path_join(path, "tokenizer.json") : mem_strdup(path), *dir = path_dir(file);
    Tokenizer *t = mem_alloc(1, sizeof *t);
    t->unk_id = t->bos = t->eos = -1;
    for (int b = 0; b < 256; b++) t->single[b] = t->byte_id[b] = -1;
    t->special_tokens = cJSON_CreateObject();
    t->templates = cJSON_CreateObject();
    File f;
    bool ok = gguf_is(path) ? tokenizer_read_gguf(t, path, e) : file_map(&f, file, e);
    if (ok && !t->gguf) {
        ok = looks_like_json(&f) ? tokenizer_read_json(t, file, e) && tokenizer_read_beside(t, dir, e)
                                 : tokenizer_read_templates(t, dir, NULL, e) &&
                                   (read_bin(t, &f, e) || fail_prefix(e, "%s: ", file));
        file_unmap(&f);
    } else if (!ok && file_is_dir(path) && !file_exists(file))
        fail(e, "%s: expected tokenizer.json, found none. If it has tokenizer.model or vocab.json, " TOKENIZE, path);
    free(file);
    free(dir);
    if (ok) return index_added(t), t;
    err_one_line(e);
    tokenizer_free(t);
    return NULL;
}
