// run: see run.h.
#include "run.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---- inputs -------------------------------------------------------------------------------------------------------

void run_free(Run *r)
{
    if (r->lock) close(r->lock);
    free(r->evals);
    free(r->losses);
    free(r->roles);
    batch_free(&r->batch);
    optim_free(&r->optim);
    model_free(&r->model);
    dataset_free(&r->data);
    dataset_free(&r->eval_data);
    template_free(r->template);
    tokenizer_free(r->tokenizer);
    free(r->tokenizer_path);
    options_free(&r->options);
}

// The tokenizer's own place: beside the model, tokenizer.bin for a .bin and tokenizer.json in a folder.
static char *default_tokenizer(const char *model)
{
    if (checkpoint_is_folder(model)) return mem_strdup(model);
    char *dir = path_dir(model), *path = path_join(dir, "tokenizer.bin");
    free(dir);
    return path;
}

bool run_open_tokenizer(Run *r, const char *model, Err *e)
{
    const char *given = r->options.tokenizer_name_or_path;
    if (!given && !model) return fail(e, "tokenizer_name_or_path: expected a path, found nothing");
    r->tokenizer_path = given ? mem_strdup(given) : default_tokenizer(model);
    r->tokenizer = tokenizer_load(r->tokenizer_path, e);
    if (!r->tokenizer && !given) fail_prefix(e, "the tokenizer is looked for beside the model (or give tokenizer_name_or_path): ");
    return r->tokenizer != NULL;
}

bool run_open_template(Run *r, Err *e)
{
    const char *path = r->options.chat_template_path, *own = tokenizer_chat_template(r->tokenizer);
    if (!path) {
        if (own) r->template = template_parse(own, strlen(own), "chat template", e);
        return !own || r->template;
    }
    File f;
    if (!file_map(&f, path, e)) return false;
    r->template = template_parse((const char *)f.data, f.size, path, e);
    file_unmap(&f);
    return r->template != NULL;
}

// The shape of the model to train: of the file, or model_init's.
static bool model_shape(Run *r, Config *c, Err *e)
{
    const Options *o = &r->options;
    if (!o->model_init) return checkpoint_config(c, o->model_name_or_path, e);
    cJSON *json = cJSON_Duplicate(o->model_init, true);
    if (!json_get(json, "vocab_size")) cJSON_AddNumberToObject(json, "vocab_size", tokenizer_vocab_size(r->tokenizer));
    if (!json_get(json, "rms_norm_eps")) cJSON_AddNumberToObject(json, "rms_norm_eps", 1e-5);      // llama2.c's
    bool ok = config_from_json(c, json, "model_init", e);
    cJSON_Delete(json);
    return ok;
}

bool run_check_vocabulary(const Run *r, const Config *c, Err *e)
{
    int n = tokenizer_vocab_size(r->tokenizer);
    return !tokenizer_is_bin(r->tokenizer) || n == c->vocab_size ||
           fail(e, "%s: expected a tokenizer of %d pieces, the model's vocab_size, found %d", r->tokenizer_path, c->vocab_size, n);
}

// What rows become. `c` NULL: no model, so no limits from it.
static bool make_recipe(Run *r, const Config *c, Err *e)
{
    const Options *o = &r->options;
    int64_t limit = c ? c->seq_len : INT64_MAX, length = o->max_length;
    if (length > limit && options_given(o, "max_length"))
        return fail(e, "max_length: expected at most the model's %lld, found %lld", (long long)limit, (long long)length);
    r->recipe = (Recipe){
        .tokenizer = r->tokenizer, .template = r->template, .template_kwargs = o->chat_template_kwargs,
        .text_field = o->dataset_text_field, .assistant_only_loss = (int)o->assistant_only_loss,
        .completion_only_loss = (int)o->completion_only_loss, .prompt_loss_weight = (float)o->prompt_loss_weight,
        .warn_on_prefix_mismatch = strcmp(o->on_prefix_mismatch, "warn") == 0,
        .max_length = (size_t)(length < limit ? length : limit), .vocab_size = c ? c->vocab_size : 0,
    };
    return true;
}

// The training rows, and the held-out ones from a file of their own or off the end of the same one.
static bool open_data(Run *r, Err *e)
{
    const Options *o = &r->options;
    if (!o->dataset_name) return fail(e, "dataset_name: expected a path, found nothing");
    if (o->eval_dataset_name && o->eval_split > 0) return fail(e, "eval_split and eval_dataset_name: expected one of the two, found both");
    if (!dataset_open(&r->data, o->dataset_name, e) || !dataset_build(&r->data, &r->recipe, e)) return false;
    r->n_train = r->data.n;
    if (o->eval_dataset_name) {
        if (!dataset_open(&r->eval_data, o->eval_dataset_name, e) || !dataset_build(&r->eval_data, &r->recipe, e)) return false;
        r->eval = r->eval_data.examples;
        r->n_eval = r->eval_data.n;
    } else if (o->eval_split > 0) {
        r->n_eval = (size_t)ceil(o->eval_split * (double)r->data.n);
        if (r->n_eval >= r->data.n) return fail(e, "eval_split: expected to leave rows to train on, found %zu of %zu held out", r->n_eval, r->data.n);
        r->n_train -= r->n_eval;
        r->eval = r->data.examples + r->n_train;
    }
    return true;
}

bool run_open_inputs(Run *r, bool need_model, Config *c, Err *e)
{
    const Options *o = &r->options;
    ops_init((int)o->n_threads);
    if (o->model_init && o->model_name_or_path) return fail(e, "model_init and model_name_or_path: expected one of the two, found both");
    if (need_model && !o->model_init && !o->model_name_or_path) return fail(e, "model_name_or_path: expected a path, found nothing");
    bool has_model = o->model_init || (o->model_name_or_path && (need_model || file_exists(o->model_name_or_path)));
    if (need_model && o->model_name_or_path && !checkpoint_config(c, o->model_name_or_path, e)) return false;
    if (!run_open_tokenizer(r, o->model_name_or_path, e) || !run_open_template(r, e)) return false;
    if (has_model && (!model_shape(r, c, e) || !run_check_vocabulary(r, c, e))) return false;
    return make_recipe(r, has_model ? c : NULL, e) && open_data(r, e);
}

// ---- evaluation ---------------------------------------------------------------------------------------------------

static BatchSize size_max(BatchSize a, BatchSize b)
{
    return (BatchSize){a.tokens > b.tokens ? a.tokens : b.tokens, a.row > b.row ? a.row : b.row,
                       a.rows > b.rows ? a.rows : b.rows, a.targets > b.targets ? a.targets : b.targets};
}

BatchSize run_batch_size(const Run *r, const Example *const *rows, size_t n_rows)
{
    size_t batch = (size_t)r->options.per_device_train_batch_size;
    const Example **held_out = mem_alloc(r->n_eval, sizeof *held_out);
    for (size_t i = 0; i < r->n_eval; i++) held_out[i] = &r->eval[i];
    BatchSize eval = batch_bound(held_out, r->n_eval, batch, BATCH_EVAL);
    free(held_out);
    return size_max(eval, batch_bound(rows, n_rows, batch, BATCH_TRAIN));
}

bool run_make_room(Run *r, const Example *const *rows, size_t n_rows, bool training, Err *e)
{
    const Options *o = &r->options;
    r->max = run_batch_size(r, rows, n_rows);
    r->losses = mem_alloc(r->max.targets, sizeof *r->losses);
    r->roles = mem_alloc(r->max.targets, 1);
    return batch_init(&r->batch, r->max, e) && model_reserve(&r->model, r->max.tokens, r->max.row, r->max.rows, r->max.targets, training,
                                                              training && o->gradient_checkpointing, e);
}

// An answer is a run of assistant tokens in one row.
static void count_answers(const Run *r, EvalSums *sums)
{
    const Batch *b = &r->batch;
    for (size_t s = 0, m = 0; s < b->S; s++)
        for (bool inside = false, exact = false; m < b->M && b->at[m] < b->starts[s + 1]; m++) {
            bool assistant = r->roles[m] == ROLE_ASSISTANT;
            if (assistant && !inside) sums->answers++, sums->exact++, exact = true;
            if (assistant && exact && !r->losses[m].correct) sums->exact--, exact = false;
            inside = assistant;
        }
}

// Adds the losses of the batch at hand to the sums. Roles are those of the predicted tokens.
static void evaluate_batch(Run *r, EvalSums *sums)
{
    const Batch *b = &r->batch;
    if (b->M == 0) return;
    model_forward(&r->model, b, r->losses, 0);
    for (size_t m = 0; m < b->M; m++) {
        double w = (double)b->weight[m], nll = (double)r->losses[m].nll;
        sums->nll[r->roles[m]] += nll;
        sums->n[r->roles[m]]++;
        sums->weighted_nll += w * nll;
        sums->weight += w;
        sums->weighted_correct += w * r->losses[m].correct;
    }
    count_answers(r, sums);
}

EvalSums run_evaluate(Run *r, const Example *rows, size_t n)
{
    EvalSums sums = {0};
    Batch *b = &r->batch;
    batch_clear(b);
    for (size_t i = 0; i < n; i++) {
        if (rows[i].dropped) continue;
        if (b->S == (size_t)r->options.per_device_train_batch_size) {
            evaluate_batch(r, &sums);
            batch_clear(b);
        }
        memcpy(r->roles + b->M, rows[i].roles + 1, example_size(&rows[i], BATCH_EVAL).targets);
        batch_add(b, &rows[i], BATCH_EVAL);
    }
    evaluate_batch(r, &sums);
    return sums;
}

// ---- output -------------------------------------------------------------------------------------------------------

int64_t checkpoint_step(const char *name)
{
    char *end;
    if (strncmp(name, "checkpoint-", 11) != 0 || !isdigit((unsigned char)name[11])) return -1;
    long long n = strtoll(name + 11, &end, 10);
    return *end ? -1 : n;
}

bool run_holds_model(const char *dir)
{
    static const char *const names[] = {"model.bin", "model.safetensors", "model.safetensors.index.json", "config.json", "compare.csv"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = path_join(dir, names[i]);
        bool there = file_exists(path);
        free(path);
        if (there) return true;
    }
    DIR *folder = opendir(dir);
    bool there = false;
    for (struct dirent *d; folder && (d = readdir(folder));) there |= checkpoint_step(d->d_name) >= 0;
    if (folder) closedir(folder);
    return there;
}

// What a killed run left half done: files and folders under temporary names of ours. Whoever holds the lock may remove them.
static void remove_unfinished(const char *dir)
{
    static const char *const names[] = {"train_config.json", "log.jsonl", "report.html", "compare.csv", "model"};
    DIR *folder = opendir(dir);
    for (struct dirent *d; folder && (d = readdir(folder));) {
        char *path = path_join(dir, d->d_name), *name = mem_strndup(d->d_name, file_is_unfinished(d->d_name));
        bool ours = checkpoint_step(name) >= 0;
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) ours |= strcmp(name, names[i]) == 0;
        if (ours && unlink(path) != 0) dir_remove(path);
        free(name);
        free(path);
    }
    if (folder) closedir(folder);
}

bool run_claim_output(Run *r, Err *e)
{
    const Options *o = &r->options;
    if (!o->output_dir) return fail(e, "output_dir: expected a path, found nothing");
    if (!dir_make(o->output_dir, e)) return fail_prefix(e, "output_dir: ");
    int lock = dir_lock(o->output_dir, e);
    if (lock < 0) return fail_prefix(e, "output_dir: ");
    r->lock = lock;
    if (!o->overwrite_output_dir && !o->resume_from_checkpoint && run_holds_model(o->output_dir))
        return fail(e, "output_dir: %s holds a model or checkpoints already: choose another folder, or give overwrite_output_dir=true or "
                       "resume_from_checkpoint=latest", o->output_dir);
    if (access(o->output_dir, W_OK) != 0) return fail(e, "output_dir: %s: cannot write: %s", o->output_dir, strerror(errno));
    remove_unfinished(o->output_dir);
    return true;
}

char *run_log_path(const Run *r) { return path_join(r->options.output_dir, "log.jsonl"); }

bool run_open_output(Run *r, Err *e)
{
    const Options *o = &r->options;
    char *log = run_log_path(r), *config = path_join(o->output_dir, "train_config.json");
    cJSON *json = options_json(o);
    bool ok = json_save(json, config, e) && (o->resume_from_checkpoint || file_put(log, "", 0, e));    // checkpoint_read takes the old one
    cJSON_Delete(json);
    free(log);
    free(config);
    return ok;
}

bool run_write_log(Run *r, cJSON *line, Err *e)
{
    char *text = cJSON_PrintUnformatted(line), *path = run_log_path(r);
    Buf b = {0};
    buf_addf(&b, "%s\n", text);
    bool ok = file_append(path, b.data, b.len, e);
    buf_free(&b);
    free(path);
    cJSON_free(text);
    cJSON_Delete(line);
    return ok;
}

bool dir_stage(const char *dir, char **stage, Err *e)
{
    Buf path = {0};
    buf_addf(&path, "%s/model.tmp.%ld", dir, (long)getpid());
    *stage = path.data;
    return dir_make(path.data, e);
}

bool dir_publish(const char *dir, char *stage, bool ok, Err *e)
{
    DIR *folder = ok ? opendir(stage) : NULL;
    if (ok && !folder) ok = fail(e, "%s: cannot open: %s", stage, strerror(errno));
    for (struct dirent *d; ok && folder && (d = readdir(folder));) {
        char *from = path_join(stage, d->d_name), *to = path_join(dir, d->d_name);
        if (d->d_name[0] != '.' && rename(from, to) != 0) ok = fail(e, "%s: cannot write: %s", to, strerror(errno));
        free(from);
        free(to);
    }
    if (folder) closedir(folder);
    ok = ok && file_sync(dir, e);
    dir_remove(stage);
    free(stage);
    return ok;
}

// Is the model kept in a folder, or in a .bin? As it came; a new one goes by its tokenizer.
static bool output_is_folder(const Run *r)
{
    const char *model = r->options.model_name_or_path;
    return model ? checkpoint_is_folder(model) : !tokenizer_is_bin(r->tokenizer);
}

static bool copy_if_there(const char *from_dir, const char *to_dir, const char *name, Err *e)
{
    char *from = path_join(from_dir, name), *to = path_join(to_dir, name);
    bool ok = !file_exists(from) || file_copy(from, to, e);
    free(from);
    free(to);
    return ok;
}

// Everything that the tokenizer was read from, and the template in force.
bool run_save_tokenizer(const Run *r, const char *dir, Err *e)
{
    static const char *const names[] = {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model",
                                        "chat_template.jinja", "generation_config.json"};
    const char *template = r->options.chat_template_path;
    char *from = file_is_dir(r->tokenizer_path) ? mem_strdup(r->tokenizer_path) : path_dir(r->tokenizer_path);
    char *main_from = file_is_dir(r->tokenizer_path) ? path_join(from, "tokenizer.json") : mem_strdup(r->tokenizer_path);
    char *main_to = path_join(dir, tokenizer_is_bin(r->tokenizer) ? "tokenizer.bin" : "tokenizer.json");
    char *template_to = path_join(dir, "chat_template.jinja");
    bool ok = file_copy(main_from, main_to, e);
    for (size_t i = 0; ok && !tokenizer_is_bin(r->tokenizer) && i < sizeof names / sizeof *names; i++) ok = copy_if_there(from, dir, names[i], e);
    if (ok && template) ok = file_copy(template, template_to, e);
    free(from);
    free(main_from);
    free(main_to);
    free(template_to);
    return ok;
}

// A folder's config.json keeps the keys that we do not write; a new one says what begins and ends a text.
cJSON *run_config_keys(const Run *r, Err *e)
{
    cJSON *json;
    if (r->options.model_name_or_path && checkpoint_is_folder(r->options.model_name_or_path)) {
        char *path = path_join(r->options.model_name_or_path, "config.json");
        json = json_load(path, e);
        free(path);
        return json;
    }
    json = cJSON_CreateObject();
    cJSON_AddNumberToObject(json, "bos_token_id", tokenizer_bos(r->tokenizer));
    cJSON_AddNumberToObject(json, "eos_token_id", tokenizer_eos(r->tokenizer));
    return json;
}

// Not only as many parameters: the rows were made for this vocab_size and seq_len.
static bool same_shape(const Config *a, const Config *b)
{
    return a->dim == b->dim && a->hidden_dim == b->hidden_dim && a->n_layers == b->n_layers && a->n_heads == b->n_heads &&
           a->n_kv_heads == b->n_kv_heads && a->head_dim == b->head_dim && a->vocab_size == b->vocab_size && a->seq_len == b->seq_len &&
           a->tied == b->tied;
}

bool run_open_model(Run *r, const Config *c, const char *checkpoint, Err *e)
{
    const Options *o = &r->options;
    if (checkpoint) {
        char *bin = path_join(checkpoint, "model.bin");
        bool ok = checkpoint_load(&r->model, output_is_folder(r) ? checkpoint : bin, e) &&
                  (same_shape(&r->model.config, c) ||
                   fail(e, "%s: expected a model of %zu parameters and seq_len %d, found %zu and %d%s", checkpoint, params_count(c),
                        c->seq_len, r->model.n_params, r->model.config.seq_len, r->model.n_params == params_count(c) ? ", of another shape" : ""));
        free(bin);
        return ok;
    }
    if (!o->model_init) return checkpoint_load(&r->model, o->model_name_or_path, e);
    if (!output_is_folder(r) && !config_fits_bin(c, e)) return fail_prefix(e, "model_init: ");
    if (!model_init(&r->model, c, e)) return false;
    model_randomize(&r->model, (uint64_t)o->seed);
    return true;
}

bool run_write_model(const Run *r, const char *dir, Err *e)
{
    bool ok;
    if (output_is_folder(r)) {
        cJSON *keys = run_config_keys(r, e);
        ok = keys && checkpoint_save_folder(&r->model, dir, keys, e);
        cJSON_Delete(keys);
    } else {
        char *path = path_join(dir, "model.bin");
        ok = checkpoint_save_bin(&r->model, path, e);
        free(path);
    }
    return ok && run_save_tokenizer(r, dir, e);
}

bool run_save_model(const Run *r, const char *dir, Err *e)
{
    char *stage;
    bool ok = dir_stage(dir, &stage, e) && run_write_model(r, stage, e);
    return dir_publish(dir, stage, ok, e);
}
