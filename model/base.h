// base: the bottom of the program, and the only model/ header that every other file may include.
// Errors as values, checked allocation, growing buffers, mapped files, atomic writes, strict JSON, UTF-8, random
// numbers.
#ifndef BASE_H
#define BASE_H

#include <cJSON.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

// ---- errors -------------------------------------------------------------------------------------------------------
// A function that can fail takes `Err *e` last and returns false or NULL with e->text set: where (file, line or
// tensor), what was expected, what was found. Wrong code is an assert, not an Err. Only train.c prints an
// Err and exits; other files may print warnings.
typedef struct { char text[2048]; } Err;

// Sets the text and returns false, so that `return fail(e, ...)` reads well.
bool fail(Err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// Puts "prefix" before the text already there (the caller knows the file, the callee the reason). Returns false.
bool fail_prefix(Err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#ifdef __clang_analyzer__                                  // it does not look into variadic functions: what they return
#define fail(...) ((fail)(__VA_ARGS__), false)
#define fail_prefix(...) ((fail_prefix)(__VA_ARGS__), false)
#endif

// ---- memory -------------------------------------------------------------------------------------------------------
// For small things: never NULL, the program aborts with a message when memory is out. Sizes are checked for overflow.
void *mem_alloc(size_t count, size_t size);               // zeroed; count 0 is allowed
void *mem_grow(void *old, size_t count, size_t size);     // realloc; the new part is not zeroed
char *mem_strdup(const char *text);
char *mem_strndup(const char *text, size_t len);
// Where the n bytes of `part` first stand in the `len` bytes; NULL: nowhere.
const char *mem_find(const void *bytes, size_t len, const void *part, size_t n);

// Makes room for one more element in a {items, n, cap} triple: ARRAY_ROOM(list->ids, list->n, list->cap);
#define ARRAY_ROOM(items, n, cap)                                                        \
    do {                                                                                 \
        if ((n) == (cap)) {                                                              \
            (cap) = (cap) ? (cap) * 2 : 16;                                              \
            (items) = mem_grow((items), (cap), sizeof *(items));                         \
        }                                                                                \
    } while (0)

// Growing bytes; data is NUL-terminated once anything was added. {0} is empty and valid.
typedef struct { char *data; size_t len, cap; } Buf;
void buf_add(Buf *b, const void *bytes, size_t n);
void buf_adds(Buf *b, const char *text);
void buf_addf(Buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_addc(Buf *b, char c);
void buf_clear(Buf *b);                                   // len = 0, the memory stays
void buf_free(Buf *b);

// ---- files --------------------------------------------------------------------------------------------------------
// A whole regular file, mapped read-only. An empty file has data "" and size 0. What nothing here reads (a Git LFS
// pointer, a zip archive, ...) is refused, and the message says what it is. file_map_any takes that too.
typedef struct { const unsigned char *data; size_t size; char *path; } File;
bool file_map(File *f, const char *path, Err *e);
bool file_map_any(File *f, const char *path, Err *e);
void file_unmap(File *f);                                 // accepts {0}

bool file_exists(const char *path);                       // a file or a folder; a link that leads nowhere, too
bool file_is_dir(const char *path);
bool dir_make(const char *path, Err *e);                  // like mkdir -p
char *path_join(const char *dir, const char *name);       // owned by the caller
// The same for a single use, with nothing to free: file_exists(path_in(dir, name).text). What the system finds too long
// is cut, and is then still too long to be opened.
typedef struct { char text[PATH_MAX + 1]; } Path;
Path path_in(const char *dir, const char *name);
char *path_dir(const char *path);                         // the folder part ("." if none), owned by the caller

// What messages advise where a file is of another kind.
#define CONVERT "convert the model to safetensors (save_pretrained of transformers)"
#define TOKENIZE "make a tokenizer.json of it (AutoTokenizer.from_pretrained and save_pretrained of transformers)"

bool file_sync(const char *path, Err *e);                 // what a file or a folder holds reaches the disk
// The folder for this process alone: a descriptor, or -1 and an error that says who has it. The lock goes with close()
// or with the process, however it ends. Where the file system has no locks there is none.
int dir_lock(const char *path, Err *e);
void dir_remove(const char *path);                        // with the files in it; not what lies deeper

// An atomic write: everything goes to PATH.tmp.PID; file_commit syncs and renames it onto PATH, file_abandon removes
// it.
typedef struct { int fd; Buf waiting; char *path, *tmp; } FileWriter;
bool file_create(FileWriter *w, const char *path, Err *e);
bool file_write(FileWriter *w, const void *bytes, size_t n, Err *e);  // abandons on failure
bool file_commit(FileWriter *w, Err *e);                  // abandons on failure
void file_abandon(FileWriter *w);                         // accepts {0} and a finished writer
bool file_put(const char *path, const void *bytes, size_t n, Err *e); // the three in one
bool file_copy(const char *from, const char *to, Err *e);
bool file_append(const char *path, const void *bytes, size_t n, Err *e);       // all of it, or the file stays as it was
// For a name that file_create gives to a file that is not finished yet: the length of the real name; else 0.
size_t unfinished_name_length(const char *name);

// ---- JSON: json.c -------------------------------------------------------------------------------------------------
// One JSON value, the whole of the text. Refuses invalid UTF-8, \u0000 (cJSON strings would end there) and
// anything after the value. `where` names the text in the message; `line` is the file line of its first byte
// (0: count lines and columns inside the text). The caller frees with cJSON_Delete. Of equal keys in an object the last
// counts, as in Python; then e->text says so, for those that warn or refuse. Else it is empty.
cJSON *json_parse(const char *text, size_t len, const char *where, size_t line, Err *e);
// The same, and each number has its literal as valuestring, because 5.0, 1e3 and 64-bit ids are not what a double
// prints.
cJSON *json_parse_literal(const char *text, size_t len, const char *where, size_t line, Err *e);
cJSON *json_load(const char *path, Err *e);               // the same from a file
bool json_save(const cJSON *value, const char *path, Err *e);         // atomically, for people to read
void json_print(cJSON *value);                            // one line on stdout; takes the value over
const cJSON *json_get(const cJSON *object, const char *key);          // case-sensitive; NULL if absent
const char *json_string(const cJSON *object, const char *key);        // NULL if absent or not a string
void json_set(cJSON *object, const char *key, cJSON *value);         // in place of one that is there; takes it over
const char *json_kind(const cJSON *value);                // "a string", "a number", ... for messages; NULL is "nothing"
bool json_is_int(const cJSON *value, int64_t min, int64_t max);       // a whole number in [min, max]
bool json_is_absent(const cJSON *value);                  // NULL or null
// Adds numbers to an object, up to the first without a key, and returns it. NAN becomes null.
typedef struct { const char *key; double value; } JsonNumber;
cJSON *json_add_numbers(cJSON *object, const JsonNumber *numbers);
// A number as it is ("-1", "0.5"), any other value by its kind: for messages. `room` holds the digits.
const char *json_found(const cJSON *value, char room[32]);

// The value of a key. An absent key and null mean `absent`; JSON_REQUIRED and NAN say that there must be one. A value
// of another kind or out of range fails with "WHERE.KEY: expected ..., found ..."; `where` NULL: without it.
enum { JSON_REQUIRED = INT_MIN };
bool json_get_int(int *out, const cJSON *object, const char *where, const char *key, int min, int max, int absent,
                  Err *e);                                // a whole number in [min, max]
bool json_get_number(double *out, const cJSON *object, const char *where, const char *key, double absent, Err *e);
bool json_get_flag(bool *out, const cJSON *object, const char *where, const char *key, bool absent, Err *e);
bool json_get_string(const char **out, const cJSON *object, const char *where, const char *key, Err *e);  // required

// ---- text ---------------------------------------------------------------------------------------------------------
// Length in bytes of the valid UTF-8 character at p (1 to 4), and the code point; 0 if the bytes there are invalid.
int utf8_decode(const char *p, const char *end, uint32_t *code);
int utf8_encode(uint32_t code, char out[4]);              // bytes written
size_t utf8_valid(const char *text, size_t len);          // len if all is valid, else the offset of the first bad byte
// The one of `names` (n of them, `stride` bytes apart) nearest to `name` by edit distance; NULL if none is near.
const char *nearest_name(const char *name, const char *const *names, size_t n, size_t stride);

// ---- random numbers -----------------------------------------------------------------------------------------------
// xoshiro256** seeded by splitmix64 (Blackman & Vigna, 2018): the same numbers on every machine.
typedef struct { uint64_t s[4]; } Rng;
Rng rng_seed(uint64_t seed);
uint64_t rng_next(Rng *r);
double rng_uniform(Rng *r);                               // [0, 1)
double rng_normal(Rng *r);                                // mean 0, standard deviation 1 (Box and Muller)
size_t rng_below(Rng *r, size_t n);                       // 0 .. n-1, without bias

// The SHA-256 (FIPS 180-4) of n bytes, as 64 hexadecimal digits: sha256.c.
void sha256_hex(const void *bytes, size_t n, char out[65]);

double now_seconds(void);                                 // monotonic clock

#endif
