// sft.c: masked supervised fine-tuning of a small Llama. This file is the training loop and the commands. How a row
// becomes a loss: data/rows/example makes its labels, data/rows/batch lays rows end to end and shifts the labels,
// model/transformer runs forward and backward, model/optim updates. data/run opens what a config names and writes what
// comes out; data/report shows it.
#include "data/report/page.h"
#include "data/report/report.h"
#include "data/run/generate.h"
#include "data/run/memory.h"
#include "data/run/nonfinite.h"
#include "data/run/output.h"
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
    Progress done;
    double started;
    const Schedule *schedule;
    const char *label;                                     // of a run of a comparison: evaluations go to its log only
} Training;

static bool training_init(Training *t, const Run *r, Err *e)
{
    const Options *o = &r->options;
    *t = (Training){.rows = mem_alloc(r->n_train, sizeof *t->rows), .order = mem_alloc(r->n_train, sizeof *t->order)};
    for (size_t i = 0; i < r->n_train; i++)
        if (r->data.examples[i].n_learned > 0) t->rows[t->n_rows++] = &r->data.examples[i];
    if (t->n_rows == 0)
        return fail(e, "%s: nothing to learn: the labels of all %zu rows are -100", o->dataset_name, r->n_train);
    int64_t batch = o->per_device_train_batch_size, accumulation = o->gradient_accumulation_steps;
    int64_t micro = ((int64_t)t->n_rows + batch - 1) / batch;
    t->steps_per_epoch = (micro + accumulation - 1) / accumulation;
    t->n_steps = o->max_steps >= 0 ? o->max_steps : (int64_t)ceil(o->num_train_epochs * (double)t->steps_per_epoch);
    t->warmup = o->warmup_steps ? o->warmup_steps : (int64_t)ceil(o->warmup_ratio * (double)t->n_steps);
    t->schedule = schedule_find(o->lr_scheduler_type);
    epoch_order(t->order, t->n_rows, o->shuffle, (uint64_t)o->seed, 0);
    return true;
}

static void training_free(Training *t)
{
    free(t->rows);
    free(t->order);
}

// A checkpoint's place in the data must be the one of its step.
static bool check_place(const Training *t, const Options *o, const char *checkpoint, Err *e)
{
    const Progress *p = &t->done;
    int64_t rows = o->per_device_train_batch_size * o->gradient_accumulation_steps;
    int64_t epoch = p->step / t->steps_per_epoch, next = p->step % t->steps_per_epoch * rows;
    return (p->epoch == (uint64_t)epoch && p->next == (size_t)next) ||
           fail(e, "%s/trainer_state.json: expected epoch %lld, next %lld for step %lld, found %llu, %zu", checkpoint,
                (long long)epoch, (long long)next, (long long)p->step, (unsigned long long)p->epoch, p->next);
}

// Weights that are not finite are not written. An update can be too large though loss and gradient are finite.
static bool check_update(const Run *r, const Training *t, Err *e)
{
    char step[48];
    snprintf(step, sizeof step, "the update of step %lld or before", (long long)t->done.step);
    return check_weights(&r->model, step, e) || fail_prefix(e, "nothing is saved: ");
}

// One update: micro-batches forward and backward, all divided by the same sum of weights, then clip and step.
static bool train_step(Run *r, Training *t, Err *e)
{
    const Options *o = &r->options;
    Progress *p = &t->done;
    size_t batch = (size_t)o->per_device_train_batch_size, first = p->next, n;
    size_t end = first + batch * (size_t)o->gradient_accumulation_steps;
    if (end > t->n_rows) end = t->n_rows;
    double started = now_seconds(), divisor = 0;
    for (size_t i = first; i < end; i++) divisor += example_weight(t->rows[t->order[i]]);
    TrainSums sums = {.rows = end - first};
    for (size_t i = first; i < end; i += n) {              // a micro-batch of n rows
        n = end - i < batch ? end - i : batch;
        batch_clear(&r->room.batch);
        for (size_t k = i; k < i + n; k++) {
            batch_add(&r->room.batch, t->rows[t->order[k]], BATCH_TRAIN);
            sums.tokens += t->rows[t->order[k]]->n;
        }
        model_gradient(&r->model, &r->room.work, &r->room.batch, r->room.losses, divisor, i > first);
        sums_add_batch(&sums, &r->room.batch, r->room.losses);
        p->supervised_tokens += r->room.batch.M;
    }
    p->grad_norm = grads_norm(&r->model);
    if (!isfinite(sums.nll) || !isfinite(p->grad_norm))
        return explain_step(r, &(BadStep){t->rows, t->order + first, end - first, p->step + 1, divisor,
                                          sums.nll / divisor, p->grad_norm}, e);
    p->lr = o->learning_rate * t->schedule->factor(p->step, t->warmup, t->n_steps);
    double clip = o->max_grad_norm > 0 ? fmin(1, o->max_grad_norm / (p->grad_norm + 1e-6)) : 1;
    optim_step(&r->optim, &r->model, p->lr, clip);

    p->step++;
    p->num_tokens += sums.tokens;
    p->next = end;
    if (end == t->n_rows) {
        p->next = 0;
        epoch_order(t->order, t->n_rows, o->shuffle, (uint64_t)o->seed, ++p->epoch);
    }
    sums.seconds = now_seconds() - started;
    sums_add(&p->since_log, &sums);
    sums_add(&p->total, &sums);
    return true;
}

static bool log_training(Run *r, Training *t, Err *e)
{
    cJSON *line = progress_train_line(&t->done, t->steps_per_epoch);
    t->done.since_log = (TrainSums){0};
    return run_write_log(r, line, e);
}

static bool log_evaluation(Run *r, const Training *t, Err *e)
{
    if (!r->n_eval) return true;
    EvalSums sums = run_evaluate(r);
    eval_curve_add(&r->curve, t->done.step, &sums);
    cJSON *line = progress_line(&t->done, t->steps_per_epoch);
    eval_add_json(line, &sums, false);
    if (!t->label) {
        progress_clear();
        printf("step %lld: ", (long long)t->done.step);
        for (const cJSON *v = json_get(line, "eval_loss"); v; v = v->next)
            if (cJSON_IsNumber(v)) printf(" %s %.4f", v->string, v->valuedouble);
        printf("\n");
        fflush(stdout);
    }
    return run_write_log(r, line, e);
}

static bool train_loop(Run *r, Training *t, Err *e)
{
    const Options *o = &r->options;
    Progress *p = &t->done;
    t->started = now_seconds();
    bool ok = p->step > 0 || log_evaluation(r, t, e);      // a run that goes on has evaluated its beginning
    while (ok && p->step < t->n_steps && !stop_signal) {
        ok = train_step(r, t, e);
        if (!ok) break;
        progress_show(p, t->n_steps, t->label);
        if (p->step % o->logging_steps == 0) ok = log_training(r, t, e);
        if (ok && o->eval_steps && p->step % o->eval_steps == 0) ok = log_evaluation(r, t, e);
        if (ok && o->save_steps && (p->step % o->save_steps == 0 || stop_signal))
            ok = check_update(r, t, e) && resume_write(r, p, e);
    }
    ok = ok && check_update(r, t, e);
    if (ok && p->since_log.weight > 0) ok = log_training(r, t, e);
    bool evaluated = r->curve.n && r->curve.points[r->curve.n - 1].step == p->step;
    if (ok && !evaluated) ok = log_evaluation(r, t, e);
    return ok && run_write_log(r, progress_end_line(p, t->steps_per_epoch, now_seconds() - t->started), e);
}

// A run that goes on has the curve of the whole run: its beginning is in the log, cut back to the checkpoint.
static bool recall_evaluations(Run *r, Err *e)
{
    char *path = run_log_path(r);
    bool ok = eval_curve_read(&r->curve, path, e);
    free(path);
    return ok;
}

// Model, optimizer and room for what the rows need. Where a checkpoint's model is damaged, the message names the
// checkpoint before it.
static bool open_trainee(Run *r, const Training *t, const Config *c, const char *checkpoint, Err *e)
{
    const Options *o = &r->options;
    const char *whose = checkpoint ? checkpoint : o->model_name_or_path ? o->model_name_or_path : "model_init";
    BatchSize max = run_batch_size(r, t->rows, t->n_rows);
    if (!memory_check(r, c, max, true, e)) return false;
    if (!run_open_model(r, &r->model, c, checkpoint, e) || !check_weights(&r->model, whose, e)) {
        if (checkpoint) resume_offer_older(o, checkpoint, e);
        return false;
    }
    r->optim = (Optim){.id = optim_find(o->optim), .beta1 = (float)o->adam_beta1, .beta2 = (float)o->adam_beta2,
                       .epsilon = (float)o->adam_epsilon, .weight_decay = (float)o->weight_decay};
    WorkKind kind = o->gradient_checkpointing ? WORK_CHECKPOINTING : WORK_GRADIENT;
    return room_init(&r->room, c, max, kind, e) && model_init_grads(&r->model, e) &&
           optim_init(&r->optim, r->model.n_params, e);
}

// To the step where the run begins: 0, or where its checkpoint left it.
static bool open_training(Run *r, Training *t, const Config *c, Err *e)
{
    const Options *o = &r->options;
    char *checkpoint = o->resume_from_checkpoint ? resume_find(o, e) : NULL;
    cJSON *state = checkpoint ? resume_open(r, checkpoint, e) : NULL;
    bool ok = (state || !o->resume_from_checkpoint) && training_init(t, r, e) && open_trainee(r, t, c, checkpoint, e);
    if (ok && checkpoint)
        ok = resume_read(r, &t->done, state, checkpoint, e) && check_place(t, o, checkpoint, e) &&
             recall_evaluations(r, e);
    else ok = ok && resume_remove_after(o, -1, e);
    ok = ok && run_open_output(r, e);
    if (ok && checkpoint) {
        epoch_order(t->order, t->n_rows, o->shuffle, (uint64_t)o->seed, t->done.epoch);
        printf("going on from %s\n", checkpoint);
    }
    cJSON_Delete(state);
    free(checkpoint);
    return ok;
}

static void print_plan(const Run *r, const Training *t, const Config *c)
{
    const Options *o = &r->options;
    size_t tokens = batch_bound(t->rows, t->n_rows, (size_t)o->per_device_train_batch_size, BATCH_TRAIN).tokens;
    MemoryPlan plan = memory_plan(r, c, r->room.work.max, true);
    printf("%zu parameters, %lld steps of up to %zu tokens, %d threads\n", r->model.n_params, (long long)t->n_steps,
           tokens * (size_t)o->gradient_accumulation_steps, ops_threads());
    memory_print(stdout, &plan);
}

// From opened inputs to a trained model; `label`: as in Training. The showcase (NULL: none) gets the model as it is
// before the first step, unless it has that from an earlier run, and as `model` at the end.
static bool train_run(Run *r, const Config *c, const char *label, Showcase *show, size_t model, Err *e)
{
    Training t = {0};
    bool ok = open_training(r, &t, c, e);
    t.label = label;
    if (ok) {
        if (!label) print_plan(r, &t, c);
        fflush(stdout);
        signal(SIGINT, on_signal);
        signal(SIGTERM, on_signal);
        ok = (!show || show->seen[0] || showcase_add(show, 0, &r->model, &r->room, e)) && train_loop(r, &t, e) &&
             (!show || stop_signal || showcase_add(show, model, &r->model, &r->room, e));
    }
    if (ok && !label) {
        ok = run_save_model(r, r->options.output_dir, e);
        if (ok) printf("%s at step %lld of %lld; the model is in %s\n", stop_signal ? "interrupted" : "done",
                       (long long)t.done.step, (long long)t.n_steps, r->options.output_dir);
    }
    training_free(&t);
    return ok;
}

static void report_start(const Run *r)
{
    Summary s = dataset_summary(r->data.examples, r->n_train, r->tokenizer);
    report_summary(stdout, r->options.dataset_name, &s, &r->recipe);
    if (!r->n_eval) return;
    s = dataset_summary(r->eval, r->n_eval, r->tokenizer);
    report_summary(stdout, "held out", &s, &r->recipe);
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
    if (r->options.resume_from_checkpoint && r->n_eval) showcase_add_first(&show, r, &c);
    bool ok = train_run(r, &c, NULL, show.seen ? &show : NULL, 1, e);
    if (ok && r->curve.n && !stop_signal) {
        ok = comparison_init(&alone, "0", 1, r->options.seed, e);
        if (ok) comparison_add(&alone, 0, 0, &r->curve);
        ok = ok && page_report(r, &c, "./train", &alone, &show, e);
        comparison_free(&alone);
    }
    showcase_free(&show);
    return ok;
}

// ---- compare ------------------------------------------------------------------------------------------------------

static void print_run(const Comparison *c, size_t arm, const Run *r)
{
    char name[32];
    progress_clear();
    printf("%-14s seed %lld:", arm_name(c->weights[arm], name), (long long)r->options.seed);
    for (Metric m = 0; m < N_METRICS; m++) {
        double v = r->curve.points[r->curve.n - 1].value[m];
        if (!isnan(v)) printf("  %s %.4f", metric_table[m].key, v);
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
    char name[32], label[80];
    options_copy(&r.options, base);
    Options *o = &r.options;
    o->prompt_loss_weight = c->weights[arm];
    o->seed = c->first_seed + (int64_t)seed;
    buf_addf(&dir, "%s/weight-%g/seed-%lld", base->output_dir, c->weights[arm], (long long)o->seed);
    free(o->output_dir);
    o->output_dir = dir.data;
    snprintf(label, sizeof label, "run %zu/%zu: %s", seed * c->n_arms + arm + 1, c->n_arms * c->n_seeds,
             arm_name(c->weights[arm], name));
    bool ok = run_claim_output(&r, e) && run_open_inputs(&r, true, &config, e) &&
              train_run(&r, &config, label, seed == 0 ? show : NULL, 1 + arm, e);
    if (ok && !stop_signal) {
        if (seed == 0) ok = run_save_model(&r, o->output_dir, e);
        comparison_add(c, arm, seed, &r.curve);
        print_run(c, arm, &r);
    }
    run_free(&r);
    return ok;
}

static bool compare_report(const Run *r, const Config *config, const Comparison *c, const Showcase *show, Err *e)
{
    Buf verdict = {0};
    if (stop_signal) {
        progress_clear();
        printf("interrupted: %zu of %zu seeds were run in full\n", comparison_whole_seeds(c), c->n_seeds);
        if (!comparison_whole_seeds(c)) return true;
    }
    for (Metric m = 0; m < N_METRICS; m++) comparison_plot(stdout, c, m);
    comparison_table(stdout, c);
    comparison_verdict(&verdict, c);
    printf("\n%s\n", verdict.len ? verdict.data : "");
    char *csv = path_join(r->options.output_dir, "compare.csv");
    bool ok = comparison_write_csv(c, csv, e) && page_report(r, config, "./train compare", c, show, e);
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
    if (!run_claim_output(r, e) || !comparison_init(&c, o->prompt_loss_weights, (size_t)o->seeds, o->seed, e))
        return false;
    bool ok = run_open_inputs(r, true, &config, e);
    if (ok) report_start(r);
    if (ok && !r->n_eval) ok = fail(e, "compare needs held-out rows: give eval_dataset_name or eval_split");
    Summary s = ok ? dataset_summary(r->data.examples, r->n_train, r->tokenizer) : (Summary){0};
    if (ok && s.left_out == 0)
        ok = fail(e, "compare: the mask (%s) leaves no token out%s, so all arms would be the same run", s.mask,
                  s.supervised == s.tokens ? ""
                                           : " that prompt_loss_weight could bring back (what a row's own labels, or "
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

static bool inspect(Run *r, Err *e)
{
    const Options *o = &r->options;
    Config c;
    if (!run_open_inputs(r, false, &c, e)) return false;
    size_t n = r->data.n, first = 0, end = o->json ? n : 1;
    if (o->rows > 0) end = (size_t)o->rows < n ? (size_t)o->rows : n;
    if (options_given(o, "row")) {
        if ((size_t)o->row >= n) return fail(e, "row: expected 0 to %zu, found %lld", n - 1, (long long)o->row);
        first = (size_t)o->row;
        end = first + 1;
    }
    if (o->json) return report_json(&r->data, &r->recipe, first, end, e);
    Summary s = dataset_summary(r->data.examples, r->data.n, r->tokenizer);
    report_summary(stdout, o->dataset_name, &s, &r->recipe);
    printf("\n");
    for (size_t i = first; i < end; i++)
        report_row(stdout, &r->data.examples[i], i, r->tokenizer, isatty(STDOUT_FILENO));
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
    BatchSize max = run_batch_size(r, NULL, 0);
    if (!memory_check(r, &c, max, false, e) || !run_open_model(r, &r->model, &c, NULL, e) ||
        !room_init(&r->room, &c, max, WORK_LOSS, e)) return false;
    Summary summary = dataset_summary(r->eval, r->n_eval, r->tokenizer);
    if (!summary.first) return fail(e, "nothing to evaluate: the labels of all %zu rows are -100", r->n_eval);
    EvalSums sums = run_evaluate(r);
    if (o->json) eval_print_json(&sums);
    else {
        printf("%zu rows of %s\n", r->n_eval, o->eval_dataset_name ? o->eval_dataset_name : o->dataset_name);
        eval_print(stdout, &sums);
    }
    return true;
}

// ---- commands -----------------------------------------------------------------------------------------------------

// A command takes a config, or one or two paths, as given in `paths`; then --key=value of the keys in `uses`.
typedef struct {
    const char *name, *arguments, *help;
    int n_paths;
    unsigned uses;
    bool (*run)(Run *r, Err *e);                           // one that takes a config
    bool (*run_on)(Run *r, char **paths, Err *e);          // one that takes a model
} Command;

static const Command commands[] = {                        // the first has no name of its own
    {"", "CONFIG.json [--key=value ...]", "train; --key=value overrides any key of the config", 1, FOR_CONFIG, train,
     NULL},
    {"inspect", "CONFIG.json [--rows=N] [--row=I] [--json]", "show rows as tokens, labels and roles", 1,
     FOR_CONFIG | FOR_INSPECT, inspect, NULL},
    {"eval", "CONFIG.json [--json]", "the losses by role on the held-out rows", 1, FOR_CONFIG | FOR_EVAL, eval, NULL},
    {"compare", "CONFIG.json [--seeds=N] [--prompt_loss_weights=0,1]", "train masked and unmasked, side by side", 1,
     FOR_CONFIG | FOR_COMPARE, compare, NULL},
    {"chat", "MODEL [--prompt=TEXT] [--system=TEXT] ...", "talk with a model", 1, FOR_GENERATE, NULL, generate_chat},
    {"sample", "MODEL [--prompt=TEXT] ...", "continue a text", 1, FOR_GENERATE, NULL, generate_sample},
    {"export", "MODEL OUT", "convert a model: OUT.bin is llama2.c's format, another OUT a Hugging Face folder", 2,
     FOR_EXPORT, NULL, run_export},
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static void usage(FILE *out)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(out, "%s./train %s%s%s\n           %s\n", i ? "       " : "usage: ", commands[i].name, i ? " " : "",
                commands[i].arguments, commands[i].help);
    fprintf(out, "MODEL is a llama2.c .bin or a Hugging Face folder. Exit status: 0 done, 1 failed, 2 wrong usage, "
                 "128 + n ended by signal n.\n\nKeys of a config, with their defaults:\n");
    options_help(out, FOR_CONFIG);
    fprintf(out, "\nOf inspect and eval:\n");
    options_help(out, FOR_INSPECT);
    fprintf(out, "\nOf compare:\n");
    options_help(out, FOR_COMPARE);
    fprintf(out, "\nOf chat and sample:\n");
    options_help(out, FOR_GENERATE);
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
    const Command *command = &commands[0];
    int at = 1;                                            // where its paths begin
    for (size_t i = 1; argc > 1 && i < N_COMMANDS; i++)
        if (strcmp(argv[1], commands[i].name) == 0) command = &commands[i], at = 2;
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) return usage(stdout), 0;
    if (argc < at + command->n_paths || strncmp(argv[at], "--", 2) == 0) return usage(stderr), 2;

    Run run = {0};
    Err e = {""};
    options_init(&run.options);
    bool ok = !command->run || options_load(&run.options, argv[at], &e);
    for (int i = at + command->n_paths; i < argc && ok; i++) ok = options_set(&run.options, argv[i], command->uses, &e);
    if (ok) ok = command->run ? command->run(&run, &e) : command->run_on(&run, argv + at, &e);
    if ((fflush(stdout) != 0 || ferror(stdout)) && ok)
        ok = fail(&e, "standard output: cannot write: %s", strerror(errno));
    if (!ok) fprintf(stderr, "train: %s\n", e.text);
    run_free(&run);
    return !ok ? 1 : stop_signal ? 128 + stop_signal : 0;
}
