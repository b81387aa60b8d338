// sft.c: masked supervised fine-tuning of a small Llama. This file is the training loop and the commands. The way of
// a row: data/example makes its labels, data/batch lays rows end to end, model/transformer runs forward and backward,
// model/optim updates; data/run opens what a config names and writes what comes out.
#include "data/report/compare.h"
#include "data/run/generate.h"
#include "data/run/memory.h"
#include "data/run/nonfinite.h"
#include "data/report/page.h"
#include "data/run/resume.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---- training -----------------------------------------------------------------------------------------------------

static volatile sig_atomic_t stop_signal;

// The first signal ends training after the step at hand; a second one ends the program.
static void on_signal(int number)
{
    if (stop_signal) _exit(128 + number);
    stop_signal = number;
}

typedef struct {
    const Example **rows;                                  // those with something to learn
    size_t *order;                                         // of this epoch
    size_t n_rows;
    int64_t n_steps, steps_per_epoch, warmup;
    Progress at;
    double started;
    Schedule schedule;
    const char *part;                                      // of a comparison: its name; evaluations go to the log only
} Loop;

static bool loop_init(Loop *loop, const Run *r, Err *e)
{
    const Options *o = &r->options;
    *loop = (Loop){0};
    loop->rows = mem_alloc(r->n_train, sizeof *loop->rows);
    loop->order = mem_alloc(r->n_train, sizeof *loop->order);
    for (size_t i = 0; i < r->n_train; i++)
        if (r->data.examples[i].n_learned > 0) loop->rows[loop->n_rows++] = &r->data.examples[i];
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

// A checkpoint's place in the data must be the one of its step.
static bool loop_check_place(const Loop *loop, const Options *o, const char *checkpoint, Err *e)
{
    int64_t rows = o->per_device_train_batch_size * o->gradient_accumulation_steps;
    int64_t epoch = loop->at.step / loop->steps_per_epoch, next = loop->at.step % loop->steps_per_epoch * rows;
    return (loop->at.epoch == (uint64_t)epoch && loop->at.next == (size_t)next) ||
           fail(e, "%s/trainer_state.json: expected epoch %lld, next %lld for step %lld, found %llu, %zu", checkpoint, (long long)epoch,
                (long long)next, (long long)loop->at.step, (unsigned long long)loop->at.epoch, loop->at.next);
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
    for (size_t i = first; i < end; i++) sum += example_weight(loop->rows[loop->order[i]]);
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

// Weights that are not finite are not written. The update of a step may be too large though loss and gradient are finite.
static bool check_update(const Run *r, const Loop *loop, Err *e)
{
    char step[48];
    snprintf(step, sizeof step, "the update of step %lld or before", (long long)loop->at.step);
    return check_weights(&r->model, step, e) || fail_prefix(e, "nothing is saved: ");
}

// One update: micro-batches forward and backward, all divided by the same sum, then clip and step.
static bool train_step(Run *r, Loop *loop, Err *e)
{
    const Options *o = &r->options;
    size_t batch = (size_t)o->per_device_train_batch_size, first = loop->at.next;
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
        loop->at.supervised_tokens += r->batch.M;
    }
    loop->at.grad_norm = grads_norm(&r->model);
    if (!isfinite(sums.nll) || !isfinite(loop->at.grad_norm))
        return explain_step(r, &(BadStep){loop->rows, loop->order + first, end - first, loop->at.step + 1, divisor, sums.nll / divisor,
                                          loop->at.grad_norm}, e);
    loop->at.lr = o->learning_rate * schedule_factor(loop->schedule, loop->at.step, loop->warmup, loop->n_steps);
    double clip = o->max_grad_norm > 0 ? fmin(1, o->max_grad_norm / (loop->at.grad_norm + 1e-6)) : 1;
    optim_step(&r->optim, &r->model, loop->at.lr, clip);

    loop->at.step++;
    loop->at.num_tokens += sums.tokens;
    loop->at.next = end;
    if (end == loop->n_rows) {
        loop->at.next = 0;
        epoch_order(loop->order, loop->n_rows, o->shuffle, (uint64_t)o->seed, ++loop->at.epoch);
    }
    sums.seconds = now_seconds() - started;
    add_sums(&loop->at.since_log, &sums);
    add_sums(&loop->at.total, &sums);
    return true;
}

static cJSON *log_line(const Loop *loop)
{
    cJSON *line = cJSON_CreateObject();
    cJSON_AddNumberToObject(line, "step", (double)loop->at.step);
    cJSON_AddNumberToObject(line, "epoch", (double)loop->at.step / (double)loop->steps_per_epoch);
    return line;
}

static bool log_training(Run *r, Loop *loop, Err *e)
{
    const TrainSums *s = &loop->at.since_log;
    cJSON *line = log_line(loop);
    cJSON_AddNumberToObject(line, "loss", s->nll / s->weight);
    cJSON_AddNumberToObject(line, "grad_norm", loop->at.grad_norm);
    cJSON_AddNumberToObject(line, "learning_rate", loop->at.lr);
    cJSON_AddNumberToObject(line, "num_tokens", (double)loop->at.num_tokens);
    cJSON_AddNumberToObject(line, "mean_token_accuracy", s->correct / s->weight);
    cJSON_AddNumberToObject(line, "entropy", s->entropy / s->weight);
    cJSON_AddNumberToObject(line, "supervised_tokens", (double)loop->at.supervised_tokens);
    cJSON_AddNumberToObject(line, "tokens_per_second", (double)s->tokens / s->seconds);
    loop->at.since_log = (TrainSums){0};
    return run_write_log(r, line, e);
}

static bool log_evaluation(Run *r, const Loop *loop, Err *e)
{
    if (!r->n_eval) return true;
    EvalSums sums = run_evaluate(r, r->eval, r->n_eval);
    ARRAY_ROOM(r->evals, r->n_evals, r->cap_evals);
    r->evals[r->n_evals++] = eval_point(loop->at.step, &sums);
    cJSON *line = log_line(loop);
    eval_add_json(line, &sums, false);
    if (loop->part) return run_write_log(r, line, e);
    if (isatty(STDERR_FILENO)) fprintf(stderr, "\r\033[K");
    printf("step %lld: ", (long long)loop->at.step);
    static const char *const keys[] = {"eval_loss", "eval_assistant_loss", "eval_prompt_loss", "eval_mean_token_accuracy", "eval_exact_match"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const cJSON *v = json_get(line, keys[i]);
        if (cJSON_IsNumber(v)) printf(" %s %.4f", keys[i], v->valuedouble);
    }
    printf("\n");
    fflush(stdout);
    return run_write_log(r, line, e);
}

static bool log_end(Run *r, const Loop *loop, Err *e)
{
    const TrainSums *s = &loop->at.total;
    double runtime = now_seconds() - loop->started;
    cJSON *line = log_line(loop);
    if (s->weight > 0) cJSON_AddNumberToObject(line, "train_loss", s->nll / s->weight);
    else cJSON_AddNullToObject(line, "train_loss");
    cJSON_AddNumberToObject(line, "train_runtime", runtime);
    cJSON_AddNumberToObject(line, "train_samples_per_second", (double)s->rows / runtime);
    cJSON_AddNumberToObject(line, "train_tokens_per_second", (double)s->tokens / runtime);
    return run_write_log(r, line, e);
}

// One line on a terminal, overwritten each step; nothing elsewhere.
static void show_progress(const Loop *loop)
{
    if (!isatty(STDERR_FILENO)) return;
    const TrainSums *s = &loop->at.total;
    double left = s->seconds / (double)loop->at.step * (double)(loop->n_steps - loop->at.step);
    fprintf(stderr, "\r\033[K%s%sstep %lld/%lld  loss %.4f  lr %.2e  %.0f tokens/s  %d:%02d left", loop->part ? loop->part : "",
            loop->part ? "  " : "", (long long)loop->at.step, (long long)loop->n_steps,
            loop->at.since_log.weight > 0 ? loop->at.since_log.nll / loop->at.since_log.weight : s->nll / s->weight, loop->at.lr,
            (double)s->tokens / s->seconds, (int)left / 60, (int)left % 60);
    if (loop->at.step == loop->n_steps) fprintf(stderr, loop->part ? "\r\033[K" : "\n");
}

static bool train_loop(Run *r, Loop *loop, Err *e)
{
    const Options *o = &r->options;
    int64_t first = loop->at.step;
    loop->started = now_seconds();
    bool ok = first > 0 || log_evaluation(r, loop, e);
    while (ok && loop->at.step < loop->n_steps && !stop_signal) {
        ok = train_step(r, loop, e);
        if (!ok) break;
        show_progress(loop);
        if (loop->at.step % o->logging_steps == 0) ok = log_training(r, loop, e);
        if (ok && o->eval_steps && loop->at.step % o->eval_steps == 0) ok = log_evaluation(r, loop, e);
        if (ok && o->save_steps && (loop->at.step % o->save_steps == 0 || stop_signal))
            ok = check_update(r, loop, e) && checkpoint_write(r, &loop->at, e);
    }
    ok = ok && check_update(r, loop, e);
    if (ok && loop->at.since_log.weight > 0) ok = log_training(r, loop, e);
    bool evaluated = r->n_evals && r->evals[r->n_evals - 1].step == loop->at.step;
    if (ok && !evaluated) ok = log_evaluation(r, loop, e);
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

// A run that goes on has the curve of the whole run: its beginning is in the log, cut back to the checkpoint.
static bool recall_evaluations(Run *r, Err *e)
{
    char *path = path_join(r->options.output_dir, "log.jsonl");
    bool ok = eval_read_log(path, &r->evals, &r->n_evals, &r->cap_evals, e);
    free(path);
    return ok;
}

// The showcase's first model, of a run that goes on: the one that the run once began with. If that is gone, so are the
// showcase's parts of the report.
static void show_beginning(const Run *r, const Config *c, Showcase *show)
{
    Run beginning = *r;                                    // its own: model, batch, losses, roles
    Err e;
    bool ok = run_open_model(&beginning, c, NULL, &e) && run_make_room(&beginning, NULL, 0, false, &e) && showcase_add(show, 0, &beginning, &e);
    if (!ok) {
        fprintf(stderr, "train: the report will show no answers, since the first model cannot be read again: %s\n", e.text);
        showcase_free(show);
    }
    model_free(&beginning.model);
    batch_free(&beginning.batch);
    free(beginning.losses);
    free(beginning.roles);
}

// A model that can be trained. Where a checkpoint's is damaged, the message names the checkpoint before it.
static bool open_model(Run *r, const Config *c, const char *checkpoint, Err *e)
{
    const char *given = r->options.model_name_or_path;
    bool ok = run_open_model(r, c, checkpoint, e) && check_weights(&r->model, checkpoint ? checkpoint : given ? given : "model_init", e);
    if (!ok && checkpoint) checkpoint_offer_older(&r->options, checkpoint, e);
    return ok;
}

// From opened inputs to a trained model; `part`: as in Loop. The showcase (NULL: none) gets the model as it is before the
// first step, unless it has that from an earlier run, and as it is at the end.
static bool train_run(Run *r, const Config *c, const char *part, Showcase *show, size_t model, Err *e)
{
    const Options *o = &r->options;
    Loop loop = {0};
    char *checkpoint = o->resume_from_checkpoint ? checkpoint_find(o, e) : NULL;
    cJSON *state = checkpoint ? checkpoint_open(r, checkpoint, e) : NULL;
    bool ok = (state || !o->resume_from_checkpoint) && loop_init(&loop, r, e) &&
              memory_check(r, c, run_batch_size(r, loop.rows, loop.n_rows), true, e) && open_model(r, c, checkpoint, e) &&
              run_make_room(r, loop.rows, loop.n_rows, true, e);
    if (ok) {
        r->optim = (Optim){.kind = strcmp(o->optim, "sgd") == 0 ? OPTIM_SGD : OPTIM_ADAMW, .beta1 = (float)o->adam_beta1,
                           .beta2 = (float)o->adam_beta2, .epsilon = (float)o->adam_epsilon, .weight_decay = (float)o->weight_decay};
        ok = optim_init(&r->optim, r->model.n_params, e);
    }
    if (ok && checkpoint) ok = checkpoint_read(r, &loop.at, state, checkpoint, e) && loop_check_place(&loop, o, checkpoint, e) &&
                               recall_evaluations(r, e);
    else ok = ok && checkpoint_remove_after(o, -1, e);
    ok = ok && run_open_output(r, e);
    if (ok && checkpoint) {
        epoch_order(loop.order, loop.n_rows, o->shuffle, (uint64_t)o->seed, loop.at.epoch);
        printf("going on from %s\n", checkpoint);
    }
    cJSON_Delete(state);
    if (ok) {
        if (!part) printf("%zu parameters, %lld steps of up to %zu tokens, %d threads\n", r->model.n_params, (long long)loop.n_steps,
                          batch_bound(loop.rows, loop.n_rows, (size_t)o->per_device_train_batch_size, BATCH_TRAIN).tokens *
                          (size_t)o->gradient_accumulation_steps, ops_threads());
        MemoryPlan plan = memory_plan(r, c, r->max, true);
        if (!part) memory_print(stdout, &plan);
        fflush(stdout);
        signal(SIGINT, on_signal);
        signal(SIGTERM, on_signal);
        loop.part = part;
        ok = (!show || show->seen[0] || showcase_add(show, 0, r, e)) && train_loop(r, &loop, e) &&
             (!show || stop_signal || showcase_add(show, model, r, e));
    }
    if (ok && !part) {
        ok = run_save_model(r, o->output_dir, e);
        if (ok) printf("%s at step %lld of %lld; the model is in %s\n", stop_signal ? "interrupted" : "done", (long long)loop.at.step,
                       (long long)loop.n_steps, o->output_dir);
    }
    loop_free(&loop);
    free(checkpoint);
    return ok;
}

static bool write_page(const Run *r, const Config *c, const char *command, const Comparison *comparison, const Showcase *show, Err *e)
{
    Page page = {.command = command, .options = &r->options, .comparison = comparison, .showcase = show, .n_params = params_count(c),
                 .train = dataset_summary(r->data.examples, r->n_train, r->tokenizer), .eval = dataset_summary(r->eval, r->n_eval, r->tokenizer)};
    char *path = path_join(r->options.output_dir, "report.html");
    bool ok = page_write(path, &page, e);
    if (ok) printf("the report is %s\n", path);
    free(path);
    return ok;
}

// A run of its own, reported as a comparison of one.
static bool train(Run *r, Err *e)
{
    Config c;
    Showcase show = {0};
    Comparison alone;
    if (!run_claim_output(r, e) || !run_open_inputs(r, true, &c, e)) return false;
    report_start(r);
    showcase_init(&show, r, 2);
    if (r->options.resume_from_checkpoint && r->n_eval) show_beginning(r, &c, &show);
    bool ok = train_run(r, &c, NULL, show.seen ? &show : NULL, 1, e);
    if (ok && r->n_evals && !stop_signal) {
        ok = comparison_init(&alone, "0", 1, r->options.seed, e);
        if (ok) comparison_add(&alone, 0, 0, r->evals, r->n_evals);
        ok = ok && write_page(r, &c, "./train", &alone, &show, e);
        comparison_free(&alone);
    }
    showcase_free(&show);
    return ok;
}

// ---- compare ------------------------------------------------------------------------------------------------------

static void print_run(const Comparison *c, size_t arm, const Run *r)
{
    char name[32];
    if (isatty(STDERR_FILENO)) fprintf(stderr, "\r\033[K");
    printf("%-14s seed %lld:", arm_name(c->weights[arm], name), (long long)r->options.seed);
    for (Metric m = 0; m < N_METRICS; m++) {
        double v = r->evals[r->n_evals - 1].value[m];
        if (!isnan(v)) printf("  %s %.4f", metric_names[m], v);
    }
    printf("\n");
    fflush(stdout);
}

// The run of one arm with one seed: the base's options but for the weight, the seed and the folder. The first seed's
// models are kept, and shown.
static bool compare_run(const Options *base, Comparison *c, size_t arm, size_t seed, Showcase *show, Err *e)
{
    Run r = {0};
    Config config;
    Buf dir = {0};
    char name[32], part[80];
    options_copy(&r.options, base);
    Options *o = &r.options;
    o->prompt_loss_weight = c->weights[arm];
    o->seed = c->first_seed + (int64_t)seed;
    buf_addf(&dir, "%s/weight-%g/seed-%lld", base->output_dir, c->weights[arm], (long long)o->seed);
    free(o->output_dir);
    o->output_dir = dir.data;
    snprintf(part, sizeof part, "run %zu/%zu: %s", seed * c->n_arms + arm + 1, c->n_arms * c->n_seeds, arm_name(c->weights[arm], name));
    bool ok = run_claim_output(&r, e) && run_open_inputs(&r, true, &config, e) &&
              train_run(&r, &config, part, seed == 0 ? show : NULL, 1 + arm, e);
    if (ok && !stop_signal) {
        if (seed == 0) ok = run_save_model(&r, o->output_dir, e);
        comparison_add(c, arm, seed, r.evals, r.n_evals);
        print_run(c, arm, &r);
    }
    run_free(&r);
    return ok;
}

static bool compare_report(const Run *r, const Config *config, const Comparison *c, const Showcase *show, Err *e)
{
    Buf verdict = {0};
    if (stop_signal) {
        if (isatty(STDERR_FILENO)) fprintf(stderr, "\r\033[K");
        printf("interrupted: %zu of %zu seeds were run in full\n", comparison_whole_seeds(c), c->n_seeds);
        if (!comparison_whole_seeds(c)) return true;
    }
    for (Metric m = 0; m < N_METRICS; m++) comparison_plot(stdout, c, m);
    comparison_table(stdout, c);
    comparison_verdict(&verdict, c);
    printf("\n%s\n", verdict.len ? verdict.data : "");
    char *csv = path_join(r->options.output_dir, "compare.csv");
    bool ok = comparison_write_csv(c, csv, e) && write_page(r, config, "./train compare", c, show, e);
    if (ok) printf("%s and the logs of each run are in %s\n", csv, r->options.output_dir);
    buf_free(&verdict);
    free(csv);
    return ok;
}

static bool compare(Run *r, Err *e)
{
    const Options *o = &r->options;
    Comparison c;
    Config config;
    Showcase show = {0};
    if (!run_claim_output(r, e) || !comparison_init(&c, o->prompt_loss_weights, (size_t)o->seeds, o->seed, e)) return false;
    bool ok = run_open_inputs(r, true, &config, e);
    if (ok) report_start(r);
    if (ok && !r->n_eval) ok = fail(e, "compare needs held-out rows: give eval_dataset_name or eval_split");
    Summary s = ok ? dataset_summary(r->data.examples, r->n_train, r->tokenizer) : (Summary){0};
    if (ok && s.left_out == 0)
        ok = fail(e, "compare: the mask (%s) leaves no token out%s, so all arms would be the same run", s.mask,
                  s.supervised == s.tokens ? "" : " that prompt_loss_weight could bring back (what a row's own labels, or "
                  "a message's weight 0, leave out is never learned)");
    if (ok) showcase_init(&show, r, 1 + c.n_arms);
    for (size_t seed = 0; ok && seed < c.n_seeds; seed++)
        for (size_t arm = 0; ok && arm < c.n_arms && !stop_signal; arm++) ok = compare_run(o, &c, arm, seed, &show, e);
    ok = ok && compare_report(r, &config, &c, &show, e);
    showcase_free(&show);
    comparison_free(&c);
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
    if (!run_open_inputs(r, false, &c, e)) return false;
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
    if (!run_open_inputs(r, true, &c, e)) return false;
    if (!r->n_eval) {                                      // then the rows that training would take
        r->eval = r->data.examples;
        r->n_eval = r->data.n;
    }
    if (!memory_check(r, &c, run_batch_size(r, NULL, 0), false, e) || !run_open_model(r, &c, NULL, e) ||
        !run_make_room(r, NULL, 0, false, e)) return false;
    Summary summary = dataset_summary(r->eval, r->n_eval, r->tokenizer);
    if (!summary.first) return fail(e, "nothing to evaluate: the labels of all %zu rows are -100", r->n_eval);
    EvalSums sums = run_evaluate(r, r->eval, r->n_eval);
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
    if (!checkpoint_config(&c, model, e) || !run_open_tokenizer(r, model, e) || !run_open_template(r, e) ||
        !run_check_vocabulary(r, &c, e) || !checkpoint_load(&r->model, model, e)) return false;
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

// The tokenizer of an exported model: copied, or said in the other format.
static bool export_tokenizer(const Run *r, const char *out, bool to_bin, Err *e)
{
    if (!to_bin) return tokenizer_is_bin(r->tokenizer) ? tokenizer_export_folder(r->tokenizer, out, e) : run_save_tokenizer(r, out, e);
    char *dir = path_dir(out), *path = path_join(dir, "tokenizer.bin");
    bool ok = true;
    if (file_exists(path)) fprintf(stderr, "train: %s is there already and was left as it is\n", path);
    else ok = tokenizer_is_bin(r->tokenizer) ? file_copy(r->tokenizer_path, path, e) : tokenizer_export_bin(r->tokenizer, path, e);
    free(dir);
    free(path);
    return ok;
}

static bool export(Run *r, const char *model, const char *out, Err *e)
{
    bool to_bin = ends_with(out, ".bin");
    if (to_bin ? file_exists(out) : run_holds_model(out)) return fail(e, "%s: there is a model already", out);
    r->options.model_name_or_path = mem_strdup(model);
    if (!checkpoint_load(&r->model, model, e) || !run_open_tokenizer(r, model, e) || !run_check_vocabulary(r, &r->model.config, e)) return false;
    cJSON *keys = to_bin ? NULL : run_config_keys(r, e);
    bool ok;
    if (to_bin) ok = export_tokenizer(r, out, true, e) && checkpoint_save_bin(&r->model, out, e);
    else {
        char *stage;
        ok = dir_stage(out, &stage, e) && keys && checkpoint_save_folder(&r->model, stage, keys, e) && export_tokenizer(r, stage, false, e);
        ok = dir_publish(out, stage, ok, e);
    }
    cJSON_Delete(keys);
    if (ok) printf("%s: %zu parameters\n", out, r->model.n_params);
    return ok;
}

static void usage(FILE *out)
{
    fprintf(out,
            "usage: ./train CONFIG.json [--key=value ...]           train; --key=value overrides any key of the config\n"
            "       ./train inspect CONFIG.json [--rows=N] [--row=I] [--json]   show rows as tokens, labels and roles\n"
            "       ./train eval CONFIG.json [--json]               losses per role\n"
            "       ./train compare CONFIG.json [--seeds=N] [--prompt_loss_weights=0,1]   masked against unmasked\n"
            "       ./train chat MODEL [--prompt=TEXT] [--system=TEXT] ...      talk with a model\n"
            "       ./train sample MODEL [--prompt=TEXT] ...        go on with a text\n"
            "       ./train export MODEL OUT                        OUT.bin, or a folder: between llama2.c .bin and a Hugging Face folder\n"
            "MODEL is a llama2.c .bin or a Hugging Face folder. Exit status: 0 done, 1 failed, 2 wrong usage.\n\n"
            "Keys of a config, with their defaults:\n");
    options_help(out, FOR_CONFIG);
    fprintf(out, "\nOf inspect and eval:\n");
    options_help(out, FOR_INSPECT);
    fprintf(out, "\nOf compare:\n");
    options_help(out, FOR_COMPARE);
    fprintf(out, "\nOf chat and sample:\n");
    options_help(out, FOR_GENERATE);
}

typedef struct { const char *name; int n_arguments; unsigned uses; } Command;
static const Command commands[] = {
    {"inspect", 1, FOR_CONFIG | FOR_INSPECT}, {"eval", 1, FOR_CONFIG | FOR_EVAL}, {"compare", 1, FOR_CONFIG | FOR_COMPARE},
    {"chat", 1, FOR_GENERATE},
    {"sample", 1, FOR_GENERATE}, {"export", 2, FOR_EXPORT},
};

static bool run_command(Run *r, const char *name, char **arguments, Err *e)
{
    if (!name) return train(r, e);
    if (strcmp(name, "compare") == 0) return compare(r, e);
    if (strcmp(name, "inspect") == 0) return inspect(r, e);
    if (strcmp(name, "eval") == 0) return eval(r, e);
    if (strcmp(name, "export") == 0) return export(r, arguments[0], arguments[1], e);
    return generate(r, arguments[0], strcmp(name, "chat") == 0, e);
}

// Threads that wait for each other should spin for microseconds only: OpenMP's default of milliseconds makes a run ten
// times slower where another program wants a core too. The libraries read this when they are loaded, so it takes a new
// start of the program; where there is no /proc it stays as it is.
static void spin_briefly(char **argv)
{
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT") || getenv("KMP_BLOCKTIME")) return;
    setenv("GOMP_SPINCOUNT", "1000", 1);
    setenv("KMP_BLOCKTIME", "0", 1);
    execv("/proc/self/exe", argv);
}

int main(int argc, char **argv)
{
    spin_briefly(argv);
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
    if ((fflush(stdout) != 0 || ferror(stdout)) && ok) ok = fail(&e, "standard output: cannot write: %s", strerror(errno));
    if (!ok) fprintf(stderr, "train: %s\n", e.text);
    run_free(&run);
    return !ok ? 1 : stop_signal ? 128 + stop_signal : 0;
}
