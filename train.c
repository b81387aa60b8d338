// sft.c: masked supervised fine-tuning of a small Llama. This file composes everything: the commands, the training
// loop, evaluation, and what is written where. The way of a row: data/example makes labels, data/batch lays rows end
// to end, model/transformer runs forward and backward, model/optim updates.
#include "data/batch.h"
#include "data/dataset.h"
#include "data/generate.h"
#include "data/options.h"
#include "data/report.h"
#include "model/checkpoint.h"
#include "model/optim.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---- what a command works with ------------------------------------------------------------------------------------

typedef struct {
    Options options;
    char *tokenizer_path;                                  // a tokenizer.bin, a tokenizer.json or a folder
    Tokenizer *tokenizer;
    Template *template;
    Recipe recipe;
    Dataset data, eval_data;
    Example *eval;                                         // borrowed from one of the two: the held-out rows
    size_t n_train, n_eval;                                // examples of data to train on; of eval
    Model model;
    Optim optim;
    BatchSize max;                                         // what the model has room for
    Batch batch;
    TokenLoss *losses;                                     // (max.targets)
    unsigned char *roles;                                  // (max.targets)
    FILE *log;
} Run;

static void run_free(Run *r)
{
    if (r->log) fclose(r->log);
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

static bool open_tokenizer(Run *r, const char *model, Err *e)
{
    const char *given = r->options.tokenizer_name_or_path;
    if (!given && !model) return fail(e, "tokenizer_name_or_path: expected a path, found nothing");
    r->tokenizer_path = given ? mem_strdup(given) : default_tokenizer(model);
    r->tokenizer = tokenizer_load(r->tokenizer_path, e);
    if (!r->tokenizer && !given) fail_prefix(e, "the tokenizer is looked for beside the model (or give tokenizer_name_or_path): ");
    return r->tokenizer != NULL;
}

static bool open_template(Run *r, Err *e)
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

static bool tokenizer_is_bin(const Run *r)
{
    size_t n = strlen(r->tokenizer_path);
    return !file_is_dir(r->tokenizer_path) && !(n > 5 && strcmp(r->tokenizer_path + n - 5, ".json") == 0);
}

static bool check_vocabulary(const Run *r, const Config *c, Err *e)
{
    int n = tokenizer_vocab_size(r->tokenizer);
    return !tokenizer_is_bin(r) || n == c->vocab_size ||
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

// Tokenizer, template, rows and (need_model, or if one is named) the model's shape.
static bool open_inputs(Run *r, bool need_model, Config *c, Err *e)
{
    const Options *o = &r->options;
    ops_init((int)o->n_threads);
    if (o->model_init && o->model_name_or_path) return fail(e, "model_init and model_name_or_path: expected one of the two, found both");
    if (need_model && !o->model_init && !o->model_name_or_path) return fail(e, "model_name_or_path: expected a path, found nothing");
    if (o->resume_from_checkpoint || o->save_steps || o->save_total_limit)
        return fail(e, "resume_from_checkpoint, save_steps and save_total_limit: expected null: checkpoints are not written yet");
    bool has_model = o->model_init || (o->model_name_or_path && (need_model || file_exists(o->model_name_or_path)));
    if (need_model && o->model_name_or_path && !checkpoint_config(c, o->model_name_or_path, e)) return false;
    if (!open_tokenizer(r, o->model_name_or_path, e) || !open_template(r, e)) return false;
    if (has_model && (!model_shape(r, c, e) || !check_vocabulary(r, c, e))) return false;
    return make_recipe(r, has_model ? c : NULL, e) && open_data(r, e);
}

// ---- evaluation ---------------------------------------------------------------------------------------------------

static BatchSize size_max(BatchSize a, BatchSize b)
{
    return (BatchSize){a.tokens > b.tokens ? a.tokens : b.tokens, a.row > b.row ? a.row : b.row,
                       a.rows > b.rows ? a.rows : b.rows, a.targets > b.targets ? a.targets : b.targets};
}

// Room for training batches of these rows (NULL: none) and for evaluating any single row at least.
static bool make_room(Run *r, const Example *const *rows, size_t n_rows, bool training, Err *e)
{
    const Options *o = &r->options;
    const Example **held_out = mem_alloc(r->n_eval, sizeof *held_out);
    for (size_t i = 0; i < r->n_eval; i++) held_out[i] = &r->eval[i];
    BatchSize eval = batch_bound(held_out, r->n_eval, training ? 1 : (size_t)o->per_device_train_batch_size, BATCH_EVAL);
    r->max = size_max(eval, batch_bound(rows, n_rows, (size_t)o->per_device_train_batch_size, BATCH_TRAIN));
    free(held_out);
    r->losses = mem_alloc(r->max.targets, sizeof *r->losses);
    r->roles = mem_alloc(r->max.targets, 1);
    return batch_init(&r->batch, r->max, e) && model_reserve(&r->model, r->max.tokens, r->max.row, r->max.rows, r->max.targets, training,
                                                              training && o->gradient_checkpointing, e);
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
}

// Loss per token over fixed masks, summed over all rows and divided once: it depends neither on the batch size nor on
// what the run trains on.
static EvalSums evaluate(Run *r, const Example *rows, size_t n)
{
    EvalSums sums = {0};
    Batch *b = &r->batch;
    batch_clear(b);
    for (size_t i = 0; i < n; i++) {
        if (rows[i].dropped) continue;
        BatchSize size = example_size(&rows[i], BATCH_EVAL);
        if (b->N + size.tokens > r->max.tokens || b->M + size.targets > r->max.targets || b->S + 1 > r->max.rows) {
            evaluate_batch(r, &sums);
            batch_clear(b);
        }
        memcpy(r->roles + b->M, rows[i].roles + 1, size.targets);
        batch_add(b, &rows[i], BATCH_EVAL);
    }
    evaluate_batch(r, &sums);
    return sums;
}

// ---- output -------------------------------------------------------------------------------------------------------

// Has the folder a model or checkpoints in it?
static bool output_in_use(const char *dir)
{
    static const char *const names[] = {"model.bin", "model.safetensors", "model.safetensors.index.json", "config.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = path_join(dir, names[i]);
        bool there = file_exists(path);
        free(path);
        if (there) return true;
    }
    return false;
}

static bool open_output(Run *r, Err *e)
{
    const Options *o = &r->options;
    if (!o->output_dir) return fail(e, "output_dir: expected a path, found nothing");
    if (!o->overwrite_output_dir && output_in_use(o->output_dir))
        return fail(e, "output_dir: %s holds a model already: choose another folder or give overwrite_output_dir=true", o->output_dir);
    if (!dir_make(o->output_dir, e)) return fail_prefix(e, "output_dir: ");
    char *log = path_join(o->output_dir, "log.jsonl"), *config = path_join(o->output_dir, "train_config.json");
    cJSON *json = options_json(o);
    char *text = cJSON_Print(json);
    bool ok = file_put(config, text, strlen(text), e);
    r->log = ok ? fopen(log, "w") : NULL;
    if (ok && !r->log) fail(e, "%s: cannot write: %s", log, strerror(errno));
    cJSON_free(text);
    cJSON_Delete(json);
    free(log);
    free(config);
    return r->log != NULL;
}

static bool write_log(Run *r, cJSON *line, Err *e)
{
    char *text = cJSON_PrintUnformatted(line);
    bool ok = fprintf(r->log, "%s\n", text) > 0 && fflush(r->log) == 0;
    cJSON_free(text);
    cJSON_Delete(line);
    return ok || fail(e, "%s/log.jsonl: cannot write: %s", r->options.output_dir, strerror(errno));
}

// Is the model kept in a folder, or in a .bin? As it came; a new one goes by its tokenizer.
static bool output_is_folder(const Run *r)
{
    const char *model = r->options.model_name_or_path;
    return model ? checkpoint_is_folder(model) : !tokenizer_is_bin(r);
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
static bool save_tokenizer(const Run *r, const char *dir, Err *e)
{
    static const char *const names[] = {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model",
                                        "chat_template.jinja", "generation_config.json"};
    const char *template = r->options.chat_template_path;
    char *from = file_is_dir(r->tokenizer_path) ? mem_strdup(r->tokenizer_path) : path_dir(r->tokenizer_path);
    char *main_from = file_is_dir(r->tokenizer_path) ? path_join(from, "tokenizer.json") : mem_strdup(r->tokenizer_path);
    char *main_to = path_join(dir, tokenizer_is_bin(r) ? "tokenizer.bin" : "tokenizer.json");
    char *template_to = path_join(dir, "chat_template.jinja");
    bool ok = file_copy(main_from, main_to, e);
    for (size_t i = 0; ok && !tokenizer_is_bin(r) && i < sizeof names / sizeof *names; i++) ok = copy_if_there(from, dir, names[i], e);
    if (ok && template) ok = file_copy(template, template_to, e);
    free(from);
    free(main_from);
    free(main_to);
    free(template_to);
    return ok;
}

// A folder's config.json keeps the keys that we do not write; a new one says what begins and ends a text.
static cJSON *other_config_keys(const Run *r, Err *e)
{
    cJSON *json;
    if (r->options.model_name_or_path) {
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

static bool save_model(const Run *r, const char *dir, Err *e)
{
    bool ok;
    if (output_is_folder(r)) {
        cJSON *keys = other_config_keys(r, e);
        ok = keys && checkpoint_save_folder(&r->model, dir, keys, e);
        cJSON_Delete(keys);
    } else {
        char *path = path_join(dir, "model.bin");
        ok = checkpoint_save_bin(&r->model, path, e);
        free(path);
    }
    return ok && save_tokenizer(r, dir, e);
}

// ---- training -----------------------------------------------------------------------------------------------------

static volatile sig_atomic_t stop_signal;

// The first signal ends training after the step at hand; a second one ends the program.
static void on_signal(int number)
{
    if (stop_signal) _exit(128 + number);
    stop_signal = number;
}

// Sums since the last line of the log, or since the beginning.
typedef struct { double nll, entropy, correct, weight, seconds; size_t tokens, rows; } TrainSums;

typedef struct {
    const Example **rows;                                  // those with something to learn
    size_t *order;                                         // of this epoch
    size_t n_rows, next;                                   // next: place in the order
    int64_t step, n_steps, steps_per_epoch, warmup;
    uint64_t epoch;
    size_t num_tokens, supervised_tokens;
    double grad_norm, lr, started;
    TrainSums since_log, total;
    Schedule schedule;
} Loop;

// Rows to train on: those with a label on a token that is predicted at all. Not the weights decide but the labels, so
// that runs with different prompt_loss_weight see the same rows in the same order.
static bool has_target(const Example *ex)
{
    for (size_t i = 1; !ex->dropped && i < ex->n; i++)
        if (ex->labels[i] != IGNORE) return true;
    return false;
}

static bool loop_init(Loop *loop, const Run *r, Err *e)
{
    const Options *o = &r->options;
    *loop = (Loop){0};
    loop->rows = mem_alloc(r->n_train, sizeof *loop->rows);
    loop->order = mem_alloc(r->n_train, sizeof *loop->order);
    for (size_t i = 0; i < r->n_train; i++)
        if (has_target(&r->data.examples[i])) loop->rows[loop->n_rows++] = &r->data.examples[i];
    if (loop->n_rows == 0) return fail(e, "%s: nothing to learn: the labels of all %zu rows are -100", o->dataset_name, r->n_train);
    int64_t batch = o->per_device_train_batch_size, accumulation = o->gradient_accumulation_steps;
    int64_t micro = ((int64_t)loop->n_rows + batch - 1) / batch;
    loop->steps_per_epoch = (micro + accumulation - 1) / accumulation;
    loop->n_steps = o->max_steps >= 0 ? o->max_steps : (int64_t)ceil(o->num_train_epochs * (double)loop->steps_per_epoch);
    loop->warmup = o->warmup_steps ? o->warmup_steps : (int64_t)ceil(o->warmup_ratio * (double)loop->n_steps);
    static const struct { const char *name; Schedule schedule; } schedules[] = {
        {"linear", SCHEDULE_LINEAR}, {"cosine", SCHEDULE_COSINE}, {"constant", SCHEDULE_CONSTANT},
        {"constant_with_warmup", SCHEDULE_CONSTANT_WITH_WARMUP}};
    for (size_t i = 0; i < 4; i++)
        if (strcmp(o->lr_scheduler_type, schedules[i].name) == 0) loop->schedule = schedules[i].schedule;
    epoch_order(loop->order, loop->n_rows, o->shuffle, (uint64_t)o->seed, 0);
    return true;
}

static void loop_free(Loop *loop)
{
    free(loop->rows);
    free(loop->order);
}

// What all targets of rows [first, end) of the order weigh together: the one divisor of an optimizer step.
static double total_weight(const Loop *loop, size_t first, size_t end)
{
    double sum = 0;
    for (size_t i = first; i < end; i++) {
        const Example *ex = loop->rows[loop->order[i]];
        for (size_t t = 1; t < ex->n; t++) sum += (double)ex->weights[t];
    }
    return sum;
}

static void add_losses(TrainSums *sums, const Batch *b, const TokenLoss *losses)
{
    for (size_t m = 0; m < b->M; m++) {
        double w = (double)b->weight[m];
        sums->nll += w * (double)losses[m].nll;
        sums->entropy += w * (double)losses[m].entropy;
        sums->correct += w * losses[m].correct;
        sums->weight += w;
    }
}

static void add_sums(TrainSums *to, const TrainSums *s)
{
    to->nll += s->nll;
    to->entropy += s->entropy;
    to->correct += s->correct;
    to->weight += s->weight;
    to->seconds += s->seconds;
    to->tokens += s->tokens;
    to->rows += s->rows;
}

// One update: micro-batches forward and backward, all divided by the same sum, then clip and step.
static bool train_step(Run *r, Loop *loop, Err *e)
{
    const Options *o = &r->options;
    size_t batch = (size_t)o->per_device_train_batch_size, first = loop->next;
    size_t end = first + batch * (size_t)o->gradient_accumulation_steps;
    if (end > loop->n_rows) end = loop->n_rows;
    double started = now_seconds(), divisor = total_weight(loop, first, end);
    TrainSums sums = {.rows = end - first};
    r->model.accumulate = false;
    for (size_t i = first; i < end;) {
        batch_clear(&r->batch);
        for (size_t last = i + batch; i < last && i < end; i++) {
            const Example *ex = loop->rows[loop->order[i]];
            batch_add(&r->batch, ex, BATCH_TRAIN);
            sums.tokens += ex->n;
        }
        model_forward(&r->model, &r->batch, r->losses, divisor);
        model_backward(&r->model, &r->batch);
        r->model.accumulate = true;
        add_losses(&sums, &r->batch, r->losses);
        loop->supervised_tokens += r->batch.M;
    }
    loop->grad_norm = grads_norm(&r->model);
    if (!isfinite(sums.nll) || !isfinite(loop->grad_norm))
        return fail(e, "step %lld: the loss is %g and the gradient's norm %g; the weights are as they were before it (rows at lines %zu ... of %s)",
                    (long long)loop->step + 1, sums.nll / divisor, loop->grad_norm, loop->rows[loop->order[first]]->line, o->dataset_name);
    loop->lr = o->learning_rate * schedule_factor(loop->schedule, loop->step, loop->warmup, loop->n_steps);
    double clip = o->max_grad_norm > 0 ? fmin(1, o->max_grad_norm / (loop->grad_norm + 1e-6)) : 1;
    optim_step(&r->optim, &r->model, loop->lr, clip);

    loop->step++;
    loop->num_tokens += sums.tokens;
    loop->next = end;
    if (end == loop->n_rows) {
        loop->next = 0;
        epoch_order(loop->order, loop->n_rows, o->shuffle, (uint64_t)o->seed, ++loop->epoch);
    }
    sums.seconds = now_seconds() - started;
    add_sums(&loop->since_log, &sums);
    add_sums(&loop->total, &sums);
    return true;
}

static cJSON *log_line(const Loop *loop)
{
    cJSON *line = cJSON_CreateObject();
    cJSON_AddNumberToObject(line, "step", (double)loop->step);
    cJSON_AddNumberToObject(line, "epoch", (double)loop->step / (double)loop->steps_per_epoch);
    return line;
}

static bool log_training(Run *r, Loop *loop, Err *e)
{
    const TrainSums *s = &loop->since_log;
    cJSON *line = log_line(loop);
    cJSON_AddNumberToObject(line, "loss", s->nll / s->weight);
    cJSON_AddNumberToObject(line, "grad_norm", loop->grad_norm);
    cJSON_AddNumberToObject(line, "learning_rate", loop->lr);
    cJSON_AddNumberToObject(line, "num_tokens", (double)loop->num_tokens);
    cJSON_AddNumberToObject(line, "mean_token_accuracy", s->correct / s->weight);
    cJSON_AddNumberToObject(line, "entropy", s->entropy / s->weight);
    cJSON_AddNumberToObject(line, "supervised_tokens", (double)loop->supervised_tokens);
    cJSON_AddNumberToObject(line, "tokens_per_second", (double)s->tokens / s->seconds);
    loop->since_log = (TrainSums){0};
    return write_log(r, line, e);
}

static bool log_evaluation(Run *r, const Loop *loop, Err *e)
{
    if (!r->n_eval) return true;
    EvalSums sums = evaluate(r, r->eval, r->n_eval);
    cJSON *line = log_line(loop);
    eval_add_json(line, &sums, false);
    if (isatty(STDERR_FILENO)) fprintf(stderr, "\r\033[K");
    printf("step %lld: ", (long long)loop->step);
    static const char *const keys[] = {"eval_loss", "eval_assistant_loss", "eval_prompt_loss", "eval_mean_token_accuracy"};
    for (size_t i = 0; i < 4; i++) {
        const cJSON *v = json_get(line, keys[i]);
        if (cJSON_IsNumber(v)) printf(" %s %.4f", keys[i], v->valuedouble);
    }
    printf("\n");
    fflush(stdout);
    return write_log(r, line, e);
}

static bool log_end(Run *r, const Loop *loop, Err *e)
{
    const TrainSums *s = &loop->total;
    double runtime = now_seconds() - loop->started;
    cJSON *line = log_line(loop);
    if (s->weight > 0) cJSON_AddNumberToObject(line, "train_loss", s->nll / s->weight);
    else cJSON_AddNullToObject(line, "train_loss");
    cJSON_AddNumberToObject(line, "train_runtime", runtime);
    cJSON_AddNumberToObject(line, "train_samples_per_second", (double)s->rows / runtime);
    cJSON_AddNumberToObject(line, "train_tokens_per_second", (double)s->tokens / runtime);
    return write_log(r, line, e);
}

// One line on a terminal, overwritten each step; nothing elsewhere.
static void show_progress(const Loop *loop)
{
    if (!isatty(STDERR_FILENO)) return;
    const TrainSums *s = &loop->total;
    double left = (now_seconds() - loop->started) / (double)loop->step * (double)(loop->n_steps - loop->step);
    fprintf(stderr, "\r\033[Kstep %lld/%lld  loss %.4f  lr %.2e  %.0f tokens/s  %d:%02d left", (long long)loop->step, (long long)loop->n_steps,
            loop->since_log.weight > 0 ? loop->since_log.nll / loop->since_log.weight : s->nll / s->weight, loop->lr,
            (double)s->tokens / s->seconds, (int)left / 60, (int)left % 60);
    if (loop->step == loop->n_steps) fprintf(stderr, "\n");
}

static bool train_loop(Run *r, Loop *loop, Err *e)
{
    const Options *o = &r->options;
    int64_t evaluated = 0;
    loop->started = now_seconds();
    bool ok = log_evaluation(r, loop, e);
    while (ok && loop->step < loop->n_steps && !stop_signal) {
        ok = train_step(r, loop, e);
        if (!ok) break;
        show_progress(loop);
        if (loop->step % o->logging_steps == 0) ok = log_training(r, loop, e);
        if (ok && o->eval_steps && loop->step % o->eval_steps == 0) ok = log_evaluation(r, loop, e), evaluated = loop->step;
    }
    if (ok && loop->since_log.weight > 0) ok = log_training(r, loop, e);
    if (ok && evaluated != loop->step) ok = log_evaluation(r, loop, e);
    return ok && log_end(r, loop, e);
}

static void report_start(const Run *r)
{
    Summary s = dataset_summary(r->data.examples, r->n_train, r->tokenizer);
    report_summary(stdout, r->options.dataset_name, &s, &r->recipe);
    if (!r->n_eval) return;
    s = dataset_summary(r->eval, r->n_eval, r->tokenizer);
    report_summary(stdout, "held out", &s, &r->recipe);
}

static bool make_model(Run *r, const Config *c, Err *e)
{
    const Options *o = &r->options;
    if (!o->model_init) return checkpoint_load(&r->model, o->model_name_or_path, e);
    if (!output_is_folder(r) && !config_fits_bin(c, e)) return fail_prefix(e, "model_init: ");
    if (!model_init(&r->model, c, e)) return false;
    model_randomize(&r->model, (uint64_t)o->seed);
    return true;
}

static bool train(Run *r, Err *e)
{
    const Options *o = &r->options;
    Config c;
    Loop loop = {0};
    bool ok = open_inputs(r, true, &c, e);
    if (ok) report_start(r);
    ok = ok && loop_init(&loop, r, e) && make_model(r, &c, e) && make_room(r, loop.rows, loop.n_rows, true, e) && open_output(r, e);
    if (ok) {
        r->optim = (Optim){.kind = strcmp(o->optim, "sgd") == 0 ? OPTIM_SGD : OPTIM_ADAMW, .beta1 = (float)o->adam_beta1,
                           .beta2 = (float)o->adam_beta2, .epsilon = (float)o->adam_epsilon, .weight_decay = (float)o->weight_decay};
        ok = optim_init(&r->optim, r->model.n_params, e);
    }
    if (ok) {
        printf("%zu parameters, %lld steps of up to %zu tokens, %d threads\n", r->model.n_params, (long long)loop.n_steps,
               r->max.tokens * (size_t)o->gradient_accumulation_steps, ops_threads());
        fflush(stdout);
        signal(SIGINT, on_signal);
        signal(SIGTERM, on_signal);
        ok = train_loop(r, &loop, e) && save_model(r, o->output_dir, e);
    }
    if (ok) printf("%s at step %lld of %lld; the model is in %s\n", stop_signal ? "interrupted" : "done", (long long)loop.step,
                   (long long)loop.n_steps, o->output_dir);
    loop_free(&loop);
    return ok;
}

// ---- the other commands -------------------------------------------------------------------------------------------

static bool inspect_json(Run *r, size_t first, size_t end, Err *e)
{
    Summary s = dataset_summary(r->data.examples, r->data.n, r->tokenizer);
    Buf text = {0};
    bool ok = true;
    for (size_t i = first; i < end && ok; i++) {
        Example again;                                     // for its text, which the data set does not keep
        cJSON *row = dataset_row(&r->data, i, e);
        ok = row && example_build(&again, &text, row, &r->recipe, e);
        if (ok) {
            cJSON *json = report_row_json(&r->data.examples[i], i, text.data);
            char *line = cJSON_PrintUnformatted(json);
            puts(line);
            cJSON_free(line);
            cJSON_Delete(json);
            example_free(&again);
        }
        cJSON_Delete(row);
    }
    buf_free(&text);
    cJSON *json = report_summary_json(&s);
    char *line = cJSON_PrintUnformatted(json);
    if (ok) puts(line);
    cJSON_free(line);
    cJSON_Delete(json);
    return ok;
}

static bool inspect(Run *r, Err *e)
{
    const Options *o = &r->options;
    Config c;
    if (!open_inputs(r, false, &c, e)) return false;
    size_t n = r->data.n, first = 0, end = o->json ? n : 1;
    if (o->rows > 0) end = (size_t)o->rows < n ? (size_t)o->rows : n;
    if (o->row >= 0) {
        if ((size_t)o->row >= n) return fail(e, "row: expected 0 to %zu, found %lld", n - 1, (long long)o->row);
        first = (size_t)o->row;
        end = first + 1;
    }
    if (o->json) return inspect_json(r, first, end, e);
    Summary s = dataset_summary(r->data.examples, r->data.n, r->tokenizer);
    report_summary(stdout, o->dataset_name, &s, &r->recipe);
    printf("\n");
    for (size_t i = first; i < end; i++) report_row(stdout, &r->data.examples[i], i, r->tokenizer, isatty(STDOUT_FILENO));
    if (end - first > 1) report_padded(stdout, r->data.examples + first, end - first, r->tokenizer);
    return true;
}

static bool eval(Run *r, Err *e)
{
    const Options *o = &r->options;
    Config c;
    if (!open_inputs(r, true, &c, e)) return false;
    if (!r->n_eval) {                                      // then the rows that training would take
        r->eval = r->data.examples;
        r->n_eval = r->data.n;
    }
    if (!make_model(r, &c, e) || !make_room(r, NULL, 0, false, e)) return false;
    Summary summary = dataset_summary(r->eval, r->n_eval, r->tokenizer);
    if (!summary.first) return fail(e, "nothing to evaluate: the labels of all %zu rows are -100", r->n_eval);
    EvalSums sums = evaluate(r, r->eval, r->n_eval);
    if (o->json) {
        cJSON *json = cJSON_CreateObject();
        eval_add_json(json, &sums, true);
        char *line = cJSON_PrintUnformatted(json);
        puts(line);
        cJSON_free(line);
        cJSON_Delete(json);
    } else {
        printf("%zu rows of %s\n", r->n_eval, o->eval_dataset_name ? o->eval_dataset_name : o->dataset_name);
        eval_print(stdout, &sums);
    }
    return true;
}

// sample and chat: a model that only speaks.
static bool generate(Run *r, const char *model, bool chat, Err *e)
{
    const Options *o = &r->options;
    ops_init((int)o->n_threads);
    Generation g = {.model = &r->model, .temperature = (float)o->temperature, .top_p = (float)o->top_p,
                    .max_new_tokens = (size_t)o->max_new_tokens, .seed = (uint64_t)o->seed};
    Config c;
    if (!checkpoint_config(&c, model, e) || !open_tokenizer(r, model, e) || !open_template(r, e) ||
        !check_vocabulary(r, &c, e) || !checkpoint_load(&r->model, model, e)) return false;
    r->recipe = (Recipe){.tokenizer = r->tokenizer, .template = r->template, .template_kwargs = o->chat_template_kwargs};
    g.recipe = &r->recipe;
    g.model_path = model;
    return chat ? generate_chat(&g, o->system, o->prompt, e) : generate_sample(&g, o->prompt ? o->prompt : "", e);
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static bool export(Run *r, const char *model, const char *out, Err *e)
{
    bool to_bin = ends_with(out, ".bin");
    if (!checkpoint_load(&r->model, model, e)) return false;
    bool ok = to_bin ? checkpoint_save_bin(&r->model, out, e) : dir_make(out, e) && checkpoint_save_folder(&r->model, out, NULL, e);
    if (ok) printf("%s: %zu parameters\n", out, r->model.n_params);
    return ok;
}

static void usage(FILE *out)
{
    fprintf(out,
            "usage: ./train CONFIG.json [--key=value ...]           train; --key=value overrides any key of the config\n"
            "       ./train inspect CONFIG.json [--rows=N] [--row=I] [--json]   show rows as tokens, labels and roles\n"
            "       ./train eval CONFIG.json [--json]               losses per role\n"
            "       ./train chat MODEL [--prompt=TEXT] [--system=TEXT] ...      talk with a model\n"
            "       ./train sample MODEL [--prompt=TEXT] ...        go on with a text\n"
            "       ./train export MODEL OUT                        between llama2.c .bin and a Hugging Face folder\n"
            "MODEL is a llama2.c .bin or a Hugging Face folder. Exit status: 0 done, 1 failed, 2 wrong usage.\n\n"
            "Keys of a config, with their defaults:\n");
    options_help(out, FOR_CONFIG);
    fprintf(out, "\nOf inspect and eval:\n");
    options_help(out, FOR_INSPECT);
    fprintf(out, "\nOf chat and sample:\n");
    options_help(out, FOR_GENERATE);
}

typedef struct { const char *name; int n_arguments; unsigned uses; } Command;
static const Command commands[] = {
    {"inspect", 1, FOR_CONFIG | FOR_INSPECT}, {"eval", 1, FOR_CONFIG | FOR_EVAL}, {"chat", 1, FOR_GENERATE},
    {"sample", 1, FOR_GENERATE},              {"export", 2, 0},
};

static bool run_command(Run *r, const char *name, char **arguments, Err *e)
{
    if (!name) return train(r, e);
    if (strcmp(name, "inspect") == 0) return inspect(r, e);
    if (strcmp(name, "eval") == 0) return eval(r, e);
    if (strcmp(name, "export") == 0) return export(r, arguments[0], arguments[1], e);
    return generate(r, arguments[0], strcmp(name, "chat") == 0, e);
}

int main(int argc, char **argv)
{
    const char *name = NULL;
    int at = 1, n_arguments = 1;
    unsigned uses = FOR_CONFIG;
    for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof *commands; i++)
        if (strcmp(argv[1], commands[i].name) == 0) {
            name = commands[i].name;
            n_arguments = commands[i].n_arguments;
            uses = commands[i].uses;
            at = 2;
        }
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) return usage(stdout), 0;
    if (argc < at + n_arguments || strncmp(argv[at], "--", 2) == 0) return usage(stderr), 2;

    Run run = {0};
    Err e = {""};
    options_init(&run.options);
    bool ok = !(uses & FOR_CONFIG) || options_load(&run.options, argv[at], &e);
    for (int i = at + n_arguments; i < argc && ok; i++) ok = options_set(&run.options, argv[i], uses, &e);
    ok = ok && run_command(&run, name, argv + at, &e);
    if (!ok) fprintf(stderr, "train: %s\n", e.text);
    run_free(&run);
    return !ok ? 1 : stop_signal ? 128 + stop_signal : 0;
}
