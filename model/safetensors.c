// safetensors: see safetensors.h.
#include "safetensors.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const struct { const char *name; size_t bytes; } dtypes[DTYPE_Q8_0] = {
    [DTYPE_F32] = {"F32", 4}, [DTYPE_F16] = {"F16", 2}, [DTYPE_BF16] = {"BF16", 2},
};
enum { Q8_BYTES = 2 + Q8_BLOCK };

size_t dtype_bytes(Dtype dtype, size_t count)
{
    return dtype == DTYPE_Q8_0 ? count / Q8_BLOCK * Q8_BYTES : count * dtypes[dtype].bytes;
}

enum { MAX_HEADER = 100 << 20 };    // the format's own limit

const char *shape_text(const StTensor *t, char out[96])
{
    int n = snprintf(out, 96, "[");
    for (int i = 0; i < t->n_dims; i++) n += snprintf(out + n, 96 - (size_t)n, i ? ",%zu" : "%zu", t->shape[i]);
    snprintf(out + n, 96 - (size_t)n, "]");
    return out;
}

static bool parse_shape(StTensor *t, const cJSON *shape, Err *e)
{
    if (!cJSON_IsArray(shape)) return fail(e, "shape: expected a list, found %s", json_kind(shape));
    t->count = 1;
    const cJSON *size;
    cJSON_ArrayForEach(size, shape) {
        if (t->n_dims == MAX_DIMS) return fail(e, "shape: expected at most %d dimensions", MAX_DIMS);
        if (!json_is_int(size, 0, (int64_t)1 << 40)) return fail(e, "shape: expected whole numbers");
        t->shape[t->n_dims] = (size_t)size->valuedouble;
        if (__builtin_mul_overflow(t->count, t->shape[t->n_dims++], &t->count)) return fail(e, "shape: too large");
    }
    return true;
}

static bool parse_tensor(StTensor *t, const cJSON *entry, size_t data, size_t file_size, Err *e)
{
    *t = (StTensor){.name = entry->string};
    const char *dtype = json_string(entry, "dtype");
    while (t->dtype < DTYPE_Q8_0 && (!dtype || strcmp(dtype, dtypes[t->dtype].name) != 0)) t->dtype++;
    if (t->dtype == DTYPE_Q8_0) return fail(e, "dtype: expected F32, F16 or BF16, found %s", dtype ? dtype : "none");
    if (!parse_shape(t, json_get(entry, "shape"), e)) return false;

    const cJSON *offsets = json_get(entry, "data_offsets");
    const cJSON *begin = cJSON_GetArrayItem(offsets, 0), *end = cJSON_GetArrayItem(offsets, 1);
    int64_t data_size = (int64_t)(file_size - data);
    if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2 || !json_is_int(begin, 0, data_size) ||
        !json_is_int(end, 0, data_size))
        return fail(e, "data_offsets: expected two offsets inside the file's %lld data bytes", (long long)data_size);
    size_t bytes;
    if (__builtin_mul_overflow(t->count, dtypes[t->dtype].bytes, &bytes) ||
        end->valuedouble - begin->valuedouble != (double)bytes) {
        char shape[96];
        return fail(e, "data_offsets: expected %zu bytes for %s of shape %s, found %.0f",
                    t->count * dtypes[t->dtype].bytes, dtype, shape_text(t, shape),
                    end->valuedouble - begin->valuedouble);
    }
    t->begin = data + (size_t)begin->valuedouble;
    t->end = t->begin + bytes;
    return true;
}

static int by_offset(const void *a, const void *b)
{
    const StTensor *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const StTensor *)a)->name, ((const StTensor *)b)->name);
}

bool safetensors_check_layout(SafeTensors *st, size_t data, size_t alignment, Err *e)
{
    size_t at = data, end = data;
    if (st->n) qsort(st->tensors, st->n, sizeof *st->tensors, by_offset);
    for (size_t i = 0; i < st->n; i++) {
        if (st->tensors[i].begin != at)
            return fail(e, "%s: %s: data_offsets: %s the data before it", st->file.path, st->tensors[i].name,
                        st->tensors[i].begin < at ? "overlaps" : "leaves a hole after");
        end = st->tensors[i].end;
        at = (end + alignment - 1) / alignment * alignment;
    }
    if (st->file.size < end || st->file.size > at)
        return fail(e, "%s: expected %zu bytes from its header, found %zu", st->file.path, end, st->file.size);
    if (st->n) qsort(st->tensors, st->n, sizeof *st->tensors, by_name);
    for (size_t i = 1; i < st->n; i++)
        if (strcmp(st->tensors[i - 1].name, st->tensors[i].name) == 0)
            return fail(e, "%s: %s: it is there twice", st->file.path, st->tensors[i].name);
    return true;
}

bool safetensors_open(SafeTensors *st, const char *path, Err *e)
{
    *st = (SafeTensors){0};
    if (!file_map(&st->file, path, e)) return false;
    uint64_t length = 0;
    bool ok = st->file.size >= 8 || fail(e, "%s: expected at least 8 bytes, found %zu", path, st->file.size);
    if (ok) memcpy(&length, st->file.data, 8);
    if (ok && (length > st->file.size - 8 || length > MAX_HEADER))
        ok = fail(e, "%s: header length: expected at most %zu, found %llu", path, st->file.size - 8,
                  (unsigned long long)length);
    if (ok) ok = (st->header = json_parse((const char *)st->file.data + 8, length, path, 0, e)) != NULL;
    if (ok && e->text[0]) ok = fail_prefix(e, "%s: header: ", path);       // a tensor that is there twice
    if (ok && !cJSON_IsObject(st->header))
        ok = fail(e, "%s: header: expected an object, found %s", path, json_kind(st->header));
    size_t cap = 0;
    for (const cJSON *entry = ok ? st->header->child : NULL; entry; entry = entry->next) {
        if (strcmp(entry->string, "__metadata__") == 0) continue;
        ARRAY_ROOM(st->tensors, st->n, cap);
        if (!parse_tensor(&st->tensors[st->n++], entry, 8 + length, st->file.size, e)) {
            ok = fail_prefix(e, "%s: %s: ", path, entry->string);
            break;
        }
    }
    if (ok && safetensors_check_layout(st, 8 + length, 1, e)) return true;
    safetensors_close(st);
    return false;
}

void safetensors_close(SafeTensors *st)
{
    file_unmap(&st->file);
    cJSON_Delete(st->header);
    free(st->names);
    free(st->tensors);
    *st = (SafeTensors){0};
}

const StTensor *safetensors_find(const SafeTensors *st, const char *name)
{
    StTensor key = {.name = name};
    return st->n ? bsearch(&key, st->tensors, st->n, sizeof key, by_name) : NULL;
}

static float from_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

// IEEE half precision: 1 sign bit, 5 of exponent, 10 of fraction.
static float from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 1023;
    if (exponent == 31) return from_bits(sign | 0x7F800000 | fraction << 13);
    if (exponent) return from_bits(sign | (exponent + 112) << 23 | fraction << 13);
    float tiny = (float)fraction * 0x1p-24f;               // subnormal
    return sign ? -tiny : tiny;
}

void safetensors_read(const SafeTensors *st, const StTensor *t, size_t from, size_t count, float *out)
{
    const unsigned char *data = st->file.data + t->begin;
    if (t->dtype == DTYPE_F32) {
        memcpy(out, data + 4 * from, count * sizeof *out);
        return;
    }
    for (size_t i = 0, k = from; i < count; i++, k++) {
        uint16_t h;
        const unsigned char *block = data + k / Q8_BLOCK * Q8_BYTES;
        memcpy(&h, t->dtype == DTYPE_Q8_0 ? block : data + 2 * k, sizeof h);
        if (t->dtype == DTYPE_Q8_0) out[i] = from_f16(h) * (float)(int8_t)block[2 + k % Q8_BLOCK];
        else out[i] = t->dtype == DTYPE_F16 ? from_f16(h) : from_bits((uint32_t)h << 16);
    }
}

void safetensors_forget(const SafeTensors *st, const StTensor *t)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), begin = t->begin / page * page;
#ifdef __linux__                                           // glibc's posix_madvise keeps the pages
    if (t->end > begin) madvise((void *)(st->file.data + begin), t->end - begin, MADV_DONTNEED);
#else
    if (t->end > begin) posix_madvise((void *)(st->file.data + begin), t->end - begin, POSIX_MADV_DONTNEED);
#endif
}

bool safetensors_create(FileWriter *w, const char *path, const char *more, const StTensor *entries, size_t n, Err *e)
{
    Buf header = {0};
    size_t at = 0;
    buf_addf(&header, "{\"__metadata__\":{\"format\":\"pt\"%s}", more);
    for (size_t i = 0; i < n; i++) {
        const StTensor *t = &entries[i];
        char shape[96];
        buf_addf(&header, ",\"%s\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}", t->name,
                 shape_text(t, shape), at, at + 4 * t->count);
        at += 4 * t->count;
    }
    buf_addc(&header, '}');
    while (header.len % 8) buf_addc(&header, ' ');         // the data begins on a multiple of 8
    uint64_t length = header.len;
    bool ok = file_create(w, path, e) && file_write(w, &length, 8, e) && file_write(w, header.data, header.len, e);
    buf_free(&header);
    return ok;
}
