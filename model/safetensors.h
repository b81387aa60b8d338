// safetensors: the container format, bytes only. Eight bytes of header length, a JSON header {name: {dtype, shape,
// data_offsets}}, then the data, without holes. Knows nothing of models.
#ifndef SAFETENSORS_H
#define SAFETENSORS_H

#include "base.h"

// Q8_0 (in GGUF only): blocks of 32 along a row, each a scale d in F16 and 32 signed bytes q; the numbers are d * q.
typedef enum { DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q8_0, N_DTYPES } Dtype;
enum { Q8_BLOCK = 32 };

enum { MAX_DIMS = 4 };

typedef struct {
    const char *name;                                      // borrowed from the header
    Dtype dtype;
    int n_dims;
    size_t shape[MAX_DIMS], count;                         // count: their product
    size_t begin, end;                                     // bytes, from the start of the file
} StTensor;

typedef struct {
    File file;
    cJSON *header;
    char *names;                                           // of the tensors, where they are not in the header
    StTensor *tensors;                                     // in order of name
    size_t n;
} SafeTensors;

// Maps the file and checks every entry: dtype, shape, offsets inside the file, in agreement with the shape, without
// overlap or hole. Nothing is read of the data.
bool safetensors_open(SafeTensors *st, const char *path, Err *e);
void safetensors_close(SafeTensors *st);                   // accepts {0}

const StTensor *safetensors_find(const SafeTensors *st, const char *name);  // NULL if absent
size_t dtype_bytes(Dtype dtype, size_t count);             // of `count` numbers
// Are the tensors' data one after another from byte `data` on, each beginning on a multiple of `alignment`, without
// overlap or hole, up to the file's end? Sorts the tensors by name.
bool safetensors_check_layout(SafeTensors *st, size_t data, size_t alignment, Err *e);
// `count` floats of a tensor, from element `from` on, converted to F32.
void safetensors_read(const SafeTensors *st, const StTensor *t, size_t from, size_t count, float *out);
// The tensor's pages need not stay in memory.
void safetensors_forget(const SafeTensors *st, const StTensor *t);
// "[64,172]" for messages.
const char *shape_text(const StTensor *t, char out[96]);

// Writing: begin with the F32 entries (name, n_dims, shape, count), then file_write each one's data in that order,
// then file_commit. `more` is JSON for __metadata__: "", or ",\"key\":\"value\"".
bool safetensors_create(FileWriter *w, const char *path, const char *more, const StTensor *entries, size_t n, Err *e);

#endif
