// Adapters against PEFT: fixtures made by tests/oracle/lora.py, and the adapters of ../shared/vectors/lora.
#include "fixture.h"

#include "../model/checkpoint.h"
#include "../model/optim.h"
#include "../model/peft.h"
#include "../model/sample.h"
#include "../model/transformer.h"

#define FIXTURES "tests/fixtures/lora"
#define VECTORS "../shared/vectors/lora"

static void must(bool ok, const Err *e)
{
    if (ok) return;
    fprintf(stderr, "%s\n", e->text);
    exit(1);
}

// ---- what the oracle says -----------------------------------------------------------------------------------------

// A base with an adapter, its batch, and what is expected of it.
typedef struct { char folder[160]; cJSON *expected; SafeTensors tensors; Model model; Batch batch; Work work; } Case;

static cJSON *read_json(const char *folder, const char *name)
{
    Err e;
    char *path = path_join(folder, name);
    cJSON *json = json_load(path, &e);
    must(json, &e);
    free(path);
    return json;
}

static double number(const cJSON *json, const char *key) { return cJSON_GetNumberValue(json_get(json, key)); }

// Rows of input_ids and labels, `n` of them from number `first` on (n 0: all).
static Batch read_rows(const char *path, size_t first, size_t n)
{
    enum { MOST = 1 << 14 };
    Batch b;
    Err e;
    File f;
    must(batch_init(&b, (BatchSize){MOST, MOST, MOST, MOST}, &e) && file_map(&f, path, &e), &e);
    const char *text = (const char *)f.data, *end = text + f.size, *next;
    for (size_t i = 0; text < end && (!n || i < first + n); i++, text = next) {
        next = memchr(text, '\n', (size_t)(end - text)) + 1;
        cJSON *row = i < first ? NULL : json_parse(text, (size_t)(next - text), path, i + 1, &e);
        if (!row) continue;
        const cJSON *id = json_get(row, "input_ids")->child, *label = json_get(row, "labels")->child;
        for (; id; id = id->next, label = label->next) {
            if (label->valueint >= 0 && b.N > b.starts[b.S]) {
                b.at[b.M] = b.N - 1;
                b.target[b.M] = label->valueint;
                b.weight[b.M++] = 1;
            }
            b.ids[b.N++] = id->valueint;
        }
        b.starts[++b.S] = b.N;
        cJSON_Delete(row);
    }
    file_unmap(&f);
    return b;
}

static Work work_for(const Model *m, const Batch *b, WorkKind kind)
{
    Work w;
    Err e;
    must(work_init(&w, &m->config, (BatchSize){b->N, b->N, b->S, b->M}, kind, &e), &e);
    return w;
}

static Model open_adapter(const char *folder, const char *base)
{
    Model m = {0};
    Err e;
    char *path = adapter_base(folder, base, &e);
    must(path && checkpoint_load(&m, path, &e) && adapter_load(&m, folder, false, &e) && model_init_grads(&m, &e), &e);
    free(path);
    return m;
}

static Case case_open(const char *set, const char *name, const char *base, const char *rows)
{
    Case c;
    Err e;
    snprintf(c.folder, sizeof c.folder, "%s/%s", set, name);
    c.expected = read_json(c.folder, "expected.json");
    char *path = path_join(c.folder, "expected.safetensors"), *rows_path = path_join(set, rows);
    must(safetensors_open(&c.tensors, path, &e), &e);
    c.model = open_adapter(c.folder, base);
    c.batch = read_rows(rows_path, 0, 0);
    c.work = work_for(&c.model, &c.batch, WORK_GRADIENT);
    free(path);
    free(rows_path);
    return c;
}

static void case_close(Case *c)
{
    work_free(&c->work);
    batch_free(&c->batch);
    model_free(&c->model);
    safetensors_close(&c->tensors);
    cJSON_Delete(c->expected);
}

static double loss_of(const Model *m, Work *w, const Batch *b)
{
    double sum = 0;
    TokenLoss *loss = mem_alloc(b->M, sizeof *loss);
    model_loss(m, w, b, loss);
    for (size_t i = 0; i < b->M; i++) sum += loss[i].nll;
    free(loss);
    return sum / (double)b->M;
}

static double gradient_of(Model *m, Work *w, const Batch *b, double divisor, bool add)
{
    double sum = 0;
    TokenLoss *loss = mem_alloc(b->M, sizeof *loss);
    model_gradient(m, w, b, loss, divisor, add);
    for (size_t i = 0; i < b->M; i++) sum += loss[i].nll;
    free(loss);
    return sum / divisor;
}

static void check_near(const char *what, double got, double want, double tolerance)
{
    CHECK_MSG(fabs(got - want) <= tolerance * fabs(want), "%s: got %.9g, want %.9g", what, got, want);
}

// Numbers of the adapter's arena against the tensors PREFIX:NAME: within `relative` of each, and `of_largest` of the
// tensor's largest. They are written as an adapter, since only the file has PEFT's order.
static void check_arena(Case *c, float *numbers, const char *prefix, double relative, double of_largest)
{
    Err e;
    SafeTensors got;
    size_t n = 0;
    float *trained = c->model.trained;
    c->model.trained = numbers;
    must(adapter_save(&c->model, temp_dir, "base", &e), &e);
    must(safetensors_open(&got, temp_path("adapter_model.safetensors"), &e), &e);
    c->model.trained = trained;
    for (size_t i = 0; i < c->tensors.n; i++) {
        const StTensor *t = &c->tensors.tensors[i], *g;
        if (strncmp(t->name, prefix, strlen(prefix)) != 0) continue;
        if (!CHECK_MSG((g = safetensors_find(&got, t->name + strlen(prefix))), "%s: %s", c->folder, t->name)) continue;
        float *want = mem_alloc(t->count, sizeof *want), *is = mem_alloc(t->count, sizeof *is), largest = 0;
        CHECK(g->count == t->count);
        safetensors_read(&c->tensors, t, 0, t->count, want);
        safetensors_read(&got, g, 0, t->count, is);
        for (size_t k = 0; k < t->count; k++) largest = fmaxf(largest, fabsf(want[k]));
        for (size_t k = 0; k < t->count; k++)
            if (!CHECK_MSG(fabs((double)is[k] - want[k]) <= relative * fabs((double)want[k]) + of_largest * largest,
                           "%s: %s [%zu]: got %.9g, want %.9g", c->folder, t->name, k, is[k], want[k])) break;
        free(want);
        free(is);
        n++;
    }
    CHECK_MSG(n == got.n, "%s: %zu tensors %s, %zu of the adapter", c->folder, n, prefix, got.n);
    safetensors_close(&got);
}

// Greedy ids that follow `prompt`.
static void check_greedy(const char *what, const Model *m, const int *prompt, size_t n, const cJSON *want)
{
    Sampler s;
    Err e;
    Rng rng = rng_seed(1);
    size_t most = (size_t)cJSON_GetArraySize(want);
    must(sampler_init(&s, m, n + most + 1, &e), &e);
    sampler_feed(&s, prompt, n);
    for (const cJSON *v = want->child; v; v = v->next) {
        int id = sampler_choose(&s, 0, 1, &rng);
        if (!CHECK_MSG(id == v->valueint, "%s: greedy id %d, want %d", what, id, v->valueint)) break;
        sampler_feed(&s, &id, 1);
    }
    sampler_free(&s);
}

// ---- fixtures -----------------------------------------------------------------------------------------------------

static const char *const names[] = {"qv", "all_tokens", "untied_tokens", "patterns", "down"};
enum { N_NAMES = sizeof names / sizeof *names };

static Case fixture(size_t i) { return case_open(FIXTURES, names[i], NULL, "rows.jsonl"); }

static void losses_and_gradients_are_pefts(void)
{
    for (size_t i = 0; i < N_NAMES; i++) {
        Case c = fixture(i);
        double want = json_get(c.expected, "losses")->child->valuedouble;
        check_near(c.folder, loss_of(&c.model, &c.work, &c.batch), want, 1e-6);
        check_near(c.folder, gradient_of(&c.model, &c.work, &c.batch, (double)c.batch.M, false), want, 1e-6);
        CHECK((double)c.model.n_trained == number(c.expected, "trained"));
        check_arena(&c, c.model.grads, "grad:", 1e-4, 5e-6);
        check_greedy(c.folder, &c.model, c.batch.ids, c.batch.starts[1], json_get(c.expected, "greedy"));
        case_close(&c);
    }
}

static Optim adamw(const Model *m, double decay)
{
    Err e;
    Optim o = {.id = OPTIM_ADAMW, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f, .weight_decay = (float)decay};
    must(optim_init(&o, m->n_trained, &e), &e);
    return o;
}

static void five_updates_are_pytorchs(void)
{
    for (size_t i = 0; i < N_NAMES; i++) {
        Case c = fixture(i);
        Optim o = adamw(&c.model, number(c.expected, "weight_decay"));
        float *base = mem_alloc(c.model.n_params, sizeof *base);
        memcpy(base, c.model.params, c.model.n_params * sizeof *base);
        for (int step = 0; step < (int)number(c.expected, "steps"); step++) {
            double loss = gradient_of(&c.model, &c.work, &c.batch, (double)c.batch.M, false);
            double norm = grads_norm(&c.model);
            check_near("loss", loss, cJSON_GetArrayItem(json_get(c.expected, "losses"), step)->valuedouble, 1e-5);
            check_near("norm", norm, cJSON_GetArrayItem(json_get(c.expected, "grad_norms"), step)->valuedouble, 1e-5);
            optim_step(&o, &c.model, number(c.expected, "learning_rate"),
                       fmin(1, number(c.expected, "max_grad_norm") / (norm + 1e-6)));
        }
        check_arena(&c, c.model.trained, "final:", 1e-5, 1e-5);
        CHECK_MSG(memcmp(base, c.model.params, c.model.n_params * sizeof *base) == 0, "the base is not written to");
        free(base);
        optim_free(&o);
        case_close(&c);
    }
}

static void merged_is_pefts(void)
{
    for (size_t i = 0; i < N_NAMES; i++) {
        Case c = fixture(i);
        Err e;
        SafeTensors got;
        size_t n = 0;
        model_merge(&c.model);
        check_near(c.folder, loss_of(&c.model, &c.work, &c.batch), number(c.expected, "merged_loss"), 1e-6);
        must(formats[FORMAT_FOLDER].save(&c.model, temp_dir, NULL, &e) &&
             safetensors_open(&got, temp_path("model.safetensors"), &e), &e);
        for (size_t k = 0; k < c.tensors.n; k++) {
            const StTensor *t = &c.tensors.tensors[k], *g;
            if (strncmp(t->name, "merged:", 7) != 0 || !CHECK((g = safetensors_find(&got, t->name + 7)))) continue;
            float *want = mem_alloc(t->count, sizeof *want), *is = mem_alloc(t->count, sizeof *is);
            safetensors_read(&c.tensors, t, 0, t->count, want);
            safetensors_read(&got, g, 0, t->count, is);
            CHECK_CLOSE(t->name, is, want, t->count, 1e-7);
            free(want);
            free(is);
            n++;
        }
        CHECK(n > 0);
        safetensors_close(&got);
        case_close(&c);
    }
}

// What is read is what was written, to the bit.
static void an_adapter_comes_back(void)
{
    for (size_t i = 0; i < N_NAMES; i++) {
        Case c = fixture(i);
        Err e;
        char base[160];
        snprintf(base, sizeof base, FIXTURES "/%s", json_string(c.expected, "base"));
        must(adapter_save(&c.model, temp_dir, base, &e), &e);
        Model again = open_adapter(temp_dir, NULL);
        CHECK(again.n_trained == c.model.n_trained &&
              memcmp(again.trained, c.model.trained, again.n_trained * sizeof(float)) == 0);
        check_near(c.folder, loss_of(&again, &c.work, &c.batch), loss_of(&c.model, &c.work, &c.batch), 0);
        model_free(&again);
        case_close(&c);
    }
}

// ---- dropout ------------------------------------------------------------------------------------------------------

// Finite differences with the same mask, in each kind of work, whole and in two micro-batches.
static void gradients_with_dropout_are_finite_differences(void)
{
    for (size_t i = 0; i < N_NAMES; i++) {
        Case c = fixture(i);
        c.model.adapter->dropout = 0.4f;
        c.batch.dropout_seed = 5;
        size_t n = c.model.n_trained;
        float *grads = mem_alloc(n, sizeof *grads), *p = c.model.trained;
        double divisor = (double)c.batch.M, clean = loss_of(&c.model, &c.work, &c.batch);
        double loss = gradient_of(&c.model, &c.work, &c.batch, divisor, false);
        CHECK(fabs(loss - clean) > 1e-4 && loss_of(&c.model, &c.work, &c.batch) == clean);     // only in training
        memcpy(grads, c.model.grads, n * sizeof *grads);
        Work again = work_for(&c.model, &c.batch, WORK_CHECKPOINTING);
        gradient_of(&c.model, &again, &c.batch, divisor, false);
        CHECK_MSG(memcmp(grads, c.model.grads, n * sizeof *grads) == 0, "checkpointing");
        Batch part = c.batch;                              // rows 0 and 1, then 2 and 3
        part.N = part.starts[part.S = 2];
        while (part.at[part.M - 1] >= part.N) part.M--;
        size_t first = part.M, rest[3] = {0, c.batch.starts[3] - part.N, c.batch.starts[4] - part.N};
        gradient_of(&c.model, &c.work, &part, divisor, false);
        part = (Batch){.N = rest[2], .S = 2, .M = c.batch.M - first, .ids = c.batch.ids + part.N, .starts = rest,
                       .at = c.batch.at + first, .target = c.batch.target + first, .weight = c.batch.weight + first,
                       .dropout_seed = 5, .first_row = 2};
        for (size_t k = 0; k < part.M; k++) part.at[k] -= c.batch.starts[2];
        gradient_of(&c.model, &c.work, &part, divisor, true);
        for (size_t k = 0; k < part.M; k++) part.at[k] += c.batch.starts[2];
        CHECK_CLOSE("micro-batches", c.model.grads, grads, n, 2e-6);
        for (size_t k = 0; k < n; k += 7) {
            float was = p[k], h = 5e-3f;
            p[k] = was + h;
            adapter_changed(&c.model);
            double more = gradient_of(&c.model, &c.work, &c.batch, divisor, false);
            p[k] = was - h;
            adapter_changed(&c.model);
            double less = gradient_of(&c.model, &c.work, &c.batch, divisor, false);
            p[k] = was;
            adapter_changed(&c.model);
            double slope = (more - less) / (2 * (double)h);
            CHECK_MSG(fabs(slope - (double)grads[k]) < 2e-3 + 2e-2 * fabs(slope), "%s [%zu]: %g for %g", c.folder, k,
                      (double)grads[k], slope);
        }
        work_free(&again);
        free(grads);
        case_close(&c);
    }
}

// Over many seeds the mean of a branch is the branch without dropout, and a part p of its inputs is left out.
static void dropout_keeps_the_mean(void)
{
    Case c = fixture(0);
    enum { SEEDS = 4000 };
    Adapter *a = c.model.adapter;
    const Lora *l = lora_at(a, WV, 1);
    size_t in = 16, out = 8, kept = 0;
    float x[16], y[8], want[8] = {0}, mean[8] = {0};
    uint32_t key;
    for (size_t i = 0; i < in; i++) x[i] = (float)(i % 5) - 1.5f;
    Work w = {.keys = &key, .drops = true, .max.tokens = 1};
    Products p = {WV, WV, 0, out};
    l = lora_at(a, WV, 0);
    lora_forward(&c.model, NULL, p, (Tile){.R = 1}, want, x);
    a->dropout = 0.25f;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        memset(y, 0, sizeof y);
        key = lora_key(seed, 3, 4);
        lora_forward(&c.model, &w, p, (Tile){.R = 1}, y, x);
        for (size_t o = 0; o < out; o++) mean[o] += y[o] / SEEDS;
    }
    CHECK_CLOSE("mean", mean, want, out, 0.05);
    // A is a row of ones and B a column of ones: y counts what was kept
    memset(c.model.trained, 0, a->n * sizeof(float));
    for (size_t i = 0; i < in; i++) c.model.trained[l->a + i] = x[i] = 1;
    c.model.trained[l->b] = 1;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        memset(y, 0, sizeof y);
        key = lora_key(seed, 3, 4);
        lora_forward(&c.model, &w, p, (Tile){.R = 1}, y, x);
        kept += (size_t)lroundf(y[0] / l->scale * 0.75f);
    }
    check_near("kept", (double)kept / SEEDS / 16, 0.75, 0.01);
    case_close(&c);
}

// ---- a new adapter ------------------------------------------------------------------------------------------------

static Model new_adapter(const char *json_text)
{
    Model m;
    Err e;
    cJSON *json = cJSON_Parse(json_text);
    must(checkpoint_load(&m, FIXTURES "/base_tied", &e), &e);
    Adapter *a = adapter_plan(&m.config, json, "new", &e);
    must(a && model_adapt(&m, a, &e) && model_init_grads(&m, &e), &e);
    adapter_randomize(&m, 42);
    cJSON_Delete(json);
    return m;
}

// A is uniform in +-1/sqrt(in), B is zero: the model is what it was, and the first gradient is that of B alone.
static void a_new_adapter_changes_nothing(void)
{
    Err e;
    Model base;
    Model m = new_adapter("{\"peft_type\":\"LORA\",\"r\":8,\"lora_alpha\":16,\"target_modules\":\".*\","
                          "\"trainable_token_indices\":[1,2]}");
    must(checkpoint_load(&base, FIXTURES "/base_tied", &e), &e);
    Batch b = read_rows(FIXTURES "/rows.jsonl", 0, 0);
    Work w = work_for(&m, &b, WORK_GRADIENT);
    check_near("loss", loss_of(&m, &w, &b), loss_of(&base, &w, &b), 0);
    gradient_of(&m, &w, &b, (double)b.M, false);
    for (size_t i = 0; i < 2 * N_TENSORS; i++) {
        const Lora *l = &m.adapter->lora[i];
        float bound = 1 / sqrtf(i % N_TENSORS == W2 ? 20 : 16), largest = 0, da = 0, db = 0;
        double sum = 0, squares = 0, n = (double)(l->b - l->a);
        for (size_t k = l->a; k < l->b; k++) {
            largest = fmaxf(largest, fabsf(m.trained[k]));
            sum += m.trained[k], squares += (double)m.trained[k] * m.trained[k];
            da = fmaxf(da, fabsf(m.grads[k]));
        }
        for (size_t k = l->b; k < l[1].a; k++) db = fmaxf(db, fabsf(m.grads[k])), CHECK(m.trained[k] == 0);
        if (!l->r) continue;
        CHECK(largest <= bound && largest > 0.95f * bound && fabs(sum / n) < 0.2 * bound);
        check_near("standard deviation", sqrt(squares / n), bound / sqrt(3), 0.15);
        CHECK(da == 0 && db > 0);
    }
    work_free(&w);
    batch_free(&b);
    model_free(&m);
    model_free(&base);
}

// layers_to_transform may be one number. The keys behind it are no layers.
static void one_layer_may_be_a_number(void)
{
    Model m = new_adapter("{\"peft_type\":\"LORA\",\"target_modules\":[\"q_proj\"],\"layers_to_transform\":0,"
                          "\"lora_alpha\":1,\"r\":1}");
    CHECK(lora_at(m.adapter, WQ, 0)->r == 1 && lora_at(m.adapter, WQ, 1)->r == 0);
    model_free(&m);
}

// A head that stands beside the adapter's tensors is not passed over, as that of a tied model is.
static void a_tensor_left_over_is_refused(void)
{
    Err e;
    Model m;
    SafeTensors st;
    StTensor tensors[32] = {{.name = "lm_head.weight", .n_dims = 1, .shape = {1}, .count = 1}};
    const char folder[] = FIXTURES "/qv", base[] = FIXTURES "/base_tied";
    float *numbers = mem_alloc(1 << 16, sizeof *numbers);
    FileWriter w;
    must(safetensors_open(&st, FIXTURES "/qv/adapter_model.safetensors", &e) && st.n < 32, &e);
    memcpy(tensors + 1, st.tensors, st.n * sizeof *tensors);
    must(file_copy(path_in(folder, ADAPTER_CONFIG).text, temp_path(ADAPTER_CONFIG), &e), &e);
    must(safetensors_create(&w, temp_path("adapter_model.safetensors"), "", tensors, st.n + 1, &e), &e);
    must(file_write(&w, numbers, 4, &e), &e);
    for (size_t i = 1; i <= st.n; i++) must(file_write(&w, numbers, 4 * tensors[i].count, &e), &e);
    must(file_commit(&w, &e) && checkpoint_load(&m, base, &e), &e);
    CHECK_FAILS(adapter_load(&m, temp_dir, false, &e), e, "unexpected: lm_head.weight");
    free(numbers);
    model_free(&m);
    safetensors_close(&st);
}

// An adapter knows its base by its numbers, whatever file they are in; another base is refused, or a warning.
static void the_base_is_known_by_its_numbers(void)
{
    Err e;
    Model m, other;
    char base[] = FIXTURES "/base_tied";
    Case c = fixture(0);
    must(adapter_save(&c.model, temp_dir, base, &e) && checkpoint_load(&m, base, &e), &e);
    must(formats[FORMAT_BIN].save(&m, temp_path("base.bin"), NULL, &e), &e);
    model_free(&m);
    must(checkpoint_load(&m, temp_path("base.bin"), &e), &e);
    CHECK_MSG(adapter_load(&m, temp_dir, false, &e), "%s", e.text);
    model_free(&m);
    must(checkpoint_load(&m, base, &e), &e);
    m.params[7] += 1e-6f;
    CHECK_FAILS(adapter_load(&m, temp_dir, false, &e), e, "it was trained on another base: expected base_sha256 ");
    must(checkpoint_load(&other, base, &e), &e);
    other.params[7] += 1e-6f;
    CHECK_MSG(adapter_load(&other, temp_dir, true, &e), "%s", e.text);
    model_free(&m);
    model_free(&other);
    case_close(&c);
}

static void any_number_of_threads_gives_the_same_bits(void)
{
    Case c = case_open(FIXTURES, "all_tokens", NULL, "rows.jsonl");
    Batch b;
    Err e;
    enum { S = 40, T = 30 };                               // more than one tile
    must(batch_init(&b, (BatchSize){S * T, T, S, S * T}, &e), &e);
    for (size_t s = 0; s < S; s++)
        for (size_t t = 0; t < T; t++, b.N++, b.starts[s + 1] = b.N, b.S = s + 1) {
            b.ids[b.N] = (int)((s * 7 + t * t) % 41);
            if (t % 2) b.at[b.M] = b.N, b.target[b.M] = (int)(t % 41), b.weight[b.M++] = 1;
        }
    c.model.adapter->dropout = 0.1f;
    size_t n = c.model.n_trained;
    float *grads = mem_alloc(n, sizeof *grads);
    for (int threads = 1; threads <= 3; threads++) {
        ops_init(threads);
        Work w = work_for(&c.model, &b, WORK_GRADIENT);
        gradient_of(&c.model, &w, &b, (double)b.M, false);
        if (threads == 1) memcpy(grads, c.model.grads, n * sizeof *grads);
        CHECK_MSG(memcmp(grads, c.model.grads, n * sizeof *grads) == 0, "%d threads", threads);
        work_free(&w);
    }
    ops_init(0);
    free(grads);
    batch_free(&b);
    case_close(&c);
}

// ---- ../shared/vectors/lora ---------------------------------------------------------------------------------------

static void check_merged(const char *folder, Model *m, const cJSON *merged)
{
    Err e;
    Model base;
    SafeTensors before, after;
    char *path = adapter_base(folder, strstr(folder, "hub_name") ? "model/tiny" : NULL, &e);
    must(path && checkpoint_load(&base, path, &e), &e);
    model_merge(m);
    char *to = mem_strdup(temp_path("merged")), *from = mem_strdup(temp_path("unmerged"));
    must(dir_make(to, &e) && dir_make(from, &e) && formats[FORMAT_FOLDER].save(m, to, NULL, &e) &&
         formats[FORMAT_FOLDER].save(&base, from, NULL, &e) &&
         safetensors_open(&after, temp_path("merged/model.safetensors"), &e) &&
         safetensors_open(&before, temp_path("unmerged/model.safetensors"), &e), &e);
    for (size_t i = 0; i < after.n; i++) {
        const StTensor *t = &after.tensors[i];
        const cJSON *want = json_get(merged, t->name);
        float *a = mem_alloc(t->count, sizeof *a), *b = mem_alloc(t->count, sizeof *b), largest = 0;
        double change = 0;
        safetensors_read(&after, t, 0, t->count, a);
        safetensors_read(&before, safetensors_find(&before, t->name), 0, t->count, b);
        for (size_t k = 0; k < t->count; k++)
            change += ((double)a[k] - b[k]) * ((double)a[k] - b[k]), largest = fmaxf(largest, fabsf(a[k]));
        for (int k = 0; want && k < 4; k++) {
            double first = cJSON_GetArrayItem(json_get(want, "first4"), k)->valuedouble;
            CHECK_MSG(fabs(a[k] - first) <= 1e-6 * largest, "%s: %s [%d]: %.9g for %.9g", folder, t->name, k, a[k],
                      first);
        }
        if (want) check_near(t->name, sqrt(change), number(want, "norm_of_change"), 1e-5);
        else CHECK_MSG(change == 0, "%s: %s is changed", folder, t->name);
        free(a);
        free(b);
    }
    safetensors_close(&before);
    safetensors_close(&after);
    model_free(&base);
    free(path);
    free(to);
    free(from);
}

static void check_vector(const char *name)
{
    bool hub = strstr(name, "hub_name");
    Case c = case_open(VECTORS, name, hub ? "model/tiny" : NULL,
                       strncmp(name, "tiny", 4) == 0 ? "rows_tiny.jsonl" : "rows_stories.jsonl");
    const cJSON *greedy = json_get(c.expected, "greedy");
    int prompt[16];
    size_t n = 0;
    for (const cJSON *v = json_get(greedy, "prompt_ids")->child; v; v = v->next) prompt[n++] = v->valueint;
    CHECK((double)c.batch.M == number(c.expected, "supervised"));
    check_near(name, loss_of(&c.model, &c.work, &c.batch), number(c.expected, "loss"), 1e-6);
    gradient_of(&c.model, &c.work, &c.batch, (double)c.batch.M, false);
    check_arena(&c, c.model.grads, "grad:", 1e-4, 2e-5);
    if (number(greedy, "smallest_gap_of_logits") > 1e-3)
        check_greedy(name, &c.model, prompt, n, json_get(greedy, "new_ids"));
    check_merged(c.folder, &c.model, json_get(c.expected, "merged"));
    check_near(name, loss_of(&c.model, &c.work, &c.batch), number(c.expected, "merged_loss"), 1e-6);
    case_close(&c);
}

static void shared_vectors(void)
{
    FOLDER_OR_SKIP(VECTORS);
    static const char *const good[] = {
        "tiny_all_linear_r4", "tiny_bf16", "tiny_full_names", "tiny_hub_name", "tiny_layers_1_3", "tiny_list_mlp_r2",
        "tiny_patterns", "tiny_r8_qv", "tiny_regex_qk", "tiny_rslora_r8", "tiny_small_r1",
        "tiny_tokens_list_all_linear", "tiny_tokens_r4", "stories_all_linear_r4", "stories_r8_qv", "stories_rslora_r3"};
    static const char *const refused[][2] = {{"stories_dora", "use_dora"}, {"stories_save_embed", "modules_to_save"},
                                             {"stories_save_lm_head", "modules_to_save"},
                                             {"tiny_bias_lora_only", "bias"}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) check_vector(good[i]);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        Err e;
        Model m = {0};
        char folder[160];
        snprintf(folder, sizeof folder, VECTORS "/%s", refused[i][0]);
        char *base = adapter_base(folder, NULL, &e);
        must(base && checkpoint_load(&m, base, &e), &e);
        CHECK_FAILS(adapter_load(&m, folder, false, &e), e, refused[i][1]);
        model_free(&m);
        free(base);
    }
}

static bool load_bad(const char *folder, Err *e)
{
    Model m = {0};
    char *base = adapter_base(folder, NULL, e);
    bool ok = base && checkpoint_load(&m, base, e) && adapter_load(&m, folder, false, e);
    model_free(&m);
    free(base);
    return ok;
}

static void shared_bad_adapters_are_refused(void)
{
    FOLDER_OR_SKIP(VECTORS);
    Err e;
    File f;
    must(file_map(&f, VECTORS "/bad/expected.jsonl", &e), &e);
    size_t n = 0;
    for (const char *text = (const char *)f.data, *end = text + f.size, *next; text < end; text = next, n++) {
        next = memchr(text, '\n', (size_t)(end - text)) + 1;
        cJSON *line = json_parse(text, (size_t)(next - text), "expected.jsonl", n + 1, &e);
        must(line, &e);
        const char *name = json_string(line, "name"), *must_be = json_string(line, "must");
        char folder[160];
        snprintf(folder, sizeof folder, VECTORS "/bad/%s", name);
        bool loads = load_bad(folder, &e);
        if (strcmp(must_be, "load") == 0) CHECK_MSG(loads, "%s: %s", name, e.text);
        else if (strcmp(must_be, "refuse") == 0 || !loads) {
            CHECK_MSG(!loads, "%s is not refused", name);
            for (const cJSON *v = json_get(line, "message_names")->child; v && !loads; v = v->next)
                if (CHECK_MSG(strstr(e.text, v->valuestring), "%s: \"%s\" has no %s", name, e.text, v->valuestring))
                    n_refused++;
        }
        cJSON_Delete(line);
    }
    CHECK(n >= 37);
    file_unmap(&f);
}

// 30 steps of TRL's SFTTrainer.
static void shared_curve_of_trl(void)
{
    FOLDER_OR_SKIP(VECTORS);
    cJSON *expected = read_json(VECTORS "/curve", "expected.json");
    Case c = {.folder = VECTORS "/curve/final"};
    Err e;
    must(safetensors_open(&c.tensors, VECTORS "/curve/final/adapter_model.safetensors", &e), &e);
    c.model = open_adapter(VECTORS "/curve/init", NULL);
    Optim o = adamw(&c.model, 0);
    int step = 0;
    for (const cJSON *line = json_get(expected, "log")->child; line && step < 30; line = line->next, step++) {
        Batch b = read_rows(VECTORS "/curve/labels.jsonl", (size_t)step * 8, 8);
        Work w = work_for(&c.model, &b, WORK_GRADIENT);
        double loss = gradient_of(&c.model, &w, &b, (double)b.M, false), norm = grads_norm(&c.model);
        double want = number(line, "loss");
        CHECK_MSG(fabs(loss - want) < 1e-4, "step %d: loss %g for %g", step, loss, want);
        check_near("grad_norm", norm, number(line, "grad_norm"), 1e-4);
        optim_step(&o, &c.model, 1e-3, fmin(1, 1 / (norm + 1e-6)));
        work_free(&w);
        batch_free(&b);
    }
    CHECK(step == 30);
    check_arena(&c, c.model.trained, "", 1e-4, 1e-4);
    optim_free(&o);
    model_free(&c.model);
    safetensors_close(&c.tensors);
    cJSON_Delete(expected);
}

static void sha256_of_fips_180(void)
{
    char hex[65], *million = mem_alloc(1000000, 1);
    sha256_hex("", 0, hex);
    CHECK_STR(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    sha256_hex("abc", 3, hex);
    CHECK_STR(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, hex);
    CHECK_STR(hex, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    memset(million, 'a', 1000000);
    sha256_hex(million, 1000000, hex);
    CHECK_STR(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(million);
}

int main(void)
{
    ops_init(0);
    temp_begin();
    RUN(sha256_of_fips_180);
    RUN(losses_and_gradients_are_pefts);
    RUN(five_updates_are_pytorchs);
    RUN(merged_is_pefts);
    RUN(an_adapter_comes_back);
    RUN(gradients_with_dropout_are_finite_differences);
    RUN(dropout_keeps_the_mean);
    RUN(a_new_adapter_changes_nothing);
    RUN(one_layer_may_be_a_number);
    RUN(a_tensor_left_over_is_refused);
    RUN(the_base_is_known_by_its_numbers);
    RUN(any_number_of_threads_gives_the_same_bits);
    RUN(shared_vectors);
    RUN(shared_bad_adapters_are_refused);
    RUN(shared_curve_of_trl);
    temp_end();
    return check_report();
}
