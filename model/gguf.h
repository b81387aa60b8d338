// gguf: llama.cpp's container, bytes only: typed keys, then tensors. Reads version 2 and 3, writes 3; little-endian.
// What the keys mean is known to checkpoint_gguf (the model) and tokenizer/gguf (the text).
#ifndef GGUF_H
#define GGUF_H

#include "safetensors.h"

typedef enum {
    GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL, GGUF_STRING, GGUF_LIST, GGUF_U64,
    GGUF_I64, GGUF_F64, N_GGUF_TYPES
} GgufType;

bool gguf_is(const char *path);                            // by its first bytes, or by its name
// Maps the file and checks it all, as safetensors_open does. header: an object of the keys, with numbers, strings,
// booleans, and lists of them. safetensors_close closes it.
bool gguf_open(SafeTensors *g, const char *path, Err *e);

// Keys to be written. {0} is empty; buf_free(&k->bytes) frees.
typedef struct { Buf bytes; uint64_t n; } GgufKeys;
void gguf_add(GgufKeys *k, const char *key, GgufType type, double value);
void gguf_add_text(GgufKeys *k, const char *key, const char *text);
// n calls of one of the two functions after it must follow.
void gguf_add_list(GgufKeys *k, const char *key, GgufType type, size_t n);
void gguf_item(GgufKeys *k, GgufType type, double value);
void gguf_item_text(GgufKeys *k, const char *text);
// Adds the keys of an open file that begin so, byte for byte, but those of n_others names.
void gguf_copy(GgufKeys *k, const SafeTensors *g, const char *begin, const char *const *others, size_t n_others);

// Writing: begin with the entries (name, dtype, n_dims, shape, count), then gguf_write each one's data (of all its
// numbers) in that order, then file_commit. Q8_0 needs rows of whole blocks. A number that the type cannot hold is an
// error.
bool gguf_create(FileWriter *w, const char *path, const GgufKeys *k, const StTensor *entries, size_t n, Err *e);
bool gguf_write(FileWriter *w, const StTensor *entry, const float *data, Err *e);

#endif
