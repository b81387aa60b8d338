// decode: ids back to text. The decoders of a tokenizer.json are steps over a list of pieces, as in the Rust library:
// what one step makes of a piece depends on where the steps before it have left the borders between the pieces.
#include "internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

// Pieces one after another in one text; piece i ends at ends[i].
typedef struct { Buf text; size_t *ends, n, cap; } Pieces;

static void piece_end(Pieces *p)
{
    ARRAY_ROOM(p->ends, p->n, p->cap);
    p->ends[p->n++] = p->text.len;
}

static void pieces_free(Pieces *p)
{
    buf_free(&p->text);
    free(p->ends);
}

// How many bytes at p, where no character stands whole, are the beginning of one; at least 1. One U+FFFD stands for all
// of them. The bytes that may come next are a range that has 80 or BF in it: one of the two makes it whole.
static size_t broken_length(const char *p, size_t left)
{
    uint32_t code;
    for (size_t n = left < 3 ? left : 3; n > 1; n--)
        for (int next = 0x80; next <= 0xBF; next += 0x3F) {
            char whole[4];
            memset(whole, next, sizeof whole);
            memcpy(whole, p, n);
            if (utf8_decode(whole, whole + 4, &code)) return n;
        }
    return 1;
}

static void add_lossy(Buf *out, const char *text, size_t len)
{
    for (size_t at = 0; at < len;) {
        size_t valid = utf8_valid(text + at, len - at);
        buf_add(out, text + at, valid);
        at += valid;
        if (at == len) break;
        buf_adds(out, "\xEF\xBF\xBD");
        at += broken_length(text + at, len - at);
    }
}

// ---- steps ---------------------------------------------------------------------------------------------------------

// The byte that a character of the byte alphabet stands for; -1 for others.
static int alphabet_byte(uint32_t code)
{
    char letter[4], wanted[4];
    if (code >= 0x21 && code <= 0xFF && code != 0x7F && !(code > 0x7F && code < 0xA1) && code != 0xAD) return (int)code;
    if (code < 0x100 || code >= 0x100 + 68) return -1;
    size_t n = (size_t)utf8_encode(code, wanted);
    for (int b = 0; b < 256; b++)
        if (byte_alphabet((unsigned char)b, letter) == n && memcmp(letter, wanted, n) == 0) return b;
    return -1;
}

// A piece with a character outside the alphabet (an added token) is text and stays as it is.
static void add_piece_bytes(Buf *out, const char *p, const char *end)
{
    size_t mark = out->len;
    uint32_t code;
    for (const char *q = p; q < end;) {
        int n = utf8_decode(q, end, &code), byte = n ? alphabet_byte(code) : -1;
        if (byte < 0) {
            out->len = mark;
            buf_add(out, p, (size_t)(end - p));
            return;
        }
        buf_addc(out, (char)byte);
        q += n;
    }
}

static void decode_byte_level(const Pieces *in, Pieces *out)
{
    Buf bytes = {0};
    for (size_t i = 0, at = 0; i < in->n; at = in->ends[i++])
        add_piece_bytes(&bytes, in->text.data + at, in->text.data + in->ends[i]);
    add_lossy(&out->text, bytes.data, bytes.len);
    piece_end(out);
    buf_free(&bytes);
}

static int hex_digit(char c)
{
    static const char digits[] = "0123456789ABCDEF0123456789abcdef";
    const char *at = memchr(digits, c, sizeof digits - 1);
    return at ? (int)(at - digits) % 16 : -1;
}

// The byte of a piece "<0x0A>"; -1 for other pieces.
static int byte_piece(const char *p, size_t n)
{
    if (n != 6 || memcmp(p, "<0x", 3) != 0 || p[5] != '>' || hex_digit(p[3]) < 0 || hex_digit(p[4]) < 0) return -1;
    return hex_digit(p[3]) * 16 + hex_digit(p[4]);
}

// If a run of bytes is not UTF-8 as a whole, each of its bytes becomes a U+FFFD.
static void flush_bytes(Buf *bytes, Pieces *out)
{
    if (bytes->len == 0) return;
    bool valid = utf8_valid(bytes->data, bytes->len) == bytes->len;
    if (valid) buf_add(&out->text, bytes->data, bytes->len);
    for (size_t i = 0; !valid && i < bytes->len; i++) buf_adds(&out->text, "\xEF\xBF\xBD");
    piece_end(out);
    buf_clear(bytes);
}

static void decode_byte_fallback(const Pieces *in, Pieces *out)
{
    Buf bytes = {0};
    for (size_t i = 0, at = 0; i < in->n; at = in->ends[i++]) {
        const char *p = in->text.data + at;
        size_t n = in->ends[i] - at;
        int byte = byte_piece(p, n);
        if (byte >= 0) {
            buf_addc(&bytes, (char)byte);
            continue;
        }
        flush_bytes(&bytes, out);
        buf_add(&out->text, p, n);
        piece_end(out);
    }
    flush_bytes(&bytes, out);
    buf_free(&bytes);
}

static void replace_in_piece(const char *p, size_t n, const Step *step, const char *to, Buf *out)
{
    const char *end = p + n, *hit;
    while ((hit = mem_find(p, (size_t)(end - p), step->from, step->n_from))) {
        buf_add(out, p, (size_t)(hit - p));
        buf_adds(out, to);
        p = hit + step->n_from;
    }
    buf_add(out, p, (size_t)(end - p));
}

static void strip_piece(const char *p, size_t n, const Step *step, Buf *out)
{
    for (int i = 0; i < step->start && n >= step->n_from && memcmp(p, step->from, step->n_from) == 0; i++) {
        p += step->n_from;
        n -= step->n_from;
    }
    for (int i = 0; i < step->stop && n >= step->n_from; i++) {
        if (memcmp(p + n - step->n_from, step->from, step->n_from) != 0) break;
        n -= step->n_from;
    }
    buf_add(out, p, n);
}

static void decode_step(const Step *step, const Pieces *in, Pieces *out)
{
    out->text.len = out->n = 0;
    if (step->kind == STEP_BYTE_LEVEL || step->kind == STEP_BYTE_FALLBACK) {
        (step->kind == STEP_BYTE_LEVEL ? decode_byte_level : decode_byte_fallback)(in, out);
        return;
    }
    for (size_t i = 0, at = 0; i < in->n; at = in->ends[i++]) {
        const char *p = in->text.data + at;
        size_t n = in->ends[i] - at;
        if (step->kind == STEP_STRIP) strip_piece(p, n, step, &out->text);
        else if (step->kind == STEP_REPLACE) replace_in_piece(p, n, step, step->to, &out->text);
        else if (step->kind == STEP_METASPACE) replace_in_piece(p, n, step, i || step->whole ? " " : "", &out->text);
        else buf_add(&out->text, p, n);
        if (step->kind != STEP_FUSE) piece_end(out);
    }
    if (step->kind == STEP_FUSE) piece_end(out);
}

// ---- the whole -----------------------------------------------------------------------------------------------------

// llama2.c's run.c: a piece loses its leading space after BOS and at the start, "<0x0A>" is a raw byte.
static void decode_llama2c(const Tokenizer *t, const int *ids, size_t n, bool skip_special, Buf *out)
{
    int before = 1;
    for (size_t i = 0; i < n; before = ids[i++]) {
        if (skip_special && t->is_special[ids[i]]) continue;
        const char *piece = tokenizer_piece(t, ids[i]);
        size_t len = t->vocab.len[ids[i]];
        if (before == 1 && *piece == ' ') {
            piece++;
            len--;
        }
        int byte = byte_piece(piece, len);
        if (byte >= 0) buf_addc(out, (char)byte);
        else buf_add(out, piece, len);
    }
}

void tokenizer_bytes(const Tokenizer *t, int id, Buf *out)
{
    const char *piece = tokenizer_piece(t, id);
    size_t n = t->vocab.len[id];
    int byte = byte_piece(piece, n);
    if (t->is_added[id]) buf_add(out, piece, n);
    else if (t->byte_level) add_piece_bytes(out, piece, piece + n);
    else if (byte >= 0) buf_addc(out, (char)byte);
    else replace_in_piece(piece, n, &(Step){.from = SPACE_MARK, .n_from = 3}, " ", out);
}

void tokenizer_decode(const Tokenizer *t, const int *ids, size_t n, bool skip_special, Buf *out)
{
    for (size_t i = 0; i < n; i++) assert(ids[i] >= 0 && (size_t)ids[i] < t->vocab.n_ids);
    buf_add(out, "", 0);
    if (t->llama2c) {
        decode_llama2c(t, ids, n, skip_special, out);
        return;
    }
    Pieces a = {0}, b = {0};
    buf_add(&a.text, "", 0);                              // not NULL, even if all pieces are empty
    buf_add(&b.text, "", 0);
    for (size_t i = 0; i < n; i++) {
        if (t->vocab.at[ids[i]] == NO_PIECE || (skip_special && t->is_special[ids[i]])) continue;
        if (t->decoders.n == 0 && a.n > 0) buf_addc(&a.text, ' ');    // without a decoder pieces are words
        buf_add(&a.text, tokenizer_piece(t, ids[i]), t->vocab.len[ids[i]]);
        piece_end(&a);
    }
    for (size_t i = 0; i < t->decoders.n; i++) {
        decode_step(&t->decoders.items[i], &a, &b);
        Pieces swap = a;
        a = b;
        b = swap;
    }
    buf_add(out, a.text.data, a.text.len);
    pieces_free(&a);
    pieces_free(&b);
}
