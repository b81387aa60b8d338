// sft.c: masked supervised fine-tuning of a small Llama. This file is the training loop and the commands. How a row
// becomes a loss: data/rows/example makes its labels, data/rows/batch lays rows end to end and shifts the labels,
// model/transformer runs forward and backward, model/optim updates. data/run opens the files that a config names and
// writes the results; data/report shows them.
#include "data/report/page.h"
#include "data/report/record.h"
#include "data/report/report.h"
#include "data/report/trace.h"
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

// The first signal ends training after the current step. A second Ctrl-C or SIGTERM ends the program at once. A closed
// terminal hangs up more than once, and each write to a closed pipe sends a signal: only the first of these counts.
static void on_signal(int number)
{
    bool by_person = number == SIGINT || number == SIGTERM;
    if (stop_signal && by_person) _exit(128 + number);
    if (!by_person) signal(number, SIG_IGN);
    if (!stop_signal) stop_signal = number;
}

// What the shell has set to ignored (nohup, a script's background job) stays ignored.
static void catch_signals(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE};
    struct sigaction old, ours = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&ours.sa_mask);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) sigaction(numbers[i], &ours, NULL);
}

typedef struct {
    const Example **rows;                                  // the rows with something to learn
    size_t *order;                                         // of this epoch
    size_t n_rows;
    Plan plan;
    Progress done;
    int64_t saved;                                         // step of the last checkpoint of this process; -1: none
    bool shuffle;
    double started;
    Schedule schedule;
    const char *label;                                     // for a run of a comparison: it prints no evaluations
} Training;

static bool training_init(Training *t, const Run *r, Err *e)
{
    const Options *o = &r->options;
    *t = (Training){.rows = mem_alloc(r->n_train, sizeof *t->rows), .order = mem_alloc(r->n_train, sizeof *t->order),
                    .saved = -1};
    for (size_t i = 0; i < r->n_train; i++)
        if (r->data.examples[i].n_learned > 0) t->rows[t->n_rows++] = &r->data.examples[i];
    if (t->n_rows == 0)
        return fail(e, "%s: nothing to learn: the mask selects no token of the %zu rows (a row's first token does "
                       "not count: it is never predicted)", o->dataset_name, r->n_train);
    t->plan = plan_run(o, t->n_rows);
    if (o->load_best_model_at_end && !(r->n_eval && t->plan.eval_at_end))
        return fail(e, "load_best_model_at_end: expected held-out rows and evaluations, found none");
    t->shuffle = strcmp(o->train_sampling_strategy, "random") == 0;
    epoch_order(t->order, t->n_rows, t->shuffle, (uint64_t)o->seed, 0);
    return schedule_init(&t->schedule, o->lr_scheduler_type, o->lr_scheduler_kwargs, o->learning_rate, t->plan.warmup,
                         t->plan.n_steps, e);
}

// A checkpoint's place in the data must fit its step.
static bool check_place(const Training *t, const Options *o, const char *checkpoint, Err *e)
{
    const Progress *p = &t->done;
    int64_t rows = o->per_device_train_batch_size * o->gradient_accumulation_steps;
    int64_t epoch = p->step / t->plan.steps_per_epoch, next = p->step % t->plan.steps_per_epoch * rows;
    return (p->epoch == (uint64_t)epoch && p->next == (size_t)next) ||
           fail(e, "%s/resume.json: expected epoch %lld, next %lld for step %lld, found %llu, %zu", checkpoint,
                (long long)epoch, (long long)next, (long long)p->step, (unsigned long long)p->epoch, p->next);
}

// Weights that are not finite are not written. Even with a finite loss and gradient, an update can be too large.
static bool check_update(const Run *r, const Training *t, Err *e)
{
    char step[48];
    snprintf(step, sizeof step, "the update of step %lld or before", (long long)t->done.step);
    return check_weights(&r->model, step, e) || fail_prefix(e, "nothing is saved: ");
}

// One update. Each micro-batch runs forward and backward, and each gradient is divided by the weight sum of the whole
// step; then the gradient is clipped and the optimizer steps.
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
    // noise and dropout follow from the seed and the step, so that a resumed run draws the same
    r->room.batch.dropout_seed = ~(uint64_t)o->seed * 1000003 + (uint64_t)p->step;
    r->room.batch.noise.rng = rng_seed(r->room.batch.dropout_seed);
    for (size_t i = first; i < end; i += n) {              // a micro-batch of n rows
        n = end - i < batch ? end - i : batch;
        batch_clear(&r->room.batch);
        r->room.batch.first_row = i - first;
        for (size_t k = i; k < i + n; k++) {
            batch_add(&r->room.batch, t->rows[t->order[k]], BATCH_TRAIN);
            sums.tokens += t->rows[t->order[k]]->n;
        }
        model_gradient(&r->model, &r->room.work, &r->room.batch, r->room.losses, divisor,
                       i > first);                         // add: all but the first micro-batch
        sums_add_batch(&sums, &r->room.batch, r->room.losses);
        if (p->step == 0 && i == first) run_warn_end(r);
        p->supervised_tokens += r->room.batch.M;
    }
    p->grad_norm = grads_norm(&r->model);
    if (!isfinite(sums.weighted_loss) || !isfinite(p->grad_norm))
        return explain_step(r, &(BadStep){t->rows, t->order + first, end - first, p->step + 1, divisor,
                                          sums.weighted_loss / divisor, p->grad_norm}, e);
    p->lr = o->learning_rate * schedule_factor(&t->schedule, p->step);
    double clip = o->max_grad_norm > 0 ? fmin(1, o->max_grad_norm / (p->grad_norm + 1e-6)) : 1;
    optim_step(&r->optim, &r->model, p->lr, clip);

    p->step++;
    p->num_tokens += sums.tokens;
    p->next = end;
    if (end == t->n_rows) {
        p->next = 0;
        epoch_order(t->order, t->n_rows, t->shuffle, (uint64_t)o->seed, ++p->epoch);
    }
    sums.seconds = now_seconds() - started;
    sums_add_step(&p->since_log, &sums);
    sums_add_step(&p->total, &sums);
    return true;
}

static bool log_training(Run *r, Training *t, Err *e)
{
    cJSON *line = progress_train_line(&t->done, &t->plan);
    if (!t->label) report_loss(&t->done, t->plan.n_steps, r->n_eval ? INFINITY : log(r->model.config.vocab_size));
    t->done.since_log = (TrainSums){0};
    return record_line(r, line, e);
}

static bool log_evaluation(Run *r, Training *t, Err *e)
{
    if (!r->n_eval || r->evaluated == 1 + t->done.step) return true;
    EvalSums sums = evaluate(&r->model, &r->room, r->eval, r->n_eval, r->tokenizer);
    cJSON *line = progress_line(&t->done, &t->plan);
    eval_add_json(line, &sums, false);
    eval_add_gradients(line, &r->model, &r->room, r->eval, r->n_eval, false);
    if (!progress_note_best(&t->done, &r->options, line, e)) return cJSON_Delete(line), false;
    if (!t->label) report_evaluation(line);
    return record_line(r, line, e) && trace_evaluation(r, t->done.step, e);
}

static bool save_checkpoint(Run *r, Training *t, Err *e)
{
    if (t->saved == t->done.step) return true;
    t->saved = t->done.step;
    return check_update(r, t, e) && record_state(r, &t->done, &t->plan, e) && resume_write(r, &t->done, e);
}

static bool train_loop(Run *r, Training *t, Err *e)
{
    const Options *o = &r->options;
    const Plan *plan = &t->plan;
    Progress *p = &t->done;
    t->started = now_seconds();
    bool ok = p->step > 0 || !plan->eval_on_start || log_evaluation(r, t, e);
    while (ok && p->step < plan->n_steps && !stop_signal) {
        ok = train_step(r, t, e);
        if (!ok) break;
        progress_show(p, plan->n_steps, t->label);
        if (progress_due(p, plan->logging) || (p->step == 1 && o->logging_first_step)) ok = log_training(r, t, e);
        if (ok && progress_due(p, plan->eval)) ok = log_evaluation(r, t, e);
        if (ok && (progress_due(p, plan->save) || p->best_step == p->step)) ok = save_checkpoint(r, t, e);
    }
    ok = ok && check_update(r, t, e);
    if (ok && stop_signal && !t->label) ok = save_checkpoint(r, t, e);         // a resumed run logs the rest again
    if (ok && p->since_log.steps) ok = log_training(r, t, e);
    if (ok && plan->eval_at_end) ok = log_evaluation(r, t, e);
    return ok && record_line(r, progress_end_line(p, plan, now_seconds() - t->started), e) &&
           record_state(r, p, plan, e);
}

// load_best_model_at_end: replaces the last model by the model of the best checkpoint.
static bool take_best_model(Run *r, const Training *t, const Config *c, Err *e)
{
    const Progress *p = &t->done;
    if (stop_signal || !p->best_step || p->best_step == p->step) return true;
    model_free(&r->model);
    bool ok = run_open_model(r, &r->model, c, resume_path(&r->options, p->best_step).text, e);
    if (ok && !t->label)
        printf("the best model is the one of step %lld: %s %.4f\n", (long long)p->best_step,
               r->options.metric_for_best_model, p->best_metric);
    return ok;
}

// Model, optimizer and the memory that the rows need. If a checkpoint's model is damaged, the message names the
// checkpoint before it.
static bool open_trainee(Run *r, const Training *t, const Config *c, const char *checkpoint, Err *e)
{
    const Options *o = &r->options;
    const char *whose = checkpoint ? checkpoint : o->model_name_or_path ? o->model_name_or_path : "model_init";
    BatchSize max = run_batch_size(r, t->rows, t->n_rows);
    WorkKind kind = o->activation_checkpointing ? WORK_CHECKPOINTING : WORK_GRADIENT;
    if (!memory_check(r, c, max, kind, e)) return false;
    if (!run_open_model(r, &r->model, c, checkpoint, e) || !check_weights(&r->model, whose, e)) {
        if (checkpoint) resume_offer_older(o, checkpoint, e);
        return false;
    }
    r->optim = (Optim){.id = optim_find(o->optim), .beta1 = (float)o->adam_beta1, .beta2 = (float)o->adam_beta2,
                       .epsilon = (float)o->adam_epsilon, .weight_decay = (float)o->weight_decay};
    return room_init(&r->room, o, c, max, kind, e) && model_init_grads(&r->model, e) &&
           optim_init(&r->optim, r->model.n_trained, e);
}

// Prepares training from step 0, or from the step of the checkpoint.
static bool open_training(Run *r, Training *t, const Config *c, Err *e)
{
    const Options *o = &r->options;
    char *checkpoint = o->resume_from_checkpoint ? resume_find(o, e) : NULL;
    cJSON *state = checkpoint ? resume_open(r, checkpoint, e) : NULL;
    bool ok = (state || !o->resume_from_checkpoint) && training_init(t, r, e) && open_trainee(r, t, c, checkpoint, e);
    if (ok && checkpoint)
        ok = resume_read(r, &t->done, state, checkpoint, e) && check_place(t, o, checkpoint, e);
    else ok = ok && resume_remove_after(o, -1, e);
    ok = ok && run_open_output(r, e) && record_open(r, e);
    if (ok && checkpoint) {
        epoch_order(t->order, t->n_rows, t->shuffle, (uint64_t)o->seed, t->done.epoch);
        printf("resuming from %s\n", checkpoint);
    }
    cJSON_Delete(state);
    free(checkpoint);
    return ok;
}

// From opened inputs to a trained model; `label` is that of Training. The showcase (NULL: none) reads its rows with the
// model before the first step, if it has not done so in an earlier run, and at the end as number `model`.
static bool train_run(Run *r, const Config *c, const char *label, Showcase *show, size_t model, Err *e)
{
    Training t = {0};
    bool ok = open_training(r, &t, c, e);
    t.label = label;
    if (ok) {
        if (!label) report_plan(stdout, r, c, t.rows, t.n_rows, t.plan.n_steps);
        fflush(stdout);
        catch_signals();
        ok = (!show || show->seen[0] || showcase_add(show, 0, &r->model, &r->room, e)) && train_loop(r, &t, e) &&
             take_best_model(r, &t, c, e) &&
             (!show || stop_signal || showcase_add(show, model, &r->model, &r->room, e));
    }
    ok = ok && (label || run_save_model(r, r->options.output_dir, e));
    if (ok && !label)
        printf("%s at step %lld of %lld; the model is in %s%s\n", stop_signal ? "interrupted" : "done",
               (long long)t.done.step, (long long)t.plan.n_steps, r->options.output_dir,
               stop_signal ? "; resume_from_checkpoint=latest continues the run" : "");
    free(t.rows);
    free(t.order);
    return ok;
}

static void report_start(const Run *r)
{
    Summary s = dataset_summary(r->data.examples, r->n_train, r->tokenizer);
    report_summary(stdout, r->options.dataset_name, &s, &r->recipe);
    if (!r->n_eval) return;
    s = dataset_summary(r->eval, r->n_eval, r->tokenizer);
    report_summary(stdout, "held out", &s, &r->recipe);
    report_overlap(stdout, r);
}

// A single run. Its report is a comparison with one arm.
static bool train(Run *r, Err *e)
{
    Config c;
    Showcase show = {0};
    Comparison alone;
    if (r->options.arms)
        return fail(e, "arms: expected the command compare, found train; --arms=null trains the config without them");
    if (!run_claim_output(r, true, e) || !run_open_inputs(r, true, &c, e)) return false;
    report_start(r);
    showcase_init(&show, r, 2);
    if (r->options.resume_from_checkpoint && r->n_eval) showcase_add_first(&show, r, &c);
    bool ok = train_run(r, &c, NULL, show.seen ? &show : NULL, 1, e);
    if (ok && !stop_signal) {
        ok = comparison_init(&alone, &r->options, "0", e);
        alone.guess = log(c.vocab_size);
        ok = ok && comparison_add(&alone, 0, 0, r, e);
        if (ok) comparison_warn(stdout, &alone);
        ok = ok && page_report(r, &c, "./train", &alone, &show, e);
        comparison_free(&alone);
    }
    showcase_free(&show);
    return ok;
}

// ---- compare ------------------------------------------------------------------------------------------------------

// The run of one arm with one seed: the base's options, with the arm's keys, its seed and folder. The models of the
// first seed are kept and shown.
static bool compare_run(const Options *base, Comparison *c, size_t arm, size_t seed, Showcase *show, Err *e)
{
    Run r = {0};
    Config config;
    Buf dir = {0};
    const Arm *a = &c->arms[arm];
    char label[120];
    options_copy(&r.options, base);
    Options *o = &r.options;
    bool ok = options_set_arm(o, a->keys, e);
    o->seed = c->first_seed + (int64_t)seed;
    o->eval_on_start = true;                               // what all arms begin with is a line of the comparison
    buf_addf(&dir, "%s/%s/seed-%lld", base->output_dir, a->folder, (long long)o->seed);
    free(o->output_dir);
    o->output_dir = dir.data;
    snprintf(label, sizeof label, "run %zu/%zu: %s", seed * c->n_arms + arm + 1, c->n_arms * c->n_seeds, a->name);
    r.events_dir = record_events_dir(base->output_dir, a->slug, o->seed);
    ok = ok && run_claim_output(&r, false, e) && run_open_inputs(&r, true, &config, e) &&
         train_run(&r, &config, label, seed == 0 ? show : NULL, 1 + arm, e);
    if (ok && !stop_signal) {
        if (seed == 0) ok = run_save_model(&r, o->output_dir, e);
        ok = ok && comparison_add(c, arm, seed, &r, e);
        progress_clear();
        if (ok) comparison_print_run(stdout, c, arm, seed);
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
    comparison_verdict(&verdict, c, false);
    printf("\n%s\n", verdict.len ? verdict.data : "");
    Path csv = path_in(r->options.output_dir, "compare.csv");
    bool ok = comparison_write_csv(c, csv.text, e) && page_report(r, config, "./train compare", c, show, e);
    if (ok) printf("%s and the logs of each run are in %s\n", csv.text, r->options.output_dir);
    buf_free(&verdict);
    return ok;
}

static bool compare(Run *r, Err *e)
{
    const Options *o = &r->options;
    Comparison c;
    Config config;
    Showcase show = {0};
    if (!run_claim_output(r, false, e)) return false;
    if (o->resume_from_checkpoint || o->load_best_model_at_end || (o->eval_strategy && *o->eval_strategy == 'n'))
        return fail(e, "compare: takes neither resume_from_checkpoint nor load_best_model_at_end nor eval_strategy=no: "
                       "every arm is a whole run, judged by its last evaluation");
    if (!comparison_init(&c, o, o->prompt_loss_weights ? o->prompt_loss_weights : "0,1", e)) return false;
    bool ok = run_open_inputs(r, true, &config, e);
    if (ok) report_start(r), c.guess = log(config.vocab_size);
    for (size_t a = 0; ok && c.named && a < c.n_arms; a++) printf("arm %s: %s\n", c.arms[a].name, c.arms[a].text);
    if (ok && !r->n_eval) ok = fail(e, "compare needs held-out rows: give eval_dataset_name or eval_split");
    Summary s = ok ? dataset_summary(r->data.examples, r->n_train, r->tokenizer) : (Summary){0};
    if (ok && !c.named && s.left_out == 0)
        ok = fail(e, "compare: the mask (%s) leaves no token out%s: all arms would be the same run", s.mask,
                  s.supervised == s.tokens ? "" : " that prompt_loss_weight could bring back (what a row's own labels, "
                                                  "or a message's weight 0, leave out is never learned)");
    if (ok) showcase_init(&show, r, 1 + c.n_arms);
    for (size_t seed = 0; ok && seed < c.n_seeds; seed++)
        for (size_t arm = 0; ok && arm < c.n_arms && !stop_signal; arm++) ok = compare_run(o, &c, arm, seed, &show, e);
    ok = ok && compare_report(r, &config, &c, &show, e);
    showcase_free(&show);
    comparison_free(&c);
    return ok;
}

// ---- the other commands -------------------------------------------------------------------------------------------

static bool eval(Run *r, Err *e)
{
    const Options *o = &r->options;
    Config c;
    if (!run_open_inputs(r, true, &c, e)) return false;
    if (!r->n_eval) {                                      // none are held out: evaluate the training rows
        r->eval = r->data.examples;
        r->n_eval = r->data.n;
    }
    BatchSize max = run_batch_size(r, NULL, 0);
    WorkKind kind = o->gradients ? WORK_GRADIENT : WORK_LOSS;
    if (!memory_check(r, &c, max, kind, e) || !run_open_model(r, &r->model, &c, NULL, e) ||
        !room_init(&r->room, &r->options, &c, max, kind, e) || (o->gradients && !model_init_grads(&r->model, e)))
        return false;
    Summary summary = dataset_summary(r->eval, r->n_eval, r->tokenizer);
    if (!summary.first) return fail(e, "nothing to evaluate: the mask selects no token of the %zu rows", r->n_eval);
    EvalSums sums = evaluate(&r->model, &r->room, r->eval, r->n_eval, r->tokenizer);
    cJSON *json = cJSON_CreateObject();
    if (o->json) eval_add_json(json, &sums, true);
    if (o->gradients) eval_add_gradients(json, &r->model, &r->room, r->eval, r->n_eval, true);
    if (o->json) return json_print(json), true;
    report_rows(stdout, o->eval_dataset_name ? o->eval_dataset_name : o->dataset_name, &summary);
    eval_print(&sums);
    for (const cJSON *v = json->child; v; v = v->next) printf("  %-33s %8.4f\n", v->string, v->valuedouble);
    cJSON_Delete(json);
    return true;
}

// ---- commands -----------------------------------------------------------------------------------------------------

// A command takes one or two paths (a config, or a model), and then --key=value for the keys in `uses`.
typedef struct {
    const char *name, *arguments, *help;
    int n_paths;
    unsigned uses;
    bool (*run)(Run *r, Err *e);                           // for a command that takes a config
    bool (*run_on)(Run *r, char **paths, Err *e);          // for a command that takes a model
} Command;

static const Command commands[] = {                        // the first has no name of its own
    {"", "CONFIG.json [--key=value ...]", "train; --key=value overrides any key of the config", 1, FOR_CONFIG, train,
     NULL},
    {"inspect", "CONFIG.json [--rows=N] [--row=I] [--json] [--html=FILE] [--hide=N,M]",
     "show rows as tokens, labels and roles", 1,
     FOR_CONFIG | FOR_INSPECT, report_inspect, NULL},
    {"eval", "CONFIG.json [--json] [--gradients=true]", "the losses by role on the held-out rows", 1,
     FOR_CONFIG | FOR_EVAL, eval, NULL},
    {"compare", "CONFIG.json [--seeds=N] [--prompt_loss_weights=0,1]",
     "train masked and unmasked, or the config's arms, and compare", 1, FOR_CONFIG | FOR_COMPARE, compare, NULL},
    {"chat", "MODEL [--prompt=TEXT] [--system=TEXT] ...", "talk with a model", 1, FOR_GENERATE, NULL, generate_chat},
    {"sample", "MODEL [--prompt=TEXT] ...", "continue a text", 1, FOR_GENERATE, NULL, generate_sample},
    {"export", "MODEL OUT [--outtype=f32|f16|q8_0]", "write a model as OUT.gguf (llama.cpp; outtype is for it), "
     "OUT.bin (llama2.c) or else a Hugging Face folder", 2, FOR_EXPORT, NULL, run_export},
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static void usage(FILE *out)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(out, "%s./train %s%s%s\n           %s\n", i ? "       " : "usage: ", commands[i].name, i ? " " : "",
                commands[i].arguments, commands[i].help);
    fprintf(out, "MODEL is a .gguf, a llama2.c .bin, or the folder of a model or of a PEFT adapter. Exit status: "
                 "0 done, 1 failed, 2 wrong usage, 128 + n ended by signal n.\n");
    static const struct { const char *of; unsigned uses; } lists[] = {
        {"a config, with their defaults", FOR_CONFIG}, {"inspect", FOR_INSPECT}, {"eval", FOR_EVAL},
        {"compare", FOR_COMPARE}, {"chat and sample", FOR_GENERATE}, {"export", FOR_EXPORT},
    };
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        fprintf(out, "\nKeys of %s:\n", lists[i].of);
        options_help(out, lists[i].uses);
    }
}

// The first argument is a config or a model. A word that names no file is probably a command with a slip in it.
static bool check_path(const Command *command, const char *path, Err *e)
{
    if (command != commands || file_exists(path) || strpbrk(path, "./"))
        return run_check_kind(path, command->run != NULL, e);
    const char *near = nearest_name(path, &commands[0].name, N_COMMANDS, sizeof *commands);
    return fail(e, "%s: neither a command nor a config file (see ./train help)%s%s%s", path,
                near ? ": did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

int main(int argc, char **argv)
{
    ops_restart(argv);
    const Command *command = &commands[0];
    int at = 1;                                            // where its paths begin
    for (size_t i = 1; argc > 1 && i < N_COMMANDS; i++)
        if (strcmp(argv[1], commands[i].name) == 0) command = &commands[i], at = 2;
    if (argc > 2 && strcmp(argv[1], "train") == 0) at = 2;
    if (argc > 1 && strcmp(argv[1], "help") == 0) return usage(stdout), 0;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return usage(stdout), 0;
    if (argc < at + command->n_paths || strncmp(argv[at], "--", 2) == 0) {
        fprintf(stderr, "train: a path is missing: expected %s\n", command->arguments);
        return usage(stderr), 2;
    }

    Run run = {0};
    Err e = {""};
    options_init(&run.options);
    char **rest = argv + at + command->n_paths;
    bool ok = check_path(command, argv[at], &e) && options_read(&run.options, command->run ? argv[at] : NULL, rest,
                                                                argc - (int)(rest - argv), command->uses, &e);
    if (ok && run.options.arms && command->run != compare && command->run != train)
        fprintf(stderr, "train: arms are for compare: this is the config without them\n");
    ops_init((int)run.options.n_threads);
    if (run.options.n_threads != 1) ops_warn(stderr);
    ok = ok && ops_check(&e) && (command->run ? command->run(&run, &e) : command->run_on(&run, argv + at, &e));
    bool heard = stop_signal != SIGPIPE && stop_signal != SIGHUP;      // can someone still read stdout?
    if ((fflush(stdout) != 0 || ferror(stdout)) && ok && heard)
        ok = fail(&e, "standard output: cannot write: %s", strerror(errno));
    if (!ok) fprintf(stderr, "train: %s\n", e.text);
    run_free(&run);
    return !ok ? 1 : stop_signal ? 128 + stop_signal : 0;
}
