// resume: see resume.h.
#include "resume.h"

#include "../../model/safetensors.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// ---- what must be the same ----------------------------------------------------------------------------------------

// FNV-1a, a word of 32 bits at a time: against mistakes and damage, not against intent.
static const uint64_t HASH_START = 0xCBF29CE484222325u;

static uint64_t hash_words(uint64_t hash, const void *words, size_t n)
{
    uint32_t word;
    for (size_t i = 0; i < n; i++) {
        memcpy(&word, (const char *)words + 4 * i, sizeof word);
        hash = (hash ^ word) * 0x100000001B3u;
    }
    return hash;
}

typedef struct { char text[20]; } Hash;

static Hash hash_text(uint64_t hash)
{
    Hash h;
    snprintf(h.text, sizeof h.text, "%016llx", (unsigned long long)hash);
    return h;
}

// All ids and labels of the rows that are trained on and evaluated.
static Hash data_hash(const Run *r)
{
    uint64_t hash = HASH_START;
    const Example *sets[] = {r->data.examples, r->eval};
    size_t counts[] = {r->n_train, r->n_eval};
    for (int s = 0; s < 2; s++)
        for (size_t i = 0; i < counts[s]; i++) {
            hash = hash_words(hash, sets[s][i].ids, sets[s][i].n);
            hash = hash_words(hash, sets[s][i].labels, sets[s][i].n);
        }
    return hash_text(hash);
}

// All weights and moments, of which a flipped bit would otherwise go unnoticed.
static Hash weights_hash(const Run *r)
{
    uint64_t hash = hash_words(HASH_START, r->model.params, r->model.n_params);
    if (r->optim.moment1)
        hash = hash_words(hash_words(hash, r->optim.moment1, r->model.n_params), r->optim.moment2, r->model.n_params);
    return hash_text(hash);
}

// Keys that may differ between a run and its continuation: where things lie and how they are saved, not what is
// computed.
static bool may_differ(const char *key)
{
    static const char *const keys[] = {
        "output_dir", "overwrite_output_dir", "resume_from_checkpoint", "n_threads", "save_steps", "save_total_limit",
        "save_strategy", "model_name_or_path", "tokenizer_name_or_path", "activation_checkpointing", "report_to"};
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
        fail(e, "%s: the checkpoint is of another config: %s was %s and is %s", path, v->string, was ? was : "absent",
             is);
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
    FIELD(since_log.weighted_loss), FIELD(since_log.entropy), FIELD(since_log.correct), FIELD(since_log.weight),
    FIELD(since_log.loss), FIELD(since_log.seconds), FIELD(total.weighted_loss), FIELD(total.entropy),
    FIELD(total.correct), FIELD(total.weight), FIELD(total.loss), FIELD(total.seconds), FIELD(grad_norm), FIELD(lr),
    FIELD(best_metric),
};
static const Field count_fields[] = {
    FIELD(step), FIELD(epoch), FIELD(next), FIELD(num_tokens), FIELD(supervised_tokens), FIELD(since_log.tokens),
    FIELD(since_log.rows), FIELD(since_log.steps), FIELD(total.tokens), FIELD(total.rows), FIELD(total.steps),
    FIELD(best_step),
};
_Static_assert(sizeof(size_t) == 8 && sizeof(int64_t) == 8, "count_fields are read and written as 64 bits");
enum { N_EXACT = sizeof exact_fields / sizeof *exact_fields, N_COUNTS = sizeof count_fields / sizeof *count_fields };

static cJSON *state_json(const Run *r, const Progress *p, off_t log_bytes)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddNumberToObject(json, "version", PROGRAM_VERSION);
    cJSON_AddStringToObject(json, "data_hash", data_hash(r).text);
    cJSON_AddStringToObject(json, "weights_hash", weights_hash(r).text);
    cJSON_AddNumberToObject(json, "optimizer_step", (double)r->optim.step);
    cJSON_AddNumberToObject(json, "log_bytes", (double)log_bytes);
    for (int i = 0; i < N_COUNTS; i++)
        cJSON_AddNumberToObject(json, count_fields[i].key,
                                (double)*(const int64_t *)((const char *)p + count_fields[i].offset));
    for (int i = 0; i < N_EXACT; i++)
        add_exact(json, exact_fields[i].key, *(const double *)((const char *)p + exact_fields[i].offset));
    cJSON_AddItemToObject(json, "config", options_json(&r->options));
    return json;
}

static bool state_fields(Progress *p, const cJSON *json, const char *path, Err *e)
{
    for (int i = 0; i < N_COUNTS; i++) {
        const cJSON *v = json_get(json, count_fields[i].key);
        if (!json_is_int(v, 0, (int64_t)1 << 53))
            return fail(e, "%s: %s: expected a count, found %s", path, count_fields[i].key, json_kind(v));
        *(int64_t *)((char *)p + count_fields[i].offset) = (int64_t)v->valuedouble;
    }
    for (int i = 0; i < N_EXACT; i++) {
        const char *text = json_string(json, exact_fields[i].key);
        char *end = NULL;
        double value = text ? strtod(text, &end) : 0;
        if (!text || end == text || *end)
            return fail(e, "%s: %s: expected a number as text", path, exact_fields[i].key);
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
    struct stat log;
    char *path = path_join(dir, "resume.json"), *log_path = run_log_path(r);
    bool ok = file_sync(log_path, e) &&
              (stat(log_path, &log) == 0 || fail(e, "%s: cannot open: %s", log_path, strerror(errno)));
    if (ok) {
        cJSON *json = state_json(r, p, log.st_size);
        ok = json_save(json, path, e);
        cJSON_Delete(json);
    }
    free(path);
    free(log_path);
    return ok;
}

// The largest N below `below` with a folder checkpoint-N; -1 if there is none.
static int64_t newest_checkpoint(const char *output_dir, int64_t below)
{
    int64_t newest = -1;
    DIR *dir = opendir(output_dir);
    for (struct dirent *d; dir && (d = readdir(dir));) {
        int64_t n = run_step_of(d->d_name);
        if (n < below && n > newest) newest = n;
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

// A name that the next run removes, should this one be killed over it.
static char *temporary_path(const char *output_dir, int64_t step, const char *tail)
{
    Buf b = {0};
    buf_addf(&b, ".tmp.%ld%s", (long)getpid(), tail);
    char *path = checkpoint_path(output_dir, step, b.data);
    buf_free(&b);
    return path;
}

// One that is half removed no longer has its name.
static bool remove_checkpoint(const Options *o, int64_t step, Err *e)
{
    char *path = checkpoint_path(o->output_dir, step, ""), *gone = temporary_path(o->output_dir, step, "");
    char *mark = path_join(path, "optimizer.safetensors");               // no one else's checkpoints have it
    bool ours = file_exists(mark),
         ok = !ours || rename(path, gone) == 0 || fail(e, "%s: cannot remove: %s", path, strerror(errno));
    if (ours && ok) dir_remove(gone);
    free(path);
    free(gone);
    free(mark);
    return ok;
}

// All but the newest; the best one stays too.
static bool prune(const Options *o, int64_t best, Err *e)
{
    int64_t step = INT64_MAX;
    bool ok = true;
    for (int64_t i = 0; ok && (step = newest_checkpoint(o->output_dir, step)) >= 0; i++)
        ok = i < o->save_total_limit || step == best || remove_checkpoint(o, step, e);
    return ok;
}

bool resume_remove_after(const Options *o, int64_t step, Err *e)
{
    bool ok = true;
    for (int64_t n = INT64_MAX; ok && (n = newest_checkpoint(o->output_dir, n)) > step;)
        ok = remove_checkpoint(o, n, e);
    return ok;
}

// A checkpoint of the same step waits aside until the new one has the name.
static bool replace_folder(const char *from, const char *to, const char *aside, Err *e)
{
    bool there = file_exists(to);
    if ((!there || rename(to, aside) == 0) && rename(from, to) == 0) return true;
    fail(e, "%s: cannot rename it to %s: %s", from, to, strerror(errno));
    if (there) rename(aside, to);
    return false;
}

bool resume_write(const Run *r, const Progress *p, Err *e)
{
    const Options *o = &r->options;
    char *final = checkpoint_path(o->output_dir, p->step, "");
    char *temporary = temporary_path(o->output_dir, p->step, ""), *aside = temporary_path(o->output_dir, p->step, "0");
    bool ok = dir_make(temporary, e) && run_write_model(r, temporary, e) && write_moments(r, temporary, e) &&
              run_copy_beside(o->output_dir, temporary, "trainer_state.json", e) &&
              write_state(r, p, temporary, e) && replace_folder(temporary, final, aside, e) &&
              file_sync(o->output_dir, e);
    dir_remove(ok ? aside : temporary);
    free(final);
    free(temporary);
    free(aside);
    return ok && (!o->save_total_limit || prune(o, p->best_step, e));
}

// ---- reading ------------------------------------------------------------------------------------------------------

char *resume_path(const Options *o, int64_t step) { return checkpoint_path(o->output_dir, step, ""); }

char *resume_find(const Options *o, Err *e)
{
    if (!o->output_dir) {
        fail(e, "output_dir: expected a path, found nothing");
        return NULL;
    }
    if (strcmp(o->resume_from_checkpoint, "latest") != 0) {
        if (file_is_dir(o->resume_from_checkpoint)) return mem_strdup(o->resume_from_checkpoint);
        fail(e, "resume_from_checkpoint: %s: expected a checkpoint folder, or latest", o->resume_from_checkpoint);
        return NULL;
    }
    int64_t newest = newest_checkpoint(o->output_dir, INT64_MAX);
    if (newest >= 0) return checkpoint_path(o->output_dir, newest, "");
    fail(e, "resume_from_checkpoint=latest: expected a checkpoint in %s, found none", o->output_dir);
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
    safetensors_close(&st);                                // {0} if it could not be opened
    free(path);
    return ok;
}

// log.jsonl as it was when the checkpoint was written: lines of steps after it are written again.
static bool cut_log(Run *r, const cJSON *state, Err *e)
{
    const cJSON *bytes = json_get(state, "log_bytes");
    char *path = run_log_path(r);
    struct stat st;
    bool ok =
        json_is_int(bytes, 0, (int64_t)1 << 53) && stat(path, &st) == 0 && (double)st.st_size >= bytes->valuedouble;
    if (!ok) fail(e, "%s: expected the log that the checkpoint was written with, of %.0f bytes or more", path,
                  bytes ? bytes->valuedouble : 0);
    else if (truncate(path, (off_t)bytes->valuedouble) != 0)
        ok = fail(e, "%s: cannot write: %s", path, strerror(errno));
    free(path);
    return ok;
}

static bool check_version(const cJSON *state, const char *path, Err *e)
{
    const cJSON *version = json_get(state, "version");
    if (!json_is_int(version, 0, INT32_MAX))
        return fail(e, "%s: version: expected a whole number, found %s", path, json_kind(version));
    return version->valuedouble == PROGRAM_VERSION ||
           fail(e, "%s: the checkpoint is of another program version: it was written by version %.0f and this is "
                   "version %d, whose steps may come to other bits", path, version->valuedouble, PROGRAM_VERSION);
}

static bool check_state(const Run *r, const cJSON *state, const char *path, Err *e)
{
    cJSON *now = options_json(&r->options);
    bool ok = same_config(json_get(state, "config"), now, path, e);
    cJSON_Delete(now);
    if (!ok) return false;
    Hash hash = data_hash(r);
    const char *then = json_string(state, "data_hash");
    return (then && strcmp(then, hash.text) == 0) ||
           fail(e, "%s: the checkpoint is of another data set: the hash of its rows is %s, of these %s", path,
                then ? then : "absent", hash.text);
}

cJSON *resume_open(const Run *r, const char *folder, Err *e)
{
    char *path = path_join(folder, "resume.json");
    cJSON *state = json_load(path, e);
    if (!state) resume_offer_older(&r->options, folder, e);
    bool ok = state && check_version(state, path, e) && check_state(r, state, path, e);
    if (!ok) cJSON_Delete(state);
    free(path);
    return ok ? state : NULL;
}

static bool check_weights_hash(const Run *r, const cJSON *state, const char *path, const char *folder, Err *e)
{
    Hash hash = weights_hash(r);
    const char *then = json_string(state, "weights_hash");
    return (then && strcmp(then, hash.text) == 0) ||
           fail(e, "%s: weights_hash: expected %s, found %s in %s: its weights or moments are damaged", path,
                then ? then : "a hash", hash.text, folder);
}

bool resume_read(Run *r, Progress *p, const cJSON *state, const char *folder, Err *e)
{
    char *path = path_join(folder, "resume.json");
    const cJSON *step = json_get(state, "optimizer_step");
    bool ok = state_fields(p, state, path, e) && read_moments(r, folder, e) &&
              check_weights_hash(r, state, path, folder, e) &&
              (json_is_int(step, 0, (int64_t)1 << 53) || fail(e, "%s: optimizer_step: expected a count", path));
    char *best = ok && p->best_step ? resume_path(&r->options, p->best_step) : NULL;
    if (best && !file_exists(best)) ok = fail(e, "%s: the best checkpoint, %s, is not there", path, best);
    free(best);
    if (ok) r->optim.step = (int64_t)step->valuedouble;
    else resume_offer_older(&r->options, folder, e);
    free(path);
    return ok && cut_log(r, state, e) && resume_remove_after(&r->options, p->step, e);
}

void resume_offer_older(const Options *o, const char *folder, Err *e)
{
    const char *dash = strrchr(folder, '-');
    int64_t older = dash ? newest_checkpoint(o->output_dir, strtoll(dash + 1, NULL, 10)) : -1;
    if (older < 0) return;
    Err why = *e;
    char *path = checkpoint_path(o->output_dir, older, "");
    fail(e, "%.1500s; the one before it is %.400s", why.text, path);
    free(path);
}
