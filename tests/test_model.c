// The whole model against PyTorch's autograd (fixtures made by tests/oracle/model.py), against llama2.c's losses, and
// against itself: what must not change a loss or a gradient does not.
#include "check.h"

#include "../model/checkpoint.h"
#include "../model/optim.h"
#include "../model/safetensors.h"
#include "../model/transformer.h"

enum { IGNORE = -100 };                                    // the label of a position that is no target

// Without its fixture a test cannot begin.
static void must(bool ok, const Err *e)
{
    if (ok) return;
    fprintf(stderr, "%s\n", e->text);
    exit(1);
}

// ---- batches ------------------------------------------------------------------------------------------------------

// Rows laid end to end; `targets` and `weights` have an entry for every token, IGNORE where it is no target.
static Batch batch_make(size_t S, const int *lengths, const int *ids, const int *targets, const float *weights)
{
    Batch b;
    Err e;
    size_t N = 0;
    for (size_t s = 0; s < S; s++) N += (size_t)lengths[s];
    must(batch_init(&b, (BatchSize){.tokens = N, .rows = S, .targets = N}, &e), &e);
    b.N = N;
    b.S = S;
    for (size_t s = 0; s < S; s++) b.starts[s + 1] = b.starts[s] + (size_t)lengths[s];
    for (size_t n = 0; n < N; n++) {
        b.ids[n] = ids[n];
        if (targets[n] == IGNORE) continue;
        b.at[b.M] = n;
        b.target[b.M] = targets[n];
        b.weight[b.M++] = weights ? weights[n] : 1;
    }
    return b;
}

static double batch_divisor(const Batch *b)
{
    double sum = 0;
    for (size_t m = 0; m < b->M; m++) sum += b->weight[m];
    return sum;
}

// Some rows of b, in the order given: "031" is row 0, row 3, row 1. from[m]: which of b's targets target m was.
static Batch batch_rows(const Batch *b, const char *rows, size_t S, size_t *from)
{
    Batch part;
    Err e;
    must(batch_init(&part, (BatchSize){.tokens = b->N, .rows = S, .targets = b->M}, &e), &e);
    part.S = S;
    for (size_t i = 0; i < S; i++) {
        size_t row = (size_t)(rows[i] - '0'), begin = b->starts[row], end = b->starts[row + 1];
        for (size_t m = 0; m < b->M; m++) {
            if (b->at[m] < begin || b->at[m] >= end) continue;
            part.at[part.M] = part.N + b->at[m] - begin;
            part.target[part.M] = b->target[m];
            part.weight[part.M] = b->weight[m];
            from[part.M++] = m;
        }
        memcpy(part.ids + part.N, b->ids + begin, (end - begin) * sizeof *part.ids);
        part.starts[i + 1] = part.N += end - begin;
    }
    return part;
}

// ---- passes -------------------------------------------------------------------------------------------------------

// What a loss (grads NULL) or a gradient gave.
typedef struct { size_t M; float *nll, *entropy, *grads; } Pass;

static void pass_free(Pass *p)
{
    free(p->nll);
    free(p->entropy);
    free(p->grads);
}

// Work memory for one batch.
static Work work_for(const Model *m, const Batch *b, WorkKind kind)
{
    BatchSize size = {.tokens = b->N, .rows = b->S, .targets = b->M};
    for (size_t s = 0; s < b->S; s++)
        if (b->starts[s + 1] - b->starts[s] > size.row) size.row = b->starts[s + 1] - b->starts[s];
    Work w;
    Err e;
    must(work_init(&w, &m->config, size, kind, &e), &e);
    return w;
}

// One micro-batch, whose target m is the pass's target from[m] (NULL: m itself). Divisor 0: no gradient.
static void pass_add(Pass *p, Model *m, Work *w, const Batch *b, const size_t *from, double divisor, bool add)
{
    TokenLoss *loss = mem_alloc(b->M, sizeof *loss);
    if (divisor > 0) model_gradient(m, w, b, loss, divisor, add);
    else model_loss(m, w, b, loss);
    for (size_t i = 0; i < b->M; i++) {
        p->nll[from ? from[i] : i] = loss[i].nll;
        p->entropy[from ? from[i] : i] = loss[i].entropy;
    }
    free(loss);
}

static Pass pass_begin(const Batch *b)
{
    return (Pass){.M = b->M, .nll = mem_alloc(b->M, sizeof(float)), .entropy = mem_alloc(b->M, sizeof(float))};
}

static void pass_end(Pass *p, const Model *m, double divisor)
{
    if (!(divisor > 0)) return;
    p->grads = mem_alloc(m->n_params, sizeof(float));
    memcpy(p->grads, m->grads, m->n_params * sizeof(float));
}

static Pass pass_run(Model *m, Work *w, const Batch *b, double divisor)
{
    Pass p = pass_begin(b);
    pass_add(&p, m, w, b, NULL, divisor, false);
    pass_end(&p, m, divisor);
    return p;
}

// The same in micro-batches: "03|12" is one of rows 0 and 3, then one of rows 1 and 2.
static Pass pass_in_parts(Model *m, Work *w, const Batch *b, const char *parts, double divisor)
{
    Pass p = pass_begin(b);
    size_t *from = mem_alloc(b->M, sizeof *from);
    for (const char *rows = parts; *rows;) {
        size_t S = strcspn(rows, "|");
        Batch part = batch_rows(b, rows, S, from);
        pass_add(&p, m, w, &part, from, divisor, rows > parts);
        batch_free(&part);
        rows += S + (rows[S] == '|');
    }
    pass_end(&p, m, divisor);
    free(from);
    return p;
}

// Relative L2 for each tensor of each layer.
static void check_tensors(const char *what, const Config *c, const float *got, const float *want, double tolerance)
{
    for (TensorId id = 0; id < N_TENSORS; id++)
        for (size_t l = 0; l < tensor_count(c, id); l++) {
            char name[128];
            snprintf(name, sizeof name, "%s: %s of layer %zu", what, tensor_table[id].name, l);
            size_t at = tensor_offset(c, id, l);
            CHECK_CLOSE(name, got + at, want + at, tensor_size(c, id), tolerance);
        }
}

// Two ways of computing the same sums. (sgemm's rounding of a row depends on how many rows stand beside it, and each
// layer below makes more of that. A lost target would be 1e-2.)
static void check_same_sums(const char *what, const Model *m, const Pass *got, const Pass *want)
{
    CHECK_CLOSE(what, got->nll, want->nll, want->M, 1e-6);
    CHECK_CLOSE(what, got->entropy, want->entropy, want->M, 1e-6);
    check_tensors(what, &m->config, got->grads, want->grads, 2e-6);
}

static void check_passes_same_bits(const char *what, const Model *m, const Pass *got, const Pass *want)
{
    CHECK_MSG(memcmp(got->nll, want->nll, want->M * sizeof(float)) == 0, "%s: nll", what);
    CHECK_MSG(memcmp(got->entropy, want->entropy, want->M * sizeof(float)) == 0, "%s: entropy", what);
    if (got->grads) CHECK_MSG(memcmp(got->grads, want->grads, m->n_params * sizeof(float)) == 0, "%s: gradients", what);
}

// ---- fixtures -----------------------------------------------------------------------------------------------------

static SafeTensors fixture_open(const char *name)
{
    char path[128];
    SafeTensors f;
    Err e;
    snprintf(path, sizeof path, "tests/fixtures/%s.safetensors", name);
    must(safetensors_open(&f, path, &e), &e);
    return f;
}

static float *fixture_floats(const SafeTensors *f, size_t *n, const char *format, ...)
{
    char name[64];
    Err e;
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    const StTensor *t = safetensors_find(f, name);
    must(t || fail(&e, "%s: no tensor %s", f->file.path, name), &e);
    float *x = mem_alloc(t->count, sizeof *x);
    safetensors_read(f, t, 0, t->count, x);
    if (n) *n = t->count;
    return x;
}

static int *fixture_ints(const SafeTensors *f, size_t *n, const char *prefix, const char *name)
{
    size_t count;
    float *x = fixture_floats(f, &count, "%s%s", prefix, name);
    int *ints = mem_alloc(count, sizeof *ints);
    for (size_t i = 0; i < count; i++) ints[i] = (int)x[i];
    free(x);
    if (n) *n = count;
    return ints;
}

// One of the JSON values in the fixture's metadata.
static cJSON *fixture_note(const SafeTensors *f, const char *key)
{
    Err e;
    const char *text = json_string(json_get(f->header, "__metadata__"), key);
    must(text || fail(&e, "%s: no %s in its metadata", f->file.path, key), &e);
    cJSON *json = json_parse(text, strlen(text), key, 0, &e);
    must(json, &e);
    return json;
}

// Fills an arena; in the fixture the layers of a tensor are stacked.
static void fixture_arena(const SafeTensors *f, const char *prefix, const Config *c, float *arena)
{
    for (TensorId id = 0; id < N_TENSORS; id++) {
        if (tensor_count(c, id) == 0) continue;
        size_t n, size = tensor_size(c, id);
        float *stacked = fixture_floats(f, &n, "%s%s", prefix, tensor_table[id].name);
        CHECK(n == tensor_count(c, id) * size);
        for (size_t l = 0; l < tensor_count(c, id); l++)
            memcpy(arena + tensor_offset(c, id, l), stacked + l * size, size * sizeof(float));
        free(stacked);
    }
}

static Model fixture_model(const SafeTensors *f)
{
    Err e;
    Config c;
    Model m;
    cJSON *json = fixture_note(f, "config");
    must(config_from_json(&c, json, f->file.path, &e) && model_init(&m, &c, &e), &e);
    cJSON_Delete(json);
    must(model_init_grads(&m, &e), &e);
    fixture_arena(f, "param.", &c, m.params);
    return m;
}

static Batch fixture_batch(const SafeTensors *f, const char *prefix)
{
    size_t S;
    int *lengths = fixture_ints(f, &S, prefix, "lengths"), *ids = fixture_ints(f, NULL, prefix, "ids");
    int *targets = fixture_ints(f, NULL, prefix, "targets");
    float *weights = fixture_floats(f, NULL, "%sweights", prefix);
    Batch b = batch_make(S, lengths, ids, targets, weights);
    free(lengths);
    free(ids);
    free(targets);
    free(weights);
    return b;
}

// A model and a batch from a fixture, ready to train.
typedef struct { SafeTensors file; Model model; Work work; Batch batch; double divisor; } Case;

static const char *const cases[] = {"model_gqa_untied", "model_gqa_tied", "model_one_layer_tied",
                                    "model_one_layer_untied", "model_llama3_rope", "model_single_tokens"};
enum { N_CASES = sizeof cases / sizeof *cases };

static Case case_open(const char *name)
{
    Case c = {.file = fixture_open(name)};
    c.model = fixture_model(&c.file);
    c.batch = fixture_batch(&c.file, "");
    c.divisor = batch_divisor(&c.batch);
    c.work = work_for(&c.model, &c.batch, WORK_GRADIENT);
    return c;
}

// Other work memory: as much as the batch needs.
static void case_work(Case *c, const Batch *b, WorkKind kind)
{
    work_free(&c->work);
    c->work = work_for(&c->model, b, kind);
}

static void case_close(Case *c)
{
    work_free(&c->work);
    model_free(&c->model);
    batch_free(&c->batch);
    safetensors_close(&c->file);
}

// ---- PyTorch's losses and gradients -------------------------------------------------------------------------------

static float *float64_gradient(const Case *c)
{
    float *grads = mem_alloc(c->model.n_params, sizeof *grads);
    fixture_arena(&c->file, "grad.", &c->model.config, grads);
    return grads;
}

// The fixture's figures are of a padded rectangle: this is also the proof that ragged equals padded.
static void check_case(const char *name)
{
    Case c = case_open(name);
    Pass want = {.M = c.batch.M, .grads = float64_gradient(&c)};
    want.nll = fixture_floats(&c.file, NULL, "nll");
    want.entropy = fixture_floats(&c.file, NULL, "entropy");
    float *want_loss = fixture_floats(&c.file, NULL, "loss"), loss = 0;
    Pass got = pass_run(&c.model, &c.work, &c.batch, c.divisor);
    for (size_t m = 0; m < got.M; m++) loss += (float)(c.batch.weight[m] * got.nll[m] / c.divisor);
    CHECK_CLOSE(name, &loss, want_loss, 1, 1e-5);
    CHECK_CLOSE(name, got.nll, want.nll, got.M, 1e-5);
    CHECK_CLOSE(name, got.entropy, want.entropy, got.M, 1e-5);
    check_tensors(name, &c.model.config, got.grads, want.grads, 1e-5);
    free(want_loss);
    pass_free(&got);
    pass_free(&want);
    case_close(&c);
}

static void losses_and_gradients_are_pytorchs(void)
{
    for (int i = 0; i < N_CASES; i++) check_case(cases[i]);
}

// ---- ten updates of PyTorch's optimizers --------------------------------------------------------------------------

static double number(const cJSON *run, const char *key) { return cJSON_GetNumberValue(json_get(run, key)); }

static double run_factor(const cJSON *run, int step)
{
    Schedule s;
    Err e;
    bool ok = schedule_init(&s, json_string(run, "lr_scheduler_type"), json_get(run, "lr_scheduler_kwargs"),
                            number(run, "learning_rate"), (int64_t)number(run, "warmup_steps"),
                            (int64_t)number(run, "max_steps"), &e);
    return CHECK_MSG(ok, "%s", e.text) ? schedule_factor(&s, step) : 0;
}

static Optim run_optim(const cJSON *run, const Model *m)
{
    Err e;
    Optim o = {.id = OPTIM_SGD, .weight_decay = (float)number(run, "weight_decay")};
    if (strcmp(json_string(run, "optim"), "adamw") == 0) {
        o.id = OPTIM_ADAMW;
        o.beta1 = (float)number(run, "adam_beta1");
        o.beta2 = (float)number(run, "adam_beta2");
        o.epsilon = (float)number(run, "adam_epsilon");
    }
    must(optim_init(&o, m->n_params, &e), &e);
    return o;
}

enum { MAX_MICRO = 4, STEPS = 10 };

// The micro-batches of a step, all of them divided by the weights of all of them. Returns the loss.
static double run_micro_batches(Model *m, Work *w, const Batch *micro, size_t n)
{
    double divisor = 0, loss = 0;
    for (size_t i = 0; i < n; i++) divisor += batch_divisor(&micro[i]);
    for (size_t i = 0; i < n; i++) {
        TokenLoss *token = mem_alloc(micro[i].M, sizeof *token);
        model_gradient(m, w, &micro[i], token, divisor, i > 0);
        for (size_t t = 0; t < micro[i].M; t++) loss += micro[i].weight[t] * token[t].nll / divisor;
        free(token);
    }
    return loss;
}

// What a run logs.
typedef struct { float losses[STEPS], norms[STEPS], rates[STEPS]; } Log;

static Log run_steps(Model *m, Work *w, const cJSON *run, Batch sets[2][MAX_MICRO], size_t n_micro)
{
    Log log;
    Optim o = run_optim(run, m);
    for (int step = 0; step < STEPS; step++) {
        log.losses[step] = (float)run_micro_batches(m, w, sets[step % 2], n_micro);
        double norm = grads_norm(m), limit = number(run, "max_grad_norm");
        double rate = number(run, "learning_rate") * run_factor(run, step);
        optim_step(&o, m, rate, limit > 0 ? fmin(1, limit / (norm + 1e-6)) : 1);
        log.norms[step] = (float)norm;
        log.rates[step] = (float)rate;
    }
    optim_free(&o);
    return log;
}

static void check_log(const char *name, const SafeTensors *f, const Log *log)
{
    float *losses = fixture_floats(f, NULL, "losses"), *norms = fixture_floats(f, NULL, "grad_norms");
    float *rates = fixture_floats(f, NULL, "learning_rates");
    for (int step = 0; step < STEPS; step++) CHECK_CLOSE(name, &log->losses[step], &losses[step], 1, 1e-5);
    CHECK_CLOSE(name, log->norms, norms, STEPS, 1e-5);
    CHECK_CLOSE(name, log->rates, rates, STEPS, 1e-7);
    free(losses);
    free(norms);
    free(rates);
}

static void check_training_run(const char *name)
{
    Err e;
    SafeTensors f = fixture_open(name);
    cJSON *run = fixture_note(&f, "run");
    Model m = fixture_model(&f);
    Work w;
    Batch sets[2][MAX_MICRO];                              // the steps take turns with them
    size_t n_micro = (size_t)number(run, "micro_batches");
    for (int s = 0; s < 2; s++)
        for (size_t i = 0; i < n_micro; i++) {
            char prefix[64];
            snprintf(prefix, sizeof prefix, "set%d.micro%zu.", s, i);
            sets[s][i] = fixture_batch(&f, prefix);
        }
    const BatchSize size = {.tokens = 128, .row = 128, .rows = 8, .targets = 128};
    must(work_init(&w, &m.config, size, WORK_GRADIENT, &e), &e);
    Log log = run_steps(&m, &w, run, sets, n_micro);
    check_log(name, &f, &log);
    float *final = mem_alloc(m.n_params, sizeof *final);
    fixture_arena(&f, "final.", &m.config, final);
    check_tensors(name, &m.config, m.params, final, 1e-5);
    free(final);
    for (int s = 0; s < 2; s++)
        for (size_t i = 0; i < n_micro; i++) batch_free(&sets[s][i]);
    work_free(&w);
    model_free(&m);
    cJSON_Delete(run);
    safetensors_close(&f);
}

static void ten_steps_follow_pytorch(void)
{
    check_training_run("model_adamw_linear");              // warm-up, clipping, weight decay, three micro-batches
    check_training_run("model_adamw_cosine");
    check_training_run("model_sgd");
}

static void schedules_are_transformers(void)
{
    Err e;
    cJSON *runs = json_load("tests/fixtures/schedules.json", &e);
    const cJSON *run, *want;
    CHECK_MSG(runs, "%s", e.text);
    cJSON_ArrayForEach(run, runs) {
        int step = 0;
        cJSON_ArrayForEach(want, json_get(run, "factors")) {
            double got = run_factor(run, step);
            CHECK_MSG(fabs(got - want->valuedouble) <= 1e-12, "%s, step %d: %.17g in transformers and %.17g here",
                      json_string(run, "lr_scheduler_type"), step, want->valuedouble, got);
            step++;
        }
        CHECK(step > 0);
    }
    cJSON_Delete(runs);
}

static void schedule_settings_are_checked(void)
{
    static const struct { const char *name, *kwargs, *message; } bad[] = {
        {"cosine", "{'cycles': 1}", "lr_scheduler_kwargs: cosine has no setting \"cycles\""},
        {"linear", "{'num_cycles': 1}", "linear has no setting \"num_cycles\""},
        {"polynomial", "{'power': '2'}", "lr_scheduler_kwargs.power: expected a number, found a string"},
        {"polynomial", "{'lr_end': 1}", "lr_scheduler_kwargs.lr_end: expected less than learning_rate, found 1"},
        {"cosine_with_min_lr", "{}", "expected one of min_lr and min_lr_rate"},
        {"cosine_with_min_lr", "{'min_lr': 0, 'min_lr_rate': 0}", "expected one of min_lr and min_lr_rate"},
        {"warmup_stable_decay", "{}", "lr_scheduler_kwargs.num_decay_steps: expected a number, found nothing"},
        {"warmup_stable_decay", "{'num_decay_steps': 2, 'decay_type': 'exponential'}",
         "lr_scheduler_kwargs.decay_type: expected linear, cosine or 1-sqrt"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Schedule s;
        Err e = {""};
        cJSON *kwargs = cJSON_Parse(quoted(bad[i].kwargs));
        CHECK(!schedule_init(&s, bad[i].name, kwargs, 0.01, 2, 10, &e));
        CHECK_MSG(strstr(e.text, bad[i].message), "%s", e.text);
        cJSON_Delete(kwargs);
    }
}

// ---- masking is masking -------------------------------------------------------------------------------------------

static bool all_zero(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (x[i] != 0) return false;
    return true;
}

// The gradient of a token's embedding; in an untied model only its own position can make it other than 0.
static bool embedding_untouched(const Model *m, const Pass *p, int id)
{
    size_t C = (size_t)m->config.dim;
    return all_zero(p->grads + tensor_offset(&m->config, TOK_EMB, 0) + (size_t)id * C, C);
}

// Two rows. In the first, every token is another one, so that its embedding's gradient is that of its position; the
// targets are at 3 and 7. The second is masked altogether.
enum { LONG = 12, SHORT = 6 };

static Batch masked_batch(size_t rows, int label_at_7, float weight_at_7)
{
    int lengths[] = {LONG, SHORT}, ids[LONG + SHORT], targets[LONG + SHORT];
    float weights[LONG + SHORT];
    for (int n = 0; n < LONG + SHORT; n++) {
        ids[n] = n;
        targets[n] = IGNORE;
        weights[n] = 1;
    }
    targets[3] = 20;
    targets[7] = label_at_7;
    weights[7] = weight_at_7;
    return batch_make(rows, lengths, ids, targets, weights);
}

static void a_masked_position_has_no_gradient(void)
{
    Case c = case_open("model_gqa_untied");
    Batch batches[] = {masked_batch(2, 21, 1), masked_batch(2, IGNORE, 1), masked_batch(2, 21, 0),
                       masked_batch(1, 21, 1)};
    Pass both = pass_run(&c.model, &c.work, &batches[0], 1), masked = pass_run(&c.model, &c.work, &batches[1], 1);
    Pass weightless = pass_run(&c.model, &c.work, &batches[2], 1);
    Pass one_row = pass_run(&c.model, &c.work, &batches[3], 1);
    for (int id = 0; id < LONG + SHORT; id++) {
        // What stands at or before a target is its input; what stands behind the last, or in a row without one, is not.
        CHECK_MSG(embedding_untouched(&c.model, &both, id) == (id > 7), "targets at 3 and 7, token %d", id);
        CHECK_MSG(embedding_untouched(&c.model, &masked, id) == (id > 3), "target at 3, token %d", id);
        CHECK_MSG(embedding_untouched(&c.model, &weightless, id) == (id > 3), "weight 0 at 7, token %d", id);
    }
    check_tensors("-100 is weight 0", &c.model.config, masked.grads, weightless.grads, 1e-6);
    check_tensors("a masked row adds nothing", &c.model.config, both.grads, one_row.grads, 1e-6);

    batches[0].weight[0] = batches[0].weight[1] = 0;
    Pass none = pass_run(&c.model, &c.work, &batches[0], 1);
    CHECK(all_zero(none.grads, c.model.n_params));         // exactly: not a bit reaches any tensor

    Pass *passes[] = {&both, &masked, &weightless, &one_row, &none};
    for (size_t i = 0; i < sizeof passes / sizeof *passes; i++) pass_free(passes[i]);
    for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) batch_free(&batches[i]);
    case_close(&c);
}

// Puts another token at position `at`: which of the two losses (targets at 3 and 7) does that change?
static void check_context(Case *c, int at, bool first_changes, bool second_changes)
{
    Batch b = masked_batch(2, 21, 1);
    Pass before = pass_run(&c->model, &c->work, &b, 0);
    b.ids[at] = 30;
    Pass after = pass_run(&c->model, &c->work, &b, 0);
    CHECK_MSG((before.nll[0] != after.nll[0]) == first_changes, "token %d, target at 3: %.9g", at, after.nll[0]);
    CHECK_MSG((before.nll[1] != after.nll[1]) == second_changes, "token %d, target at 7: %.9g", at, after.nll[1]);
    pass_free(&before);
    pass_free(&after);
    batch_free(&b);
}

static void a_masked_token_is_context(void)
{
    Case c = case_open("model_gqa_untied");
    for (int at = 0; at < LONG + SHORT; at++) check_context(&c, at, at <= 3, at <= 7);
    case_close(&c);
}

// ---- how the work is cut up ---------------------------------------------------------------------------------------

// Rows 1 and 6 have no target, and share a micro-batch with one that has.
static void any_split_gives_the_same_gradient(void)
{
    static const char *const splits[] = {"012345678", "876543210", "01|2|3|46|5|7|8", "31|024|65|87",
                                         "8|7|56|4|3|21|0"};
    static const char *const names[] = {"model_gqa_untied", "model_gqa_tied", "model_one_layer_tied"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        Case c = case_open(names[i]);
        Pass whole = pass_run(&c.model, &c.work, &c.batch, c.divisor);
        float *float64_grads = float64_gradient(&c);
        for (size_t j = 0; j < sizeof splits / sizeof *splits; j++) {
            Pass parts = pass_in_parts(&c.model, &c.work, &c.batch, splits[j], c.divisor);
            check_same_sums(splits[j], &c.model, &parts, &whole);
            // Measured: at most 1.4e-6, with OpenBLAS's AVX2 kernels; 1.2e-6 with its AVX-512 ones.
            CHECK_CLOSE(splits[j], parts.grads, float64_grads, c.model.n_params, 2e-6);
            pass_free(&parts);
        }
        free(float64_grads);
        pass_free(&whole);
        case_close(&c);
    }
}

// More targets than the head takes at a time.
static void the_head_in_slices_is_the_head(void)
{
    enum { ROWS = 6, LENGTH = 150 };
    int lengths[ROWS], ids[ROWS * LENGTH], targets[ROWS * LENGTH];
    Rng rng = rng_seed(1);
    for (int s = 0; s < ROWS; s++) lengths[s] = LENGTH;
    for (int n = 0; n < ROWS * LENGTH; n++) {
        ids[n] = (int)rng_below(&rng, 37);
        targets[n] = (int)rng_below(&rng, 37);
    }
    Batch b = batch_make(ROWS, lengths, ids, targets, NULL);
    Case c = case_open("model_gqa_tied");
    case_work(&c, &b, WORK_GRADIENT);
    Pass whole = pass_run(&c.model, &c.work, &b, ROWS * LENGTH);
    Pass parts = pass_in_parts(&c.model, &c.work, &b, "0|1|2|3|4|5", ROWS * LENGTH);
    check_same_sums("rows alone", &c.model, &parts, &whole);
    pass_free(&whole);
    pass_free(&parts);
    case_close(&c);
    batch_free(&b);
}

// Rows in shares: what a pass over the whole batch computes. One share has no target.
static void shares_are_the_whole(void)
{
    enum { ROWS = 80, N = ROWS * (SHORT + LONG) / 2 };
    int lengths[ROWS], ids[N], targets[N], position[N];
    float weights[N];
    size_t n_ids = 0;
    Rng rng = rng_seed(1);
    Case c = case_open("model_gqa_untied");
    for (int s = 0; s < ROWS; s++) {
        lengths[s] = s % 2 ? LONG : SHORT;
        for (int t = 0; t < lengths[s]; t++, n_ids++) {
            ids[n_ids] = (int)rng_below(&rng, 37);
            targets[n_ids] = t < 2 || s < 22 ? IGNORE : (int)rng_below(&rng, 37);
            weights[n_ids] = (float)(1 + rng_below(&rng, 3));
            position[n_ids] = t * (1 + s % 3);
        }
    }
    Batch b = batch_make(ROWS, lengths, ids, targets, weights);
    double divisor = batch_divisor(&b);
    b.position = position;
    b.noise.C = c.model.shape.C;
    b.noise.values = mem_alloc(b.N * b.noise.C, sizeof *b.noise.values);
    for (size_t i = 0; i < b.N * b.noise.C; i++) b.noise.values[i] = (float)rng_normal(&rng) / 10;
    case_work(&c, &b, WORK_GRADIENT);
    Share shares[MAX_SHARES];
    CHECK(work_shares(shares, &c.work, &b) >= 4);
    Pass parts = pass_run(&c.model, &c.work, &b, divisor);
    pass_add(&parts, &c.model, &c.work, &b, NULL, divisor, true);
    for (size_t i = 0; i < c.model.n_params; i++) c.model.grads[i] /= 2;
    CHECK_CLOSE("twice", c.model.grads, parts.grads, c.model.n_params, 1e-6);
    c.work.whole = true;
    CHECK(work_shares(shares, &c.work, &b) == 0);
    Pass whole = pass_run(&c.model, &c.work, &b, divisor);
    check_same_sums("shares", &c.model, &parts, &whole);
    for (int threads = 1; threads <= 7; threads += 2) {
        ops_init(threads);
        case_work(&c, &b, threads == 3 ? WORK_CHECKPOINTING : WORK_GRADIENT);
        Pass more = pass_run(&c.model, &c.work, &b, divisor);
        check_passes_same_bits("shares", &c.model, &more, &parts);
        pass_free(&more);
    }
    ops_init(0);
    pass_free(&whole);
    pass_free(&parts);
    case_close(&c);
    batch_free(&b);
}

// A row that is longer than a third of the batch: no shares.
static void a_long_row_is_no_share(void)
{
    size_t starts[] = {0, 400, 700, 1000};
    Batch b = {.N = 1000, .S = 3, .starts = starts};
    Share shares[MAX_SHARES];
    Work w = {.shares = &w};
    CHECK(work_shares(shares, &w, &b) == 0);
    starts[1] = 333, starts[2] = 667;
    CHECK(work_shares(shares, &w, &b) == 0);
    starts[2] = 666, b.N = starts[3] = 999;
    CHECK(work_shares(shares, &w, &b) == 3);
    CHECK(shares[0].first == 0 && shares[1].first == 1 && shares[2].first == 2 && shares[2].end == 3);
}

// ---- the same bits ------------------------------------------------------------------------------------------------

static void checkpointing_and_eval_change_no_bit(void)
{
    for (int i = 0; i < N_CASES; i++) {
        Case c = case_open(cases[i]);
        Pass plain = pass_run(&c.model, &c.work, &c.batch, c.divisor);
        case_work(&c, &c.batch, WORK_CHECKPOINTING);
        Pass checkpointed = pass_run(&c.model, &c.work, &c.batch, c.divisor);
        case_work(&c, &c.batch, WORK_LOSS);
        Pass eval = pass_run(&c.model, &c.work, &c.batch, 0);
        check_passes_same_bits("gradient checkpointing", &c.model, &checkpointed, &plain);
        check_passes_same_bits("evaluation", &c.model, &eval, &plain);
        pass_free(&plain);
        pass_free(&checkpointed);
        pass_free(&eval);
        case_close(&c);
    }
}

static Pass pass_with_threads(Case *c, int n)
{
    ops_init(n);
    case_work(c, &c->batch, WORK_GRADIENT);                // work memory is as large as there are threads
    return pass_run(&c->model, &c->work, &c->batch, c->divisor);
}

static void threads_change_no_bit(void)
{
    static const int counts[] = {2, 3, 7};
    for (int i = 0; i < N_CASES; i++) {
        Case c = case_open(cases[i]);
        Pass one = pass_with_threads(&c, 1);
        double norm = grads_norm(&c.model);
        for (int j = 0; j < 3; j++) {
            Pass more = pass_with_threads(&c, counts[j]);
            CHECK(ops_threads() == counts[j]);
            check_passes_same_bits(cases[i], &c.model, &more, &one);
            CHECK(grads_norm(&c.model) == norm);
            pass_free(&more);
        }
        pass_free(&one);
        case_close(&c);
    }
    ops_init(0);
}

// ---- figures from elsewhere ---------------------------------------------------------------------------------------

// From ../shared/vectors/seed/llama32_notebook.json: PyTorch's F.cross_entropy as a notebook on assistant-only masking
// prints it. Labels [1, 2, 0] of all three rows, and [-100, -100, 0]: the last row alone.
static void cross_entropy_is_the_notebooks(void)
{
    float logits[3][5] = {
        {1.0f, 2.0f, 0.5f, 0.1f, 0.3f},
        {0.2f, 0.1f, 3.0f, 0.5f, 0.2f},
        {2.0f, 0.5f, 0.3f, 1.5f, 0.8f},
    };
    const int labels[] = {1, 2, 0};
    TokenLoss loss[3];
    cross_entropy(loss, logits[0], labels, NULL, (Objective){0}, 3, 5);
    float mean = (loss[0].nll + loss[1].nll + loss[2].nll) / 3;
    const float want = 0.5743009084217742f, masked = 0.8387781948089312f;
    CHECK_CLOSE("labels 1, 2, 0", &mean, &want, 1, 1e-6);
    CHECK_CLOSE("labels -100, -100, 0", &loss[2].nll, &masked, 1, 1e-6);
}

// Calls `check` for each line of a JSONL file but the first, which is its header.
static void each_line(const char *path, Model *m, Work *w, void (*check)(Model *m, Work *w, const cJSON *line))
{
    File f;
    Err e;
    must(file_map(&f, path, &e), &e);
    const char *p = (const char *)f.data, *end = p + f.size;
    for (size_t line = 1; p < end; line++) {
        const char *newline = memchr(p, '\n', (size_t)(end - p)), *stop = newline ? newline : end;
        cJSON *json = json_parse(p, (size_t)(stop - p), path, line, &e);
        must(json, &e);
        if (line > 1) check(m, w, json);
        cJSON_Delete(json);
        p = stop + 1;
    }
    file_unmap(&f);
}

// The one row of a line: its ids, and as targets the next ids, all of them or those that the mask supervises.
static Batch line_batch(const cJSON *line, bool masked)
{
    const cJSON *ids = json_get(line, "ids"), *id;
    const char *mask = json_string(line, "mask");
    int n = 0, length = cJSON_GetArraySize(ids), *row = mem_alloc((size_t)length, sizeof *row);
    int *targets = mem_alloc((size_t)length, sizeof *targets);
    cJSON_ArrayForEach(id, ids) row[n++] = id->valueint;
    for (int t = 0; t < length; t++) {
        bool target = t + 1 < length && (!masked || mask[t + 1] == '1');
        targets[t] = target ? row[t + 1] : IGNORE;
    }
    Batch b = batch_make(1, &length, row, targets, NULL);
    free(row);
    free(targets);
    return b;
}

static void check_line_losses(Model *m, Work *w, const cJSON *line)
{
    const char *name = json_string(line, "conv");
    const cJSON *want = json_get(line, "nll")->child;
    Batch full = line_batch(line, false), masked = line_batch(line, true);
    Pass all = pass_run(m, w, &full, 0), supervised = pass_run(m, w, &masked, 0);
    double mean = 0, masked_mean = 0;
    for (size_t t = 0; t < all.M; t++, want = want->next) {
        CHECK_MSG(fabs(all.nll[t] - want->valuedouble) <= 1e-4, "%s[%zu]: %.6f, expected %.6f", name, t, all.nll[t],
                  want->valuedouble);
        mean += all.nll[t] / (double)all.M;
    }
    CHECK(want == NULL);
    for (size_t t = 0; t < supervised.M; t++) masked_mean += supervised.nll[t] / (double)supervised.M;
    CHECK(supervised.M == (size_t)number(line, "n_supervised"));
    CHECK_MSG(fabs(mean - number(line, "full_mean")) <= 1e-5, "%s: mean %.6f", name, mean);
    CHECK_MSG(fabs(masked_mean - number(line, "masked_mean")) <= 1e-5, "%s: masked mean %.6f", name, masked_mean);
    pass_free(&all);
    pass_free(&supervised);
    batch_free(&full);
    batch_free(&masked);
}

// {"tensor": "wq", "index": [layer, row, column], "grad": g}; a tensor outside the layers has no layer in its index.
static float gradient_entry(const Model *m, const Pass *p, const cJSON *entry)
{
    const Config *c = &m->config;
    TensorId id = 0;
    while (strcmp(tensor_table[id].name, json_string(entry, "tensor")) != 0) id++;
    const cJSON *index = json_get(entry, "index")->child;
    size_t layer = tensor_table[id].per_layer ? (size_t)index->valueint : 0;
    if (tensor_table[id].per_layer) index = index->next;
    size_t at = (size_t)index->valueint;
    if (index->next) at = at * config_size(c, tensor_table[id].columns) + (size_t)index->next->valueint;
    return p->grads[tensor_offset(c, id, layer) + at];
}

static void check_line_gradient(Model *m, Work *w, const cJSON *line)
{
    Batch b = line_batch(line, true);
    Pass p = pass_run(m, w, &b, batch_divisor(&b));
    const cJSON *entry;
    cJSON_ArrayForEach(entry, json_get(line, "grads")) {
        double got = gradient_entry(m, &p, entry), want = number(entry, "grad");
        double tolerance = fabs(want) > 1e-6 ? 1e-3 * fabs(want) : 1e-8;
        CHECK_MSG(fabs(got - want) <= tolerance, "%s: %s: %.9g, expected %.9g", json_string(line, "conv"),
                  json_string(entry, "tensor"), got, want);
    }
    pass_free(&p);
    batch_free(&b);
}

static void with_stories260K(const char *vectors, void (*check)(Model *m, Work *w, const cJSON *line))
{
    Model m;
    Work w;
    Err e;
    const BatchSize size = {.tokens = 512, .row = 512, .rows = 1, .targets = 512};
    must(checkpoint_load(&m, "../shared/models/stories260K.bin", &e) && model_init_grads(&m, &e), &e);
    must(work_init(&w, &m.config, size, WORK_GRADIENT, &e), &e);
    each_line(vectors, &m, &w, check);
    work_free(&w);
    model_free(&m);
}

static void stories260K_losses_are_llama2cs(void)
{
    FOLDER_OR_SKIP("../shared/vectors/loss");
    with_stories260K("../shared/vectors/loss/stories260K.jsonl", check_line_losses);
}

static void stories260K_gradients_are_finite_differences(void)
{
    FOLDER_OR_SKIP("../shared/vectors/loss");
    with_stories260K("../shared/vectors/loss/stories260K_grad.jsonl", check_line_gradient);
}

// One row of model/tiny with the noise that transformers' NEFTune drew for it.
static void noise_as_in_transformers(void)
{
    Err e;
    SafeTensors f;
    Model m;
    size_t n;
    must(safetensors_open(&f, "tests/fixtures/neftune.safetensors", &e), &e);
    must(checkpoint_load(&m, "model/tiny", &e) && model_init_grads(&m, &e), &e);
    int *ids = fixture_ints(&f, &n, "", "ids"), *targets = fixture_ints(&f, NULL, "", "targets"), length = (int)n;
    float *loss = fixture_floats(&f, NULL, "loss"), *norm = fixture_floats(&f, NULL, "grad_norm"), mean[2] = {0};
    Batch b = batch_make(1, &length, ids, targets, NULL);
    b.noise.values = fixture_floats(&f, NULL, "noise");
    Work w = work_for(&m, &b, WORK_GRADIENT);
    TokenLoss *losses = mem_alloc(b.M, sizeof *losses);
    for (int noisy = 1; noisy >= 0; noisy--) {             // a loss without a gradient has no noise
        if (noisy) model_gradient(&m, &w, &b, losses, (double)b.M, false);
        else model_loss(&m, &w, &b, losses);
        for (size_t i = 0; i < b.M; i++) mean[noisy] += losses[i].loss / (float)b.M;
    }
    float got_norm = (float)grads_norm(&m);
    CHECK_CLOSE("loss", &mean[1], loss, 1, 1e-5);
    CHECK_CLOSE("grad_norm", &got_norm, norm, 1, 1e-4);
    CHECK_MSG(fabsf(mean[0] - *loss) > 1e-3f, "without noise %.9g, with noise %.9g", (double)mean[0], (double)*loss);
    free(ids);
    free(targets);
    free(loss);
    free(norm);
    free(losses);
    work_free(&w);
    batch_free(&b);
    model_free(&m);
    safetensors_close(&f);
}

// LLVM's OpenMP runtime loses a little memory of its own when the number of threads grows: no leak of ours.
const char *__lsan_default_suppressions(void);
const char *__lsan_default_options(void);
const char *__lsan_default_suppressions(void) { return "leak:libomp.so"; }
const char *__lsan_default_options(void) { return "print_suppressions=0"; }

int main(void)
{
    ops_init(0);
    RUN(losses_and_gradients_are_pytorchs);
    RUN(ten_steps_follow_pytorch);
    RUN(schedules_are_transformers);
    RUN(schedule_settings_are_checked);
    RUN(a_masked_position_has_no_gradient);
    RUN(a_masked_token_is_context);
    RUN(any_split_gives_the_same_gradient);
    RUN(the_head_in_slices_is_the_head);
    RUN(checkpointing_and_eval_change_no_bit);
    RUN(shares_are_the_whole);
    RUN(a_long_row_is_no_share);
    RUN(threads_change_no_bit);
    RUN(cross_entropy_is_the_notebooks);
    RUN(noise_as_in_transformers);
    RUN(stories260K_losses_are_llama2cs);
    RUN(stories260K_gradients_are_finite_differences);
    return check_report();
}
