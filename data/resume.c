// resume: see resume.h.
#include "resume.h"

#include "../model/safetensors.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STATE_VERSION = 1 };

// ---- what must be the same ----------------------------------------------------------------------------------------

// FNV-1a over all ids and labels of the rows that are trained on and evaluated.
static uint64_t hash_ints(uint64_t hash, const int *values, size_t n)
{
    const unsigned char *bytes = (const unsigned char *)values;
    for (size_t i = 0; i < n * sizeof *values; i++) hash = (hash ^ bytes[i]) * 0x100000001B3u;
    return hash;
}

static void data_hash(const Run *r, char out[20])
{
    uint64_t hash = 0xCBF29CE484222325u;
    const Example *sets[] = {r->data.examples, r->eval};
    size_t counts[] = {r->n_train, r->n_eval};
    for (int s = 0; s < 2; s++)
        for (size_t i = 0; i < counts[s]; i++) {
            hash = hash_ints(hash, sets[s][i].ids, sets[s][i].n);
            hash = hash_ints(hash, sets[s][i].labels, sets[s][i].n);
        }
    snprintf(out, 20, "%016llx", (unsigned long long)hash);
}

// Keys that may differ between a run and its continuation: where things lie and how they are saved, not what is computed.
static bool may_differ(const char *key)
{
    static const char *const keys[] = {"output_dir", "overwrite_output_dir", "resume_from_checkpoint", "n_threads", "save_steps",
                                       "save_total_limit", "model_name_or_path", "tokenizer_name_or_path", "gradient_checkpointing"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(key, keys[i]) == 0) return true;
    return false;
}

static bool same_config(const cJSON *then, const cJSON *now, const char *path, Err *e)
{
    for (const cJSON *v = now->child; v; v = v->next) {
        const cJSON *old = json_get(then, v->string);
        if (may_differ(v->string) || cJSON_Compare(old, v, true)) continue;
        char *was = cJSON_PrintUnformatted(old), *is = cJSON_PrintUnformatted(v);
        fail(e, "%s: the checkpoint is of another config: %s was %s and is %s", path, v->string, was ? was : "absent", is);
        cJSON_free(was);
        cJSON_free(is);
        return false;
    }
    return true;
}

// ---- the state as JSON --------------------------------------------------------------------------------------------

// A double in full: hexadecimal, since decimal numbers of JSON need not come back to the bit.
static void add_exact(cJSON *json, const char *key, double value)
{
    char text[40];
    snprintf(text, sizeof text, "%a", value);
    cJSON_AddStringToObject(json, key, text);
}

// The fields of a Progress that are doubles, and those that are counts, by name.
typedef struct { const char *key; size_t offset; } Field;
#define FIELD(name) {#name, offsetof(Progress, name)}
static const Field exact_fields[] = {
    FIELD(since_log.nll), FIELD(since_log.entropy), FIELD(since_log.correct), FIELD(since_log.weight), FIELD(since_log.seconds),
    FIELD(total.nll), FIELD(total.entropy), FIELD(total.correct), FIELD(total.weight), FIELD(total.seconds),
};
static const Field count_fields[] = {
    FIELD(step), FIELD(epoch), FIELD(next), FIELD(num_tokens), FIELD(supervised_tokens), FIELD(since_log.tokens),
    FIELD(since_log.rows), FIELD(total.tokens), FIELD(total.rows),
};
_Static_assert(sizeof(size_t) == 8 && sizeof(int64_t) == 8, "count_fields are read and written as 64 bits");
enum { N_EXACT = sizeof exact_fields / sizeof *exact_fields, N_COUNTS = sizeof count_fields / sizeof *count_fields };

static cJSON *state_json(const Run *r, const Progress *p)
{
    cJSON *json = cJSON_CreateObject();
    char hash[20];
    data_hash(r, hash);
    cJSON_AddNumberToObject(json, "version", STATE_VERSION);
    cJSON_AddStringToObject(json, "data_hash", hash);
    cJSON_AddNumberToObject(json, "optimizer_step", (double)r->optim.step);
    cJSON_AddNumberToObject(json, "log_bytes", (double)ftell(r->log));
    for (int i = 0; i < N_COUNTS; i++) cJSON_AddNumberToObject(json, count_fields[i].key, (double)*(const int64_t *)((const char *)p + count_fields[i].offset));
    for (int i = 0; i < N_EXACT; i++) add_exact(json, exact_fields[i].key, *(const double *)((const char *)p + exact_fields[i].offset));
    cJSON_AddItemToObject(json, "config", options_json(&r->options));
    return json;
}

static bool state_fields(Progress *p, const cJSON *json, const char *path, Err *e)
{
    for (int i = 0; i < N_COUNTS; i++) {
        const cJSON *v = json_get(json, count_fields[i].key);
        if (!json_is_int(v, 0, (int64_t)1 << 53)) return fail(e, "%s: %s: expected a count, found %s", path, count_fields[i].key, json_kind(v));
        *(int64_t *)((char *)p + count_fields[i].offset) = (int64_t)v->valuedouble;
    }
    for (int i = 0; i < N_EXACT; i++) {
        const char *text = json_string(json, exact_fields[i].key);
        char *end = NULL;
        double value = text ? strtod(text, &end) : 0;
        if (!text || end == text || *end) return fail(e, "%s: %s: expected a number as text", path, exact_fields[i].key);
        *(double *)((char *)p + exact_fields[i].offset) = value;
    }
    return true;
}

// ---- writing ------------------------------------------------------------------------------------------------------

static bool write_moments(const Run *r, const char *dir, Err *e)
{
    StTensor entries[2] = {{.name = "moment1", .n_dims = 1}, {.name = "moment2", .n_dims = 1}};
    const float *data[2] = {r->optim.moment1, r->optim.moment2};
    size_t n = r->optim.moment1 ? 2 : 0;
    for (size_t i = 0; i < n; i++) entries[i].shape[0] = r->model.n_params;
    char *path = path_join(dir, "optimizer.safetensors");
    FileWriter w;
    bool ok = safetensors_create(&w, path, entries, n, e);
    for (size_t i = 0; ok && i < n; i++) ok = file_write(&w, data[i], r->model.n_params * sizeof(float), e);
    ok = ok && file_commit(&w, e);
    free(path);
    return ok;
}

static bool write_state(const Run *r, const Progress *p, const char *dir, Err *e)
{
    cJSON *json = state_json(r, p);
    char *path = path_join(dir, "trainer_state.json");
    bool ok = json_save(json, path, e);
    free(path);
    cJSON_Delete(json);
    return ok;
}

static void remove_folder(const char *path)
{
    DIR *dir = opendir(path);
    for (struct dirent *d; dir && (d = readdir(dir));) {
        char *child = path_join(path, d->d_name);
        if (d->d_name[0] != '.') unlink(child);
        free(child);
    }
    if (dir) closedir(dir);
    rmdir(path);
}

// The largest N below `below` with a folder checkpoint-N; -1 if there is none.
static int64_t newest_checkpoint(const char *output_dir, int64_t below)
{
    int64_t newest = -1;
    DIR *dir = opendir(output_dir);
    for (struct dirent *d; dir && (d = readdir(dir));) {
        char *end;
        if (strncmp(d->d_name, "checkpoint-", 11) != 0) continue;
        long long n = strtoll(d->d_name + 11, &end, 10);
        if (end == d->d_name + 11 || *end || n < 0 || n >= below) continue;
        if (n > newest) newest = n;
    }
    if (dir) closedir(dir);
    return newest;
}

static char *checkpoint_path(const char *output_dir, int64_t step, const char *tail)
{
    Buf b = {0};
    buf_addf(&b, "%s/checkpoint-%lld%s", output_dir, (long long)step, tail);
    return b.data;
}

static void prune(const Options *o)
{
    int64_t below = INT64_MAX;
    for (int64_t kept = 0; o->save_total_limit && (below = newest_checkpoint(o->output_dir, below)) >= 0; kept++) {
        if (kept < o->save_total_limit) continue;
        char *path = checkpoint_path(o->output_dir, below, "");
        remove_folder(path);
        free(path);
    }
}

bool checkpoint_write(const Run *r, const Progress *p, Err *e)
{
    const Options *o = &r->options;
    char *final = checkpoint_path(o->output_dir, p->step, ""), *temporary = checkpoint_path(o->output_dir, p->step, ".tmp");
    remove_folder(temporary);                              // an earlier run may have died over it
    bool ok = dir_make(temporary, e) && run_save_model(r, temporary, e) && write_moments(r, temporary, e) && write_state(r, p, temporary, e);
    if (ok) remove_folder(final);
    if (ok && rename(temporary, final) != 0) ok = fail(e, "%s: cannot rename it to %s: %s", temporary, final, strerror(errno));
    if (ok) prune(o);
    else remove_folder(temporary);
    free(final);
    free(temporary);
    return ok;
}

// ---- reading ------------------------------------------------------------------------------------------------------

char *checkpoint_find(const Options *o, Err *e)
{
    if (!o->output_dir) {
        fail(e, "output_dir: expected a path, found nothing");
        return NULL;
    }
    if (strcmp(o->resume_from_checkpoint, "latest") != 0) {
        if (file_is_dir(o->resume_from_checkpoint)) return mem_strdup(o->resume_from_checkpoint);
        fail(e, "resume_from_checkpoint: %s: expected a checkpoint folder", o->resume_from_checkpoint);
        return NULL;
    }
    int64_t newest = newest_checkpoint(o->output_dir, INT64_MAX);
    if (newest >= 0) return checkpoint_path(o->output_dir, newest, "");
    fail(e, "resume_from_checkpoint: expected a checkpoint in %s, found none", o->output_dir);
    return NULL;
}

static bool read_moments(Run *r, const char *folder, Err *e)
{
    char *path = path_join(folder, "optimizer.safetensors");
    const char *const names[2] = {"moment1", "moment2"};
    float *data[2] = {r->optim.moment1, r->optim.moment2};
    SafeTensors st;
    bool ok = safetensors_open(&st, path, e);
    for (int i = 0; ok && i < 2 && data[i]; i++) {
        const StTensor *t = safetensors_find(&st, names[i]);
        if (!t || t->count != r->model.n_params)
            ok = fail(e, "%s: %s: expected %zu floats, found %zu", path, names[i], r->model.n_params, t ? t->count : 0);
        else safetensors_read(&st, t, 0, t->count, data[i]);
    }
    if (ok) safetensors_close(&st);
    free(path);
    return ok;
}

// log.jsonl as it was when the checkpoint was written: lines of steps after it are written again.
static bool reopen_log(Run *r, const cJSON *state, Err *e)
{
    const cJSON *bytes = json_get(state, "log_bytes");
    char *path = path_join(r->options.output_dir, "log.jsonl");
    struct stat st;
    bool ok = json_is_int(bytes, 0, (int64_t)1 << 53) && stat(path, &st) == 0 && (double)st.st_size >= bytes->valuedouble &&
              truncate(path, (off_t)bytes->valuedouble) == 0 && (r->log = fopen(path, "a")) && fseek(r->log, 0, SEEK_END) == 0;
    if (!ok) fail(e, "%s: expected the log that the checkpoint was written with, of %.0f bytes or more", path, bytes ? bytes->valuedouble : 0);
    free(path);
    return ok;
}

static bool check_state(const Run *r, const cJSON *state, const char *path, Err *e)
{
    const cJSON *version = json_get(state, "version");
    char hash[20];
    data_hash(r, hash);
    if (!json_is_int(version, STATE_VERSION, STATE_VERSION)) return fail(e, "%s: version: expected %d", path, STATE_VERSION);
    const char *then = json_string(state, "data_hash");
    if (!then || strcmp(then, hash) != 0)
        return fail(e, "%s: the checkpoint is of another data set: the hash of its rows is %s, of these %s", path, then ? then : "absent", hash);
    cJSON *now = options_json(&r->options);
    bool ok = same_config(json_get(state, "config"), now, path, e);
    cJSON_Delete(now);
    return ok;
}

bool checkpoint_read(Run *r, Progress *p, const char *folder, Err *e)
{
    char *path = path_join(folder, "trainer_state.json");
    cJSON *state = json_load(path, e);
    const cJSON *step = json_get(state, "optimizer_step");
    bool same = state && check_state(r, state, path, e);
    bool ok = same && state_fields(p, state, path, e) && (json_is_int(step, 0, (int64_t)1 << 53) || fail(e, "%s: optimizer_step: expected a count", path)) && read_moments(r, folder, e);
    if (ok) r->optim.step = (int64_t)step->valuedouble;
    if (!ok && (same || !state)) checkpoint_offer_older(&r->options, folder, e);
    ok = ok && reopen_log(r, state, e);
    cJSON_Delete(state);
    free(path);
    return ok;
}

void checkpoint_offer_older(const Options *o, const char *folder, Err *e)
{
    const char *dash = strrchr(folder, '-');
    int64_t older = dash ? newest_checkpoint(o->output_dir, strtoll(dash + 1, NULL, 10)) : -1;
    if (older < 0) return;
    Err why = *e;
    char *path = checkpoint_path(o->output_dir, older, "");
    fail(e, "%.1500s; the one before it is %.400s", why.text, path);
    free(path);
}
