// base: see base.h.
#include "base.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/file.h>
#include <sys/sysmacros.h>
#endif

// ---- errors -------------------------------------------------------------------------------------------------------

bool (fail)(Err *e, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(e->text, sizeof e->text, fmt, args);
    va_end(args);
    return false;
}

bool (fail_prefix)(Err *e, const char *fmt, ...)
{
    Err old = *e;
    va_list args;
    va_start(args, fmt);
    vsnprintf(e->text, sizeof e->text, fmt, args);
    va_end(args);
    size_t n = strlen(e->text);
    snprintf(e->text + n, sizeof e->text - n, "%s", old.text);
    return false;
}

// ---- memory -------------------------------------------------------------------------------------------------------

static void *check_memory(void *p, size_t count, size_t size)
{
    if (!p) {
        fprintf(stderr, "out of memory: %zu x %zu bytes\n", count, size);
        abort();
    }
    return p;
}

void *mem_alloc(size_t count, size_t size)
{
    return check_memory(calloc(count ? count : 1, size ? size : 1), count, size);
}

void *mem_grow(void *old, size_t count, size_t size)
{
    size_t total;
    bool overflow = __builtin_mul_overflow(count, size, &total);
    return check_memory(overflow ? NULL : realloc(old, total ? total : 1), count, size);
}

char *mem_strndup(const char *text, size_t len)
{
    char *copy = mem_alloc(len + 1, 1);
    if (len) memcpy(copy, text, len);
    return copy;
}

char *mem_strdup(const char *text) { return mem_strndup(text, strlen(text)); }

const char *mem_find(const void *bytes, size_t len, const void *part, size_t n)
{
    const char *at = bytes, *hit;
    if (n == 0) return at;
    for (; len >= n && (hit = memchr(at, *(const unsigned char *)part, len - n + 1)); at = hit + 1) {
        if (memcmp(hit, part, n) == 0) return hit;
        len -= (size_t)(hit + 1 - at);
    }
    return NULL;
}

static void buf_reserve(Buf *b, size_t more)
{
    size_t need = b->len + more + 1;
    if (need > b->cap) {
        b->cap = need > 2 * b->cap ? need : 2 * b->cap;
        b->data = mem_grow(b->data, b->cap, 1);
    }
    assert(b->data);
}

void buf_add(Buf *b, const void *bytes, size_t n)
{
    buf_reserve(b, n);
    if (n) memcpy(b->data + b->len, bytes, n);
    b->len += n;
    b->data[b->len] = 0;
}

void buf_adds(Buf *b, const char *text) { buf_add(b, text, strlen(text)); }
void buf_addc(Buf *b, char c) { buf_add(b, &c, 1); }

void buf_addf(Buf *b, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    assert(n >= 0);                                        // it fails for 2 GB and more
    buf_reserve(b, (size_t)n);
    vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
    b->len += (size_t)n;
    va_end(args);
    va_end(again);
}

void buf_clear(Buf *b)
{
    b->len = 0;
    if (b->data) b->data[0] = 0;
}

void buf_free(Buf *b)
{
    free(b->data);
    *b = (Buf){0};
}

// ---- files --------------------------------------------------------------------------------------------------------

// What people give that no reader here takes: how such a file begins, what it is, and what to do.
#define ROWS_OF "python3 -c \"import pandas as p; "
static const struct { const char *begin, *what; } other_kinds[] = {
    {"version https://git-lfs", "a Git LFS pointer, not the file itself: get that with git lfs pull"},
    {"PK\3\4", "a zip archive, as PyTorch's .bin and .pt files are: " CONVERT},
    {"\x80\2\x8a\n", "a pickle of PyTorch: " CONVERT},
    {"GGUF", "a GGUF file of llama.cpp, which is read as a model or as the tokenizer in it, and here is neither"},
    {"\n\16\n\5<", "a tokenizer.model of SentencePiece: " TOKENIZE},
    {"IQ== 0\n", "a tokenizer.model of tiktoken: " TOKENIZE},
    {"PAR1", "a Parquet file: " ROWS_OF "p.read_parquet('IN').to_json('OUT.jsonl', orient='records', lines=True)\""},
    {"ARROW1", "an Arrow file: " ROWS_OF "p.read_feather('IN').to_json('OUT.jsonl', orient='records', lines=True)\""},
    {"\x1f\x8b\b", "a file packed by gzip: unpack it"}, {"\x28\xB5\x2F\xFD", "a file packed by zstd: unpack it"},
};

// A link may lead nowhere, and what is no path may be a name on the Hub.
static const char *open_hint(const char *path)
{
    char *dir = path_dir(path);
    const char *slash = strchr(path, '/');
    bool name = slash ? slash == strrchr(path, '/') && !file_is_dir(dir) : !strchr(path, '.');
    free(dir);
    return file_exists(path) ? ": it is a link, and what it leads to is gone"
           : name || strstr(path, "://") ? ". Nothing is downloaded: give a folder or a file of this machine" : "";
}

bool file_map_any(File *f, const char *path, Err *e)
{
    *f = (File){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int why = errno;
    if (fd < 0) return fail(e, "%s: cannot open: %s%s", path, strerror(why), why == ENOENT ? open_hint(path) : "");
    struct stat st = {0};
    bool ok = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    size_t size = (size_t)st.st_size;
    void *map = ok && size ? mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0) : "";
    if (!ok) fail(e, "%s: expected a file, found %s", path, S_ISDIR(st.st_mode) ? "a folder" : "something else");
    if (map == MAP_FAILED) ok = fail(e, "%s: cannot map %zu bytes: %s", path, size, strerror(errno));
    if (ok) *f = (File){map, size, mem_strdup(path)};
    close(fd);
    return ok;
}

void file_unmap(File *f)
{
    if (f->size) munmap((void *)f->data, f->size);
    free(f->path);
    *f = (File){0};
}

bool file_map(File *f, const char *path, Err *e)
{
    if (!file_map_any(f, path, e)) return false;
    for (size_t i = 0; i < sizeof other_kinds / sizeof *other_kinds; i++) {
        size_t n = strlen(other_kinds[i].begin);
        if (f->size < n || memcmp(f->data, other_kinds[i].begin, n) != 0) continue;
        file_unmap(f);
        return fail(e, "%s: this is %s", path, other_kinds[i].what);
    }
    return true;
}

bool file_exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

bool file_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool file_sync(const char *path, Err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool ok = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL || errno == EROFS); // some file systems sync no folders
    if (!ok) fail(e, "%s: cannot write: %s", path, strerror(errno));
    if (fd >= 0) close(fd);
    return ok;
}

// A crash must not lose a new name either: it stands in the folder that it is in.
static bool parent_sync(const char *path, Err *e)
{
    char *dir = path_dir(path);
    bool ok = file_sync(dir, e);
    free(dir);
    return ok;
}

bool dir_make(const char *path, Err *e)
{
    if (file_is_dir(path) || strcmp(path, ".") == 0) return true;
    char *dir = path_dir(path);
    bool ok = dir_make(dir, e);
    free(dir);
    if (ok && mkdir(path, 0777) == 0) return parent_sync(path, e);
    return ok && ((errno == EEXIST && file_is_dir(path)) ||
                  fail(e, "%s: cannot make the folder: %s", path, strerror(errno)));
}

Path path_in(const char *dir, const char *name)
{
    Path path;
    snprintf(path.text, sizeof path.text, "%s%s%s", dir, *dir && dir[strlen(dir) - 1] == '/' ? "" : "/", name);
    return path;
}

char *path_join(const char *dir, const char *name) { return mem_strdup(path_in(dir, name).text); }

char *path_dir(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? mem_strndup(path, slash == path ? 1 : (size_t)(slash - path)) : mem_strdup(".");
}

#ifdef __linux__
static int lock_open(const char *path) { return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC); }
static bool lock_take(int fd) { return flock(fd, LOCK_EX | LOCK_NB) == 0; }

// Who has the folder locked: its process id, as Linux tells it; 0 if that cannot be known.
static long lock_holder(int fd)
{
    struct stat st;
    char line[256];
    long holder = 0, pid;
    unsigned long inode;
    unsigned major_number, minor_number;
    FILE *locks = fopen("/proc/locks", "r");
    while (locks && fstat(fd, &st) == 0 && !holder && fgets(line, sizeof line, locks))
        if (sscanf(line, "%*d: FLOCK %*s WRITE %ld %x:%x:%lu", &pid, &major_number, &minor_number, &inode) == 4 &&
            inode == st.st_ino && makedev(major_number, minor_number) == st.st_dev) holder = pid;
    if (locks) fclose(locks);
    return holder;
}
#else
// POSIX locks no folders, only files that may be written: one in the folder, which stays there.
static int lock_open(const char *path)
{
    char *file = path_join(path, ".lock");
    int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    free(file);
    return fd;
}

static bool lock_take(int fd)
{
    return fcntl(fd, F_SETLK, &(struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET}) == 0;
}

static long lock_holder(int fd)
{
    struct flock other = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, F_GETLK, &other) == 0 && other.l_type != F_UNLCK ? (long)other.l_pid : 0;
}
#endif

int dir_lock(const char *path, Err *e)
{
    int fd = lock_open(path);
    if (fd >= 0 && lock_take(fd)) return fd;
    if (fd >= 0 && (errno == ENOSYS || errno == ENOLCK || errno == EOPNOTSUPP)) return fd;
    long pid = fd >= 0 && (errno == EWOULDBLOCK || errno == EACCES) ? lock_holder(fd) : -1;
    if (pid < 0) fail(e, "%s: cannot lock the folder: %s", path, strerror(errno));
    else if (pid == 0) fail(e, "%s: another run is writing into it", path);
    else fail(e, "%s: another run is writing into it: process %ld", path, pid);
    if (fd >= 0) close(fd);
    return -1;
}

void dir_remove(const char *path)
{
    DIR *dir = opendir(path);
    for (struct dirent *d; dir && (d = readdir(dir));)
        if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0) unlink(path_in(path, d->d_name).text);
    if (dir) closedir(dir);
    rmdir(path);
}

static const char UNFINISHED[] = ".tmp.";

void file_abandon(FileWriter *w)
{
    if (w->tmp && w->fd >= 0) close(w->fd);
    if (w->tmp) unlink(w->tmp);
    buf_free(&w->waiting);
    free(w->path);
    free(w->tmp);
    *w = (FileWriter){0};
}

static bool file_give_up(FileWriter *w, Err *e)
{
    fail(e, "%s: cannot write: %s", w->path, strerror(errno));
    file_abandon(w);
    return false;
}

bool file_create(FileWriter *w, const char *path, Err *e)
{
    Buf tmp = {0};
    buf_addf(&tmp, "%s%s%ld", path, UNFINISHED, (long)getpid());
    *w = (FileWriter){.path = mem_strdup(path), .tmp = tmp.data};
    w->fd = open(w->tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    return w->fd >= 0 || file_give_up(w, e);
}

size_t unfinished_name_length(const char *name)
{
    const char *dot = strstr(name, UNFINISHED), *pid = dot ? dot + strlen(UNFINISHED) : "";
    return *pid && !pid[strspn(pid, "0123456789")] ? (size_t)(dot - name) : 0;
}

// A write may take a part only, when a disk fills or a signal comes: then the rest is written, or there is an error to
// tell.
static bool write_all(int fd, const char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, bytes, n < 1 << 30 ? n : 1 << 30);    // what every system takes at once
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return false;
        bytes += done;
        n -= (size_t)done;
    }
    return true;
}

bool file_write(FileWriter *w, const void *bytes, size_t n, Err *e)
{
    enum { ENOUGH = 1 << 16 };                             // small pieces are put together to this much
    if (n < ENOUGH) buf_add(&w->waiting, bytes, n);
    if (n < ENOUGH && w->waiting.len < ENOUGH) return true;
    bool ok = write_all(w->fd, w->waiting.data, w->waiting.len) && (n < ENOUGH || write_all(w->fd, bytes, n));
    buf_clear(&w->waiting);
    return ok || file_give_up(w, e);
}

bool file_commit(FileWriter *w, Err *e)
{
    if (!write_all(w->fd, w->waiting.data, w->waiting.len) || fsync(w->fd) != 0) return file_give_up(w, e);
    int closed = close(w->fd);
    w->fd = -1;
    if (closed != 0 || rename(w->tmp, w->path) != 0) return file_give_up(w, e);
    bool ok = parent_sync(w->path, e);
    file_abandon(w);                                       // its temporary name is gone
    return ok;
}

bool file_put(const char *path, const void *bytes, size_t n, Err *e)
{
    FileWriter w;
    return file_create(&w, path, e) && file_write(&w, bytes, n, e) && file_commit(&w, e);
}

bool file_copy(const char *from, const char *to, Err *e)
{
    File f;
    if (!file_map_any(&f, from, e)) return false;
    bool ok = file_put(to, f.data, f.size, e);
    file_unmap(&f);
    return ok;
}

bool file_append(const char *path, const void *bytes, size_t n, Err *e)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
    bool ok = (end >= 0 && write_all(fd, bytes, n)) || fail(e, "%s: cannot write: %s", path, strerror(errno));
    if (!ok && end >= 0 && ftruncate(fd, end) != 0) fail_prefix(e, "%s: cut short: ", path);
    if (fd >= 0 && close(fd) != 0 && ok) ok = fail(e, "%s: cannot write: %s", path, strerror(errno));
    return ok;
}

// ---- text ---------------------------------------------------------------------------------------------------------

int utf8_decode(const char *p, const char *end, uint32_t *code)
{
    const unsigned char *s = (const unsigned char *)p;
    size_t left = (size_t)(end - p);
    if (left == 0) return 0;
    if (s[0] < 0x80) { *code = s[0]; return 1; }
    int n = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
    if (s[0] < 0xC2 || s[0] > 0xF4 || left < (size_t)n) return 0;
    uint32_t c = s[0] & (0xFFu >> (n + 1));
    for (int i = 1; i < n; i++) {
        if ((s[i] & 0xC0) != 0x80) return 0;
        c = c << 6 | (s[i] & 0x3F);
    }
    // No overlong forms, no surrogates, nothing over U+10FFFF.
    if ((n == 3 && c < 0x800) || (n == 4 && c < 0x10000) || (c >= 0xD800 && c < 0xE000) || c > 0x10FFFF) return 0;
    *code = c;
    return n;
}

int utf8_encode(uint32_t c, char out[4])
{
    if (c < 0x80) { out[0] = (char)c; return 1; }
    int n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3F));
    out[0] = (char)((0xF00 >> n & 0xFF) | c);
    return n;
}

size_t utf8_valid(const char *text, size_t len)
{
    const char *p = text, *end = text + len;
    uint32_t code;
    while (p < end) {
        int n = utf8_decode(p, end, &code);
        if (n == 0) break;
        p += n;
    }
    return (size_t)(p - text);
}

// Levenshtein distance, for names of ordinary length.
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[64], n = strlen(b);
    if (n >= 64) return SIZE_MAX;
    for (size_t j = 0; j <= n; j++) row[j] = j;
    for (size_t i = 1; *a; a++, i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t change = diagonal + (*a != b[j - 1]);
            diagonal = row[j];
            size_t shift = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            row[j] = change < shift ? change : shift;
        }
    }
    return row[n];
}

const char *nearest_name(const char *name, const char *const *names, size_t n, size_t stride)
{
    const char *best = NULL;
    size_t best_distance = (strlen(name) + 2) / 4 + 1;     // a slip or two, not another word
    for (size_t i = 0; i < n; i++) {
        const char *candidate = *(const char *const *)((const char *)names + i * stride);
        size_t d = edit_distance(name, candidate);
        if (d < best_distance) { best_distance = d; best = candidate; }
    }
    return best;
}

// ---- random numbers -----------------------------------------------------------------------------------------------

Rng rng_seed(uint64_t seed)
{
    Rng r;
    for (int i = 0; i < 4; i++) {
        uint64_t z = (seed += 0x9E3779B97F4A7C15u);
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        r.s[i] = z ^ (z >> 31);
    }
    return r;
}

static uint64_t rotate_left(uint64_t x, int k) { return x << k | x >> (64 - k); }

uint64_t rng_next(Rng *r)
{
    uint64_t *s = r->s, result = rotate_left(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

double rng_uniform(Rng *r) { return (double)(rng_next(r) >> 11) * 0x1p-53; }

double rng_normal(Rng *r)
{
    double u = 1 - rng_uniform(r), v = rng_uniform(r);    // u > 0
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

size_t rng_below(Rng *r, size_t n)
{
    assert(n > 0);
    uint64_t limit = UINT64_MAX - UINT64_MAX % n, x;      // the largest multiple of n that fits
    do x = rng_next(r); while (x >= limit);
    return (size_t)(x % n);
}

double now_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
