// resume: see resume.h.
#include "resume.h"

#include "../../model/safetensors.h"

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
    uint64_t hash = hash_words(HASH_START, r->model.trained, r->model.n_trained);
    if (r->optim.moment1)
        hash = hash_words(hash_words(hash, r->optim.moment1, r->model.n_trained), r->optim.moment2, r->model.n_trained);
    return hash_text(hash);
}

// Keys that may differ between a run and its continuation: where things lie and how they are saved, not what is
// computed.
static bool may_differ(const char *key)
{
    static const char *const keys[] = {
        "output_dir", "overwrite_output_dir", "resume_from_checkpoint", "n_threads", "save_steps", "save_total_limit",
        "save_strategy", "model_name_or_path", "base_model_name_or_path", "on_base_mismatch", "tokenizer_name_or_path",
        "activation_checkpointing", "report_to", "arms"};
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

// The fields of a Progress by name: counts, and doubles. Doubles are written in full, as hexadecimal text: decimal
// numbers of JSON need not come back to the bit.
#define COUNT(name) {#name, offsetof(Progress, name), false}
#define EXACT(name) {#name, offsetof(Progress, name), true}
static const struct { const char *key; size_t offset; bool exact; } fields[] = {
    COUNT(step), COUNT(epoch), COUNT(next), COUNT(num_tokens), COUNT(supervised_tokens), COUNT(since_log.tokens),
    COUNT(since_log.rows), COUNT(since_log.steps), COUNT(total.tokens), COUNT(total.rows), COUNT(total.steps),
    COUNT(best_step), EXACT(since_log.weighted_loss), EXACT(since_log.entropy), EXACT(since_log.correct),
    EXACT(since_log.weight), EXACT(since_log.loss), EXACT(since_log.seconds), EXACT(total.weighted_loss),
    EXACT(total.entropy), EXACT(total.correct), EXACT(total.weight), EXACT(total.loss), EXACT(total.seconds),
    EXACT(grad_norm), EXACT(lr), EXACT(best_metric),
};
_Static_assert(sizeof(size_t) == 8 && sizeof(int64_t) == 8, "counts are read and written as 64 bits");
enum { N_FIELDS = sizeof fields / sizeof *fields };

// The files that a run appends to, and the key of their length. A run without held-out rows has no traces.
static const struct { const char *name, *key; } logs[] = {{"log.jsonl", "log_bytes"}, {TRACES_FILE, "traces_bytes"}};

static cJSON *state_json(const Run *r, const Progress *p, const off_t bytes[2])
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddNumberToObject(json, "version", PROGRAM_VERSION);
    cJSON_AddStringToObject(json, "data_hash", data_hash(r).text);
    cJSON_AddStringToObject(json, "weights_hash", weights_hash(r).text);
    cJSON_AddNumberToObject(json, "optimizer_step", (double)r->optim.step);
    for (int i = 0; i < 2; i++) cJSON_AddNumberToObject(json, logs[i].key, (double)bytes[i]);
    for (int i = 0; i < N_FIELDS; i++) {
        const void *field = (const char *)p + fields[i].offset;
        char text[40];
        if (fields[i].exact) {
            snprintf(text, sizeof text, "%a", *(const double *)field);
            cJSON_AddStringToObject(json, fields[i].key, text);
        } else cJSON_AddNumberToObject(json, fields[i].key, (double)*(const int64_t *)field);
    }
    cJSON_AddItemToObject(json, "config", options_json(&r->options));
    return json;
}

static bool state_fields(Progress *p, const cJSON *json, const char *path, Err *e)
{
    for (int i = 0; i < N_FIELDS; i++) {
        const cJSON *v = json_get(json, fields[i].key);
        const char *text = cJSON_IsString(v) ? v->valuestring : "";
        char *end;
        double exact = strtod(text, &end);
        void *field = (char *)p + fields[i].offset;
        if (fields[i].exact && (end == text || *end))
            return fail(e, "%s: %s: expected a number as text", path, fields[i].key);
        if (!fields[i].exact && !json_is_int(v, 0, MAX_COUNT))
            return fail(e, "%s: %s: expected a count, found %s", path, fields[i].key, json_kind(v));
        if (fields[i].exact) *(double *)field = exact;
        else *(int64_t *)field = (int64_t)v->valuedouble;
    }
    return true;
}

// ---- writing ------------------------------------------------------------------------------------------------------

static bool write_moments(const Run *r, const char *dir, Err *e)
{
    size_t count = r->model.n_trained;
    StTensor entries[2] = {{.name = "moment1", .n_dims = 1, .shape = {count}, .count = count},
                           {.name = "moment2", .n_dims = 1, .shape = {count}, .count = count}};
    const float *data[2] = {r->optim.moment1, r->optim.moment2};
    size_t n = r->optim.moment1 ? 2 : 0;
    FileWriter w;
    bool ok = safetensors_create(&w, path_in(dir, "optimizer.safetensors").text, "", entries, n, e);
    for (size_t i = 0; ok && i < n; i++) ok = file_write(&w, data[i], count * sizeof(float), e);
    return ok && file_commit(&w, e);
}

static bool write_state(const Run *r, const Progress *p, const char *dir, Err *e)
{
    off_t bytes[2] = {0};
    for (int i = 0; i < 2; i++) {
        struct stat log;
        Path path = path_in(r->options.output_dir, logs[i].name);
        if (i && !file_exists(path.text)) continue;
        if (!file_sync(path.text, e)) return false;
        if (stat(path.text, &log) != 0) return fail(e, "%s: cannot open: %s", path.text, strerror(errno));
        bytes[i] = log.st_size;
    }
    cJSON *json = state_json(r, p, bytes);
    bool ok = json_save(json, path_in(dir, "resume.json").text, e);
    cJSON_Delete(json);
    return ok;
}

Path resume_path(const Options *o, int64_t step)
{
    Path path;
    snprintf(path.text, sizeof path.text, "%s/checkpoint-%lld", o->output_dir, (long long)step);
    return path;
}

// A name that the next run removes, should this one be killed over it.
static Path temporary_path(const Options *o, int64_t step, const char *tail)
{
    Path path;
    snprintf(path.text, sizeof path.text, "%s/checkpoint-%lld.tmp.%ld%s", o->output_dir, (long long)step,
             (long)getpid(), tail);
    return path;
}

// One that is half removed no longer has its name.
static bool remove_checkpoint(const Options *o, int64_t step, Err *e)
{
    Path path = resume_path(o, step), gone = temporary_path(o, step, "");
    if (!file_exists(path_in(path.text, "optimizer.safetensors").text)) return true;   // someone else's
    if (rename(path.text, gone.text) != 0) return fail(e, "%s: cannot remove: %s", path.text, strerror(errno));
    dir_remove(gone.text);
    return true;
}

// Those of steps after this one, but not the `keep` newest, nor the one of step `best`.
static bool remove_checkpoints(const Options *o, int64_t after, int64_t keep, int64_t best, Err *e)
{
    int64_t step = INT64_MAX;
    bool ok = true;
    for (int64_t i = 0; ok && (step = run_newest_checkpoint(o->output_dir, step)) > after; i++)
        ok = i < keep || step == best || remove_checkpoint(o, step, e);
    return ok;
}

bool resume_remove_after(const Options *o, int64_t step, Err *e) { return remove_checkpoints(o, step, 0, -1, e); }

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
    Path final = resume_path(o, p->step), aside = temporary_path(o, p->step, "0");
    Path temporary = temporary_path(o, p->step, "");
    const char *dir = temporary.text;
    bool ok = dir_make(dir, e) && run_write_model(r, dir, e) && write_moments(r, dir, e) &&
              run_copy_beside(o->output_dir, dir, "trainer_state.json", e) && write_state(r, p, dir, e) &&
              replace_folder(dir, final.text, aside.text, e) && file_sync(o->output_dir, e);
    dir_remove(ok ? aside.text : dir);
    return ok && (!o->save_total_limit || remove_checkpoints(o, -1, o->save_total_limit, p->best_step, e));
}

// ---- reading ------------------------------------------------------------------------------------------------------

char *resume_find(const Options *o, Err *e)
{
    const char *given = o->resume_from_checkpoint;
    bool latest = strcmp(given, "latest") == 0;
    int64_t newest = latest ? run_newest_checkpoint(o->output_dir, INT64_MAX) : -1;
    if (newest >= 0) return mem_strdup(resume_path(o, newest).text);
    if (!latest && file_is_dir(given)) return mem_strdup(given);
    if (latest) fail(e, "resume_from_checkpoint=latest: expected a checkpoint in %s, found none", o->output_dir);
    else fail(e, "resume_from_checkpoint: %s: expected a checkpoint folder, or latest", given);
    return NULL;
}

static bool read_moments(Run *r, const char *folder, Err *e)
{
    const char *const names[2] = {"moment1", "moment2"};
    float *data[2] = {r->optim.moment1, r->optim.moment2};
    size_t n = r->model.n_trained;
    SafeTensors st;
    bool ok = safetensors_open(&st, path_in(folder, "optimizer.safetensors").text, e);
    for (int i = 0; ok && i < 2 && data[i]; i++) {
        const StTensor *t = safetensors_find(&st, names[i]);
        ok = (t && t->count == n) ||
             fail(e, "%s: %s: expected %zu floats, found %zu", st.file.path, names[i], n, t ? t->count : 0);
        if (ok) safetensors_read(&st, t, 0, n, data[i]);
    }
    safetensors_close(&st);                                // {0} if it could not be opened
    return ok;
}

// A log as it was when the checkpoint was written: lines of steps after it are written again.
static bool cut_log(const Run *r, const cJSON *state, int i, Err *e)
{
    const cJSON *bytes = json_get(state, logs[i].key);
    Path log = path_in(r->options.output_dir, logs[i].name);
    struct stat st = {0};
    bool there = stat(log.text, &st) == 0;
    if (!json_is_int(bytes, 0, MAX_COUNT) || (!there && i == 0) || (double)st.st_size < bytes->valuedouble)
        return fail(e, "%s: expected the log that the checkpoint was written with, of %.0f bytes or more", log.text,
                    bytes ? bytes->valuedouble : 0);
    return !there || truncate(log.text, (off_t)bytes->valuedouble) == 0 ||
           fail(e, "%s: cannot write: %s", log.text, strerror(errno));
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
    Path path = path_in(folder, "resume.json");
    cJSON *state = json_load(path.text, e);
    if (!state) resume_offer_older(&r->options, folder, e);
    if (state && check_version(state, path.text, e) && check_state(r, state, path.text, e)) return state;
    cJSON_Delete(state);
    return NULL;
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
    Path in = path_in(folder, "resume.json");
    const char *path = in.text;
    const cJSON *step = json_get(state, "optimizer_step");
    bool ok = state_fields(p, state, path, e) && read_moments(r, folder, e) &&
              check_weights_hash(r, state, path, folder, e) &&
              (json_is_int(step, 0, MAX_COUNT) || fail(e, "%s: optimizer_step: expected a count", path));
    Path best = resume_path(&r->options, p->best_step);
    if (ok && p->best_step && !file_exists(best.text))
        ok = fail(e, "%s: the best checkpoint, %s, is not there", path, best.text);
    if (ok) r->optim.step = (int64_t)step->valuedouble;
    else resume_offer_older(&r->options, folder, e);
    return ok && cut_log(r, state, 0, e) && cut_log(r, state, 1, e) && resume_remove_after(&r->options, p->step, e);
}

void resume_offer_older(const Options *o, const char *folder, Err *e)
{
    const char *dash = strrchr(folder, '-');
    int64_t older = dash ? run_newest_checkpoint(o->output_dir, strtoll(dash + 1, NULL, 10)) : -1;
    if (older < 0) return;
    Err why = *e;
    fail(e, "%.1500s; the one before it is %.400s", why.text, resume_path(o, older).text);
}
