// gguf: see gguf.h. A file is "GGUF", version (u32), numbers of tensors and of keys (u64 each); keys: name, type (u32),
// value; tensors: name, number of dimensions (u32), sizes (u64 each, the fastest first), type (u32), offset (u64); then
// the data. A text is its length (u64) and its bytes; a list its items' type (u32), their number (u64), and they. Each
// tensor's data begins on a multiple of general.alignment.
#include "gguf.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// A file may ask for no more than this. Real ones stay far below.
enum { MAX_KEYS = 1 << 12, MAX_TENSORS = 1 << 14, MAX_ITEMS = 1 << 22, MAX_NAME = 64, ALIGNMENT = 32 };

static const size_t sizes[N_GGUF_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
static const uint32_t tensor_types[N_DTYPES] = {[DTYPE_F32] = 0, [DTYPE_F16] = 1, [DTYPE_BF16] = 30, [DTYPE_Q8_0] = 8};

bool gguf_is(const char *path)
{
    File f;
    Err none;
    size_t n = strlen(path);
    if (file_is_dir(path) || !file_map_any(&f, path, &none)) return false;
    bool is = (f.size >= 4 && memcmp(f.data, "GGUF", 4) == 0) || (n >= 5 && strcmp(path + n - 5, ".gguf") == 0);
    file_unmap(&f);
    return is;
}

// ---- reading ------------------------------------------------------------------------------------------------------

typedef struct { const File *f; size_t at, items; } Reader;            // items: of lists, so far

static bool take(Reader *r, void *to, size_t n, Err *e)
{
    if (r->f->size - r->at < n)
        return fail(e, "expected %zu bytes of a GGUF file at byte %zu, found its end after %zu", n, r->at,
                    r->f->size - r->at);
    memcpy(to, r->f->data + r->at, n);
    r->at += n;
    return true;
}

// UTF-8 without NUL, or (most > 0) a name fit for messages: ASCII of at most so many bytes. The caller frees *text.
static bool take_text(Reader *r, char **text, size_t most, Err *e)
{
    uint64_t n = 0;
    if (!take(r, &n, sizeof n, e)) return false;
    const char *p = (const char *)r->f->data + r->at;
    bool ok = n <= r->f->size - r->at && !memchr(p, 0, n) && utf8_valid(p, n) == n && (!most || (n && n <= most));
    for (size_t i = 0; ok && most && i < n; i++) ok = p[i] > ' ' && p[i] <= '~';
    if (!ok)
        return fail(e, "expected %s of at most %zu bytes at byte %zu, found %llu bytes", most ? "a name" : "UTF-8",
                    most ? most : r->f->size - r->at, r->at, (unsigned long long)n);
    *text = mem_strndup(p, n);
    r->at += n;
    return true;
}

static cJSON *take_number(Reader *r, uint32_t type, Err *e)
{
    uint64_t bits = 0;
    float f;
    if (!take(r, &bits, sizes[type], e)) return NULL;
    int unused = 64 - 8 * (int)sizes[type];
    bool is_signed = type == GGUF_I8 || type == GGUF_I16 || type == GGUF_I32 || type == GGUF_I64;
    double value = is_signed ? (double)((int64_t)(bits << unused) >> unused) : (double)bits;
    if (type == GGUF_F32) memcpy(&f, &bits, sizeof f), value = (double)f;
    if (type == GGUF_F64) memcpy(&value, &bits, sizeof value);
    if (type == GGUF_BOOL ? bits <= 1 : isfinite(value))
        return type == GGUF_BOOL ? cJSON_CreateBool(bits != 0) : cJSON_CreateNumber(value);
    fail(e, "expected %s, found %g", type == GGUF_BOOL ? "a boolean, 0 or 1" : "a finite number", value);
    return NULL;
}

static cJSON *take_value(Reader *r, uint32_t type, bool in_list, Err *e)
{
    char *text;
    uint64_t n = 0;
    if (type >= N_GGUF_TYPES || (in_list && type == GGUF_LIST)) {
        fail(e, "expected a type from 0 to %d%s, found %u", GGUF_F64, in_list ? " but 9" : "", type);
        return NULL;
    }
    if (type == GGUF_STRING) {
        if (!take_text(r, &text, 0, e)) return NULL;
        cJSON *value = cJSON_CreateString(text);
        free(text);
        return value;
    }
    if (type != GGUF_LIST) return take_number(r, type, e);
    if (!take(r, &type, sizeof type, e) || !take(r, &n, sizeof n, e)) return NULL;
    size_t least = type == GGUF_STRING ? 8 : 1, left = r->f->size - r->at;
    if (n > left / least || n > MAX_ITEMS - r->items) {
        fail(e, "expected at most %zu items in a list, and %d in all, found %llu", left / least, MAX_ITEMS,
             (unsigned long long)n);
        return NULL;
    }
    r->items += n;
    cJSON *list = cJSON_CreateArray(), *item = list;
    for (; n > 0 && (item = take_value(r, type, true, e)); n--) cJSON_AddItemToArray(list, item);
    if (item) return list;
    cJSON_Delete(list);
    return NULL;
}

// The caller frees *name and *value.
static bool take_key(Reader *r, char **name, cJSON **value, Err *e)
{
    uint32_t type = 0;
    if (!take_text(r, name, 255, e)) return false;
    if (take(r, &type, sizeof type, e) && (*value = take_value(r, type, false, e))) return true;
    fail_prefix(e, "%s: ", *name);
    free(*name);
    return false;
}

// The name has the room of its tensor: MAX_NAME bytes.
static bool take_tensor(Reader *r, StTensor *t, char *name, Err *e)
{
    static const char *const other_types[] = {"", "", "Q4_0", "Q4_1", "Q4_2", "Q4_3", "Q5_0", "Q5_1", "", "Q8_1",
                                              "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K"};
    char *own;
    uint32_t n_dims = 0, type = 0;
    uint64_t size = 0, offset = 0;
    if (!take_text(r, &own, MAX_NAME - 1, e)) return false;
    *t = (StTensor){.name = strcpy(name, own), .count = 1};
    free(own);
    if (!take(r, &n_dims, sizeof n_dims, e)) return false;
    if (n_dims < 1 || n_dims > MAX_DIMS)
        return fail(e, "%s: expected 1 to %d dimensions, found %u", name, MAX_DIMS, n_dims);
    t->n_dims = (int)n_dims;
    for (int i = t->n_dims; i-- > 0;) {
        if (!take(r, &size, sizeof size, e)) return false;
        t->shape[i] = size;
        if (size < 1 || __builtin_mul_overflow(t->count, t->shape[i], &t->count) || t->count > (size_t)1 << 48)
            return fail(e, "%s: shape: expected sizes of a tensor, found %llu", name, (unsigned long long)size);
    }
    if (!take(r, &type, sizeof type, e) || !take(r, &offset, sizeof offset, e)) return false;
    while (t->dtype < N_DTYPES && tensor_types[t->dtype] != type) t->dtype++;
    if (t->dtype == N_DTYPES)
        return fail(e, "%s: type: expected F32, F16, BF16 or Q8_0, found %s (number %u)", name,
                    type < sizeof other_types / sizeof *other_types ? other_types[type] : "another", type);
    size_t row = t->shape[t->n_dims - 1];
    if (t->dtype == DTYPE_Q8_0 && row % Q8_BLOCK)
        return fail(e, "%s: expected rows of a multiple of %d numbers for Q8_0, found %zu", name, Q8_BLOCK, row);
    t->begin = offset;
    t->end = offset + dtype_bytes(t->dtype, t->count);
    return offset < r->f->size || fail(e, "%s: expected an offset below %zu, found %llu", name, r->f->size,
                                       (unsigned long long)offset);
}

static bool take_header(Reader *r, uint64_t counts[2], Err *e)
{
    uint32_t version = 0;
    if (r->f->size < 4 || memcmp(r->f->data, "GGUF", 4) != 0) return fail(e, "expected GGUF at its beginning");
    r->at = 4;
    if (!take(r, &version, sizeof version, e) || !take(r, counts, 16, e)) return false;
    if (version == 2u << 24 || version == 3u << 24)
        return fail(e, "expected a little-endian file, found a big-endian one");
    if (version != 2 && version != 3) return fail(e, "expected version 2 or 3 of GGUF, found %u", version);
    return (counts[0] <= MAX_TENSORS && counts[1] <= MAX_KEYS) ||
           fail(e, "expected at most %d tensors and %d keys, found %llu and %llu", MAX_TENSORS, MAX_KEYS,
                (unsigned long long)counts[0], (unsigned long long)counts[1]);
}

static bool read_file(SafeTensors *g, Err *e)
{
    Reader r = {.f = &g->file};
    uint64_t counts[2];
    int alignment = ALIGNMENT, parts = 0;
    if (!take_header(&r, counts, e)) return false;
    g->header = cJSON_CreateObject();
    for (uint64_t i = 0; i < counts[1]; i++) {
        char *name;
        cJSON *value;
        if (!take_key(&r, &name, &value, e)) return false;
        bool ok = !json_get(g->header, name) || fail(e, "%s: it is there twice", name);
        cJSON_AddItemToObject(g->header, name, value);
        free(name);
        if (!ok) return false;
    }
    if (!json_get_int(&alignment, g->header, NULL, "general.alignment", 1, 1 << 16, ALIGNMENT, e)) return false;
    if (!json_get_int(&parts, g->header, NULL, "split.count", 0, 1, 0, e)) return false;
    if (alignment & (alignment - 1)) return fail(e, "general.alignment: expected a power of 2, found %d", alignment);
    if (counts[0] > (g->file.size - r.at) / 32)            // bytes of the shortest description
        return fail(e, "expected at most %zu tensors in as many bytes, found %llu", (g->file.size - r.at) / 32,
                    (unsigned long long)counts[0]);
    g->tensors = mem_alloc(counts[0], sizeof *g->tensors);
    g->names = mem_alloc(counts[0], MAX_NAME);
    for (; g->n < counts[0]; g->n++)
        if (!take_tensor(&r, &g->tensors[g->n], g->names + g->n * MAX_NAME, e)) return false;
    size_t data = (r.at + (size_t)alignment - 1) / (size_t)alignment * (size_t)alignment;
    for (size_t i = 0; i < g->n; i++) g->tensors[i].begin += data, g->tensors[i].end += data;
    return safetensors_check_layout(g, data, (size_t)alignment, e);
}

bool gguf_open(SafeTensors *g, const char *path, Err *e)
{
    *g = (SafeTensors){0};
    if (!file_map_any(&g->file, path, e)) return false;
    if (read_file(g, e)) return true;
    if (strncmp(e->text, path, strlen(path)) != 0) fail_prefix(e, "%s: ", path);
    safetensors_close(g);
    return false;
}

// ---- writing ------------------------------------------------------------------------------------------------------

static void put_name(GgufKeys *k, const char *key, uint32_t type)
{
    k->n++;
    gguf_item_text(k, key);
    buf_add(&k->bytes, &type, sizeof type);
}

void gguf_item_text(GgufKeys *k, const char *text)
{
    uint64_t n = strlen(text);
    buf_add(&k->bytes, &n, sizeof n);
    buf_adds(&k->bytes, text);
}

void gguf_item(GgufKeys *k, GgufType type, double value)
{
    float f = (float)value;
    int64_t whole = type == GGUF_F32 ? 0 : (int64_t)value;
    buf_add(&k->bytes, type == GGUF_F32 ? (void *)&f : &whole, sizes[type]);
}

void gguf_add(GgufKeys *k, const char *key, GgufType type, double value)
{
    put_name(k, key, type);
    gguf_item(k, type, value);
}

void gguf_add_text(GgufKeys *k, const char *key, const char *text)
{
    put_name(k, key, GGUF_STRING);
    gguf_item_text(k, text);
}

void gguf_add_list(GgufKeys *k, const char *key, GgufType type, size_t n)
{
    uint32_t of = type;
    uint64_t count = n;
    put_name(k, key, GGUF_LIST);
    buf_add(&k->bytes, &of, sizeof of);
    buf_add(&k->bytes, &count, sizeof count);
}

void gguf_copy(GgufKeys *k, const SafeTensors *g, const char *begin, const char *const *others, size_t n_others)
{
    Reader r = {.f = &g->file};
    uint64_t counts[2];
    Err none;
    if (!take_header(&r, counts, &none)) return;           // never: the file is open
    for (size_t at = r.at; counts[1] > 0; at = r.at, counts[1]--) {
        char *name;
        cJSON *value;
        if (!take_key(&r, &name, &value, &none)) return;   // never, too
        bool wanted = strncmp(name, begin, strlen(begin)) == 0;
        for (size_t i = 0; i < n_others; i++) wanted &= strcmp(name, others[i]) != 0;
        if (wanted) buf_add(&k->bytes, g->file.data + at, r.at - at), k->n++;
        cJSON_Delete(value);
        free(name);
    }
}

static size_t padding(size_t bytes) { return (ALIGNMENT - bytes % ALIGNMENT) % ALIGNMENT; }

bool gguf_create(FileWriter *w, const char *path, const GgufKeys *k, const StTensor *entries, size_t n, Err *e)
{
    static const char zeros[ALIGNMENT];
    GgufKeys head = {0};                                   // not only keys
    uint32_t version = 3;
    uint64_t counts[2] = {n, k->n}, offset = 0;
    buf_adds(&head.bytes, "GGUF");
    buf_add(&head.bytes, &version, sizeof version);
    buf_add(&head.bytes, counts, sizeof counts);
    buf_add(&head.bytes, k->bytes.data, k->bytes.len);
    for (const StTensor *t = entries; t < entries + n; t++) {
        size_t bytes = dtype_bytes(t->dtype, t->count);
        uint32_t n_dims = (uint32_t)t->n_dims;
        gguf_item_text(&head, t->name);
        buf_add(&head.bytes, &n_dims, sizeof n_dims);
        for (int i = t->n_dims; i-- > 0;) buf_add(&head.bytes, &t->shape[i], sizeof t->shape[i]);
        buf_add(&head.bytes, &tensor_types[t->dtype], sizeof *tensor_types);
        buf_add(&head.bytes, &offset, sizeof offset);
        offset += bytes + padding(bytes);
    }
    buf_add(&head.bytes, zeros, padding(head.bytes.len));
    bool ok = file_create(w, path, e) && file_write(w, head.bytes.data, head.bytes.len, e);
    buf_free(&head.bytes);
    return ok;
}

// To the nearest number, to the even one of two: as IEEE 754 rounds.
static uint16_t to_f16(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000, rest = bits & 0x7FFFFFFF;
    if (rest >= 0x477FF000) return (uint16_t)(sign | 0x7C00);          // 65520 and more
    if (rest < 0x38800000) return (uint16_t)(sign | (uint32_t)rintf(fabsf(f) * 0x1p24f));    // subnormal
    return (uint16_t)(sign | (rest + 0xFFF + (rest >> 13 & 1) - 0x38000000) >> 13);
}

// Rounded as gguf's own quantizer does it, so that the bytes are the same.
static bool write_q8_block(FileWriter *w, const float *x, Err *e)
{
    float most = 0;
    int8_t q[Q8_BLOCK];
    for (int i = 0; i < Q8_BLOCK; i++) most = fmaxf(most, fabsf(x[i]));
    float d = most / 127, inverse = d > 0 ? 1 / d : 0;
    uint16_t scale = to_f16(d);
    for (int i = 0; i < Q8_BLOCK; i++) q[i] = (int8_t)roundf(x[i] * inverse);
    return file_write(w, &scale, sizeof scale, e) && file_write(w, q, sizeof q, e);
}

bool gguf_write(FileWriter *w, const StTensor *t, const float *data, Err *e)
{
    static const char zeros[ALIGNMENT];
    size_t bytes = dtype_bytes(t->dtype, t->count);
    float limit = t->dtype == DTYPE_Q8_0 ? 65504.0f * 127 : 65504.0f;
    bool ok = t->dtype != DTYPE_F32 || file_write(w, data, bytes, e);
    for (size_t i = 0; ok && t->dtype != DTYPE_F32 && i < t->count; i++) {
        uint16_t h = to_f16(data[i]);
        if (!(fabsf(data[i]) <= limit)) {
            fail(e, "%s: %s: the type %s has no number %g: --outtype=f32 has it", w->path, t->name,
                 t->dtype == DTYPE_F16 ? "F16" : "Q8_0", (double)data[i]);
            file_abandon(w);
            return false;
        }
        if (t->dtype == DTYPE_F16) ok = file_write(w, &h, sizeof h, e);
        else if (i % Q8_BLOCK == Q8_BLOCK - 1) ok = write_q8_block(w, data + i + 1 - Q8_BLOCK, e);
    }
    return ok && file_write(w, zeros, padding(bytes), e);
}
