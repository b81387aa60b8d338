// memory: see memory.h.
#include "memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

// ---- what there is ------------------------------------------------------------------------------------------------

// A small file of /proc or /sys in full, owned by the caller; NULL if there is none. Their sizes are not known before.
// The path begins with a slash.
static char *read_small(const char *root, const char *path)
{
    Buf text = {0};
    FILE *f = fopen(path_in(root, path + 1).text, "r");
    char part[4096];
    for (size_t n; f && (n = fread(part, 1, sizeof part, f)) > 0;) buf_add(&text, part, n);
    if (f) fclose(f);
    return text.data;
}

// The number behind `key` at the beginning of a line of a text; `otherwise` where there is none.
static size_t number_after(const char *text, const char *key, size_t otherwise)
{
    size_t n = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        char *end;
        if (strncmp(line, key, n) != 0) continue;
        unsigned long long value = strtoull(line + n, &end, 10);
        if (end > line + n) return (size_t)value;
    }
    return otherwise;
}

static size_t number_in(const char *root, const char *path, const char *key, size_t otherwise)
{
    char *text = read_small(root, path);
    size_t value = number_after(text, key, otherwise);
    free(text);
    return value;
}

// What one cgroup leaves. The files that it has read count as used until someone else wants the memory.
static size_t cgroup_left(const char *root, const char *dir, bool v2)
{
    Path max = path_in(dir, v2 ? "memory.max" : "memory.limit_in_bytes"), stat = path_in(dir, "memory.stat");
    size_t limit = number_in(root, max.text, "", SIZE_MAX);            // "max" is no number
    size_t used = number_in(root, path_in(dir, v2 ? "memory.current" : "memory.usage_in_bytes").text, "", SIZE_MAX);
    if (limit == SIZE_MAX || used == SIZE_MAX) return SIZE_MAX;
    size_t files = number_in(root, stat.text, v2 ? "inactive_file " : "total_inactive_file ", 0) +
                   number_in(root, stat.text, v2 ? "active_file " : "total_active_file ", 0);
    used -= files < used ? files : used;
    return limit > used ? limit - used : 0;
}

// The least that the cgroup of this process and those around it leave. Lines of /proc/self/cgroup are
// ID:CONTROLLERS:PATH, without controllers in version 2. Inside a container the path may be one of the outside: then
// its root is the nearest.
static size_t cgroups_left(const char *root)
{
    char *groups = read_small(root, "/proc/self/cgroup");
    size_t least = SIZE_MAX;
    for (char *line = groups, *next; line; line = next) {
        if ((next = strchr(line, '\n'))) *next++ = 0;
        char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path) continue;
        *path++ = 0;
        bool v2 = !*++controllers;
        if (!v2 && strcmp(controllers, "memory") != 0) continue;
        for (char *slash;; *slash = 0) {
            Path dir = path_in(v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory", *path ? path + 1 : "");
            size_t left = cgroup_left(root, dir.text, v2);
            if (left < least) least = left;
            if (!(slash = strrchr(path, '/'))) break;
        }
    }
    free(groups);
    return least;
}

// OpenBLAS maps a buffer for each thread when it first multiplies, most of which stays untouched; where it gets none it
// tries again for ever.
enum { BLAS_BUFFER = 136 << 20 };

static size_t address_space_left(const char *root)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return SIZE_MAX;
    size_t used = number_in(root, "/proc/self/statm", "", 0) * (size_t)sysconf(_SC_PAGESIZE);
    used += (size_t)ops_threads() * BLAS_BUFFER;
    return limit.rlim_cur > used ? (size_t)limit.rlim_cur - used : 0;
}

static size_t machine_left(const char *root)
{
    size_t kb = number_in(root, "/proc/meminfo", "MemAvailable:", SIZE_MAX);
    size_t swap = number_in(root, "/proc/meminfo", "SwapFree:", 0);
    if (kb != SIZE_MAX) return (kb + swap) * 1024;
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (size_t)pages * (size_t)page : SIZE_MAX;
}

size_t memory_available(const char *root, const char **what)
{
    const struct { const char *what; size_t left; } limits[] = {
        {"of this machine's memory", machine_left(root)},
        {"under the memory limit of this cgroup", cgroups_left(root)},
        {"under this process's limit of address space (ulimit -v)", address_space_left(root)}};
    size_t tightest = 0;
    for (size_t i = 1; i < 3; i++)
        if (limits[i].left < limits[tightest].left) tightest = i;
    *what = limits[tightest].what;
    return limits[tightest].left;
}

// ---- what is needed -----------------------------------------------------------------------------------------------

static size_t examples_size(const Example *ex, size_t n)
{
    size_t tokens = 0;
    for (size_t i = 0; i < n; i++) tokens += ex[i].n;
    return n * sizeof *ex + tokens * (sizeof *ex->ids + sizeof *ex->labels + sizeof *ex->weights + sizeof *ex->roles);
}

MemoryPlan memory_plan(const Run *r, const Config *c, BatchSize size, WorkKind kind)
{
    bool training = kind != WORK_LOSS;
    size_t params = params_count(c), trained = params, activations = work_size(c, size, kind);
    Err none;
    Adapter *a = r->peft ? adapter_plan(c, r->peft, "", &none) : NULL;
    if (a) {
        trained = a->n;
        params += a->n + (a->n_tokens ? tensor_size(c, TOK_EMB) : 0);
        if (training) activations += work_adapter_size(c, a, size);
        adapter_free(a);
    }
    size_t moments = (size_t)optim_table[optim_find(r->options.optim)].n_moments;
    if (training && r->options.neftune_noise_alpha > 0) activations += size.tokens * (size_t)c->dim;
    return (MemoryPlan){.weights = sizeof(float) * params,
                        .gradients = training ? sizeof(float) * trained : 0,
                        .moments = training ? sizeof(float) * trained * moments : 0,
                        .activations = sizeof(float) * activations,
                        .data = r->data.file.size + r->eval_data.file.size +
                                examples_size(r->data.examples, r->data.n) +
                                examples_size(r->eval_data.examples, r->eval_data.n)};
}

static double mb(size_t bytes) { return (double)bytes / 1e6; }

// ---- what would help ----------------------------------------------------------------------------------------------

// What the options could make of the batches: fewer rows, or shorter ones.
typedef struct { BatchSize size; WorkKind kind; } Settings;

static bool fits(const Config *c, Settings t, size_t room)
{
    BatchSize s = t.size;
    if (s.tokens > s.rows * s.row) s.tokens = s.rows * s.row;
    if (s.targets > s.tokens) s.targets = s.tokens;
    return sizeof(float) * work_size(c, s, t.kind) <= room;
}

// Halves one of the numbers of `t` until the activations fit; false if they never do.
static bool halve(size_t *value, size_t least, const Config *c, const Settings *t, size_t room)
{
    while (!fits(c, *t, room) && *value / 2 >= least) *value /= 2;
    return fits(c, *t, room);
}

// Appends what is new in `t`, as options.
static void add_options(Buf *out, Settings t, Settings given, const char *between)
{
    if (t.kind != given.kind) buf_addf(out, "%sactivation_checkpointing=true", out->len ? between : "");
    if (t.size.rows != given.size.rows)
        buf_addf(out, "%sper_device_train_batch_size=%zu", out->len ? between : "", t.size.rows);
    if (t.size.row != given.size.row) buf_addf(out, "%smax_length=%zu", out->len ? between : "", t.size.row);
}

// Appends each option that makes the activations fit into `room` alone; else those that do it together; or nothing.
static void add_advice(Buf *out, const Config *c, BatchSize s, WorkKind kind, size_t room)
{
    enum { SHORTEST = 16 };
    const Settings given = {s, kind};
    Settings again = given, fewer = given, shorter = given;
    if (kind != WORK_LOSS) again.kind = WORK_CHECKPOINTING;
    if (kind != WORK_LOSS && fits(c, again, room)) add_options(out, again, given, " or ");
    if (halve(&fewer.size.rows, 1, c, &fewer, room)) add_options(out, fewer, given, " or ");
    if (halve(&shorter.size.row, SHORTEST, c, &shorter, room)) add_options(out, shorter, given, " or ");
    if (out->len) return;
    if (halve(&again.size.rows, 1, c, &again, room) || halve(&again.size.row, SHORTEST, c, &again, room))
        add_options(out, again, given, " and ");
}

bool memory_check(const Run *r, const Config *c, BatchSize size, WorkKind kind, Err *e)
{
    const char *what;
    MemoryPlan p = memory_plan(r, c, size, kind);
    size_t available = memory_available("", &what), fixed = p.weights + p.gradients + p.moments;
    if (fixed + p.activations <= available) return true;
    Buf advice = {0};
    size_t of_work = sizeof(float) * work_size(c, size, kind), rest = fixed + p.activations - of_work;
    if (rest < available) add_advice(&advice, c, size, kind, available - rest);
    fail(e, "out of memory: %s needs %.0f MB (weights %.0f, gradients %.0f, optimizer %.0f, activations %.0f), "
         "and %.0f MB %s are free: %s%s",
         kind == WORK_LOSS ? "evaluation" : "training", mb(fixed + p.activations), mb(p.weights), mb(p.gradients),
         mb(p.moments), mb(p.activations), mb(available), what,
         advice.len ? "try " : "no batch is small enough, it takes a smaller model or more memory",
         advice.len ? advice.data : "");
    buf_free(&advice);
    return false;
}
