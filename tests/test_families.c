// Families of models: small folders by transformers, with its losses, gradients and texts. tests/oracle/families.py
// made tests/fixtures/families; the folders of ../shared are the same in kind.
#include "records.h"

#include "../model/checkpoint.h"
#include "../model/diagnose.h"
#include "../model/optim.h"
#include "../model/peft.h"
#include "../model/sample.h"

static const char *const fixtures[] = {"qwen2", "qwen3", "qwen3_bias", "smollm3"};
enum { N_FIXTURES = sizeof fixtures / sizeof *fixtures, MAX_TOKENS = 400 };

static void must(bool ok, const Err *e)
{
    if (ok) return;
    fprintf(stderr, "%s\n", e->text);
    exit(1);
}

// ---- a folder -----------------------------------------------------------------------------------------------------

typedef struct {
    Model model;
    Batch batch;
    Work work;
    TokenLoss loss[MAX_TOKENS];
    cJSON *expected, *rows;
    SafeTensors tensors;
    size_t longest;
} Folder;

// The batch of all rows: the token before one with a label predicts it.
static Batch read_batch(const cJSON *rows, size_t *longest)
{
    BatchSize size = {.tokens = MAX_TOKENS, .row = MAX_TOKENS, .rows = 16, .targets = MAX_TOKENS};
    Batch b;
    Err e;
    const cJSON *row;
    must(batch_init(&b, size, &e), &e);
    cJSON_ArrayForEach(row, rows) {
        const cJSON *id = json_get(row, "input_ids")->child, *label = json_get(row, "labels")->child;
        for (size_t at = b.starts[b.S]; id; at++, id = id->next, label = label->next) {
            b.ids[b.N++] = id->valueint;
            if (at == b.starts[b.S] || label->valueint == -100) continue;
            b.at[b.M] = at - 1;
            b.target[b.M] = label->valueint;
            b.weight[b.M++] = 1;
        }
        b.starts[++b.S] = b.N;
        if (b.N - b.starts[b.S - 1] > *longest) *longest = b.N - b.starts[b.S - 1];
    }
    return b;
}

static void work_of(Folder *f, WorkKind kind)
{
    Err e;
    work_free(&f->work);
    BatchSize size = {.tokens = f->batch.N, .row = f->longest, .rows = f->batch.S, .targets = f->batch.M};
    must(work_init(&f->work, &f->model.config, size, kind, &e), &e);
}

static Folder folder_open(const char *path)
{
    Folder f = {0};
    Err e;
    must(checkpoint_load(&f.model, path, &e) && model_init_grads(&f.model, &e), &e);
    must(safetensors_open(&f.tensors, path_in(path, "expected.safetensors").text, &e), &e);
    must((f.expected = json_load(path_in(path, "expected.json").text, &e)) != NULL, &e);
    f.rows = read_lines(path_in(path, "rows.jsonl").text);
    f.batch = read_batch(f.rows, &f.longest);
    work_of(&f, WORK_GRADIENT);
    return f;
}

static void folder_close(Folder *f)
{
    work_free(&f->work);
    batch_free(&f->batch);
    model_free(&f->model);
    safetensors_close(&f->tensors);
    cJSON_Delete(f->expected);
    cJSON_Delete(f->rows);
}

static double gradient(Folder *f)
{
    double sum = 0;
    model_gradient(&f->model, &f->work, &f->batch, f->loss, (double)f->batch.M, false);
    for (size_t i = 0; i < f->batch.M; i++) sum += (double)f->loss[i].nll;
    return sum / (double)f->batch.M;
}

// ---- transformers' numbers ----------------------------------------------------------------------------------------

// In Hugging Face's order: a pair's numbers stand in the two halves of its head.
static float *in_halves(const Config *c, TensorId id, const float *pairs)
{
    size_t n = tensor_size(c, id), D = (size_t)c->head_dim;
    size_t width = tensor_table[id].rows == SIZE_ONE ? 1 : (size_t)c->dim;
    float *halves = mem_alloc(n, sizeof *halves);
    memcpy(halves, pairs, n * sizeof *pairs);
    for (size_t r = 0; tensor_table[id].heads_of_pairs && r < n / width; r++) {
        size_t i = r % D, from = r - i + i % (D / 2) * 2 + i / (D / 2);
        memcpy(halves + r * width, pairs + from * width, width * sizeof *pairs);
    }
    return halves;
}

// The norm of each tensor's gradient, and where the numbers are there, these.
static void check_gradients(const char *path, const Folder *f)
{
    const Config *c = &f->model.config;
    const cJSON *norms = json_get(f->expected, "gradient_norms");
    int n = 0;
    for (TensorId id = 0; id < N_TENSORS; id++)
        for (size_t l = 0; l < tensor_count(c, id); l++, n++) {
            char name[128], what[400] = "grad:";
            tensor_hf_name(id, l, name);
            const cJSON *norm = json_get(norms, name);
            const float *got = f->model.grads + tensor_offset(c, id, l);
            double sum = 0;
            for (size_t i = 0; i < tensor_size(c, id); i++) sum += (double)got[i] * (double)got[i];
            CHECK_MSG(norm && fabs(sqrt(sum) - norm->valuedouble) <= 1e-4 * norm->valuedouble, "%s: %s: norm %g", path,
                      name, sqrt(sum));
            strcat(what, name);
            const StTensor *t = safetensors_find(&f->tensors, what);
            if (!t || !CHECK_MSG(t->count == tensor_size(c, id), "%s: %s", path, name)) continue;
            float *want = mem_alloc(t->count, sizeof *want), *halves = in_halves(c, id, got);
            safetensors_read(&f->tensors, t, 0, t->count, want);
            snprintf(what, sizeof what, "%s: %s", path, name);
            CHECK_CLOSE(what, halves, want, t->count, 1e-5);
            free(want);
            free(halves);
        }
    CHECK_MSG(n == cJSON_GetArraySize(norms), "%s: %d tensors", path, n);
}

static int best_of(const Sampler *s)
{
    int best = 0;
    for (int v = 1; v < s->model->config.vocab_size; v++)
        if (s->logits[v] > s->logits[best]) best = v;
    return best;
}

// The sampler's logits of the last four tokens of row 0, and the text that follows its first six.
static void check_sampler(const char *path, const Folder *f)
{
    const StTensor *t = safetensors_find(&f->tensors, "logits_last4");
    size_t V = f->model.shape.V, n = f->batch.starts[1];
    float *want = mem_alloc(4 * V, sizeof *want);
    const cJSON *id = json_get(f->expected, "greedy_ids_from_first_6_of_row_0")->child;
    Sampler s;
    Err e;
    must(t && t->count == 4 * V && sampler_init(&s, &f->model, n + 32, &e), &e);
    safetensors_read(&f->tensors, t, 0, t->count, want);
    for (size_t i = 0; i < n; i++) {
        sampler_feed(&s, f->batch.ids[i]);
        if (i + 4 >= n) CHECK_CLOSE(path, s.logits, want + (i + 4 - n) * V, V, 1e-5);
    }
    sampler_reset(&s);
    for (int i = 0; i < 6; i++) sampler_feed(&s, f->batch.ids[i]);
    for (; id && s.n_cached < (size_t)f->model.config.seq_len; id = id->next) {        // up to the window
        int best = best_of(&s);
        if (!CHECK_MSG(best == id->valueint, "%s: text: %d, wanted %d", path, best, id->valueint)) break;
        sampler_feed(&s, best);
    }
    sampler_free(&s);
    free(want);
}

static void check_folder(const char *path)
{
    Folder f = folder_open(path);
    double loss = gradient(&f), want = json_get(f.expected, "loss")->valuedouble;
    CHECK_MSG(fabs(loss - want) <= 1e-5 * want, "%s: loss %.9g, wanted %.9g", path, loss, want);
    check_gradients(path, &f);
    check_sampler(path, &f);
    folder_close(&f);
}

static Path fixture(size_t i) { return path_in("tests/fixtures/families", fixtures[i]); }

static void losses_gradients_and_texts_are_transformers(void)
{
    for (size_t i = 0; i < N_FIXTURES; i++) check_folder(fixture(i).text);
}

// A folder of the status "either" may be refused, by a key, or have a window that its rows do not fit in.
static void so_are_those_of_other_folders(void)
{
    static const char all[] = "../shared/vectors/families";
    FOLDER_OR_SKIP("../shared/vectors/families");
    DIR *dir = opendir(all);
    int n = 0, refused = 0;
    for (struct dirent *d; dir && (d = readdir(dir));) {
        Path path = path_in(all, d->d_name);
        Config c;
        Err e;
        cJSON *expected = file_exists(path_in(path.text, "config.json").text)
                              ? json_load(path_in(path.text, "expected.json").text, &e) : NULL;
        if (!expected) continue;
        bool either = strcmp(json_string(expected, "status"), "either") == 0, ok = checkpoint_config(&c, path.text, &e);
        cJSON_Delete(expected);
        n++;
        if (either && (!ok || (c.windowed && c.seq_len == 8))) refused++;
        else if (CHECK_MSG(ok, "%s", e.text)) check_folder(path.text);
    }
    if (dir) closedir(dir);
    CHECK_MSG(n == 14 && refused == 3, "%d folders, %d refused", n, refused);
}

// ---- what must not change the numbers -----------------------------------------------------------------------------

static void checkpointing_and_accumulation_change_nothing(void)
{
    for (size_t i = 0; i < N_FIXTURES; i++) {
        Folder f = folder_open(fixture(i).text);
        size_t n = f.model.n_params;
        float *once = mem_alloc(n, sizeof *once);
        double loss = gradient(&f);
        memcpy(once, f.model.grads, n * sizeof *once);
        work_of(&f, WORK_CHECKPOINTING);
        CHECK(gradient(&f) == loss && memcmp(once, f.model.grads, n * sizeof *once) == 0);
        model_gradient(&f.model, &f.work, &f.batch, f.loss, (double)f.batch.M, true);
        for (size_t k = 0; k < n; k++) once[k] *= 2;
        CHECK_CLOSE(fixtures[i], f.model.grads, once, n, 1e-6);
        work_of(&f, WORK_LOSS);
        double sum = 0;
        model_loss(&f.model, &f.work, &f.batch, f.loss);
        for (size_t k = 0; k < f.batch.M; k++) sum += (double)f.loss[k].nll;
        CHECK(sum / (double)f.batch.M == loss);
        free(once);
        folder_close(&f);
    }
}

// In a model whose products are cut into several pieces, with each of the families' tensors.
static void any_number_of_threads_gives_the_same_bits(void)
{
    Config c = {.dim = 96, .hidden_dim = 200, .n_layers = 3, .n_heads = 6, .n_kv_heads = 2, .head_dim = 20,
                .vocab_size = 300, .seq_len = 300, .rope_theta = 1e4f, .norm_eps = 1e-6f, .qkv_bias = true,
                .o_bias = true, .qk_norm = true, .no_rope = {[1] = true}};
    Folder f = {.longest = 300};
    Err e;
    must(model_init(&f.model, &c, &e) && model_init_grads(&f.model, &e), &e);
    model_randomize(&f.model, 3);
    must(batch_init(&f.batch, (BatchSize){.tokens = 1500, .rows = 5, .targets = MAX_TOKENS}, &e), &e);
    for (Batch *b = &f.batch; b->N < 1500; b->N++) {
        b->ids[b->N] = (int)(b->N * 7 % 300);
        if (b->N % 300 == 299) b->starts[++b->S] = b->N + 1;
        if (b->N % 4 || b->N % 300 == 299) continue;
        b->at[b->M] = b->N;
        b->target[b->M] = (int)(b->N % 300);
        b->weight[b->M++] = 1;
    }
    float *first = mem_alloc(f.model.n_params, sizeof *first);
    double loss = 0;
    for (int threads = 1; threads <= 4; threads++) {
        ops_init(threads);
        work_of(&f, WORK_GRADIENT);
        double got = gradient(&f);
        if (threads == 1) memcpy(first, f.model.grads, f.model.n_params * sizeof *first), loss = got;
        CHECK_MSG(got == loss && memcmp(first, f.model.grads, f.model.n_params * sizeof *first) == 0, "%d threads",
                  threads);
    }
    ops_init(0);
    free(first);
    work_free(&f.work);
    batch_free(&f.batch);
    model_free(&f.model);
}

// PEFT's on all linears, beside biases and under norms of heads.
static void adapters_are_pefts(void)
{
    static const char *const names[] = {"qwen2", "qwen3_bias"};
    for (size_t i = 0; i < 2; i++) {
        Path base = path_in("tests/fixtures/families", names[i]), dir = path_in(base.text, "adapter");
        Folder f = folder_open(base.text);
        Err e;
        cJSON *want = json_load(path_in(dir.text, "expected.json").text, &e);
        must(want && adapter_load(&f.model, dir.text, true, &e), &e);
        free(f.model.grads);
        must(model_init_grads(&f.model, &e), &e);
        double loss = gradient(&f);
        CHECK_MSG(fabs(loss - json_get(want, "loss")->valuedouble) < 1e-5 * loss, "%s: loss %.9g", names[i], loss);
        int n = 0;
        for (size_t k = 0; k < f.model.shape.L * N_TENSORS; k++) {
            const Lora l = f.model.adapter->lora[k];
            const size_t begin[] = {l.a, l.b, f.model.adapter->lora[k + 1].a};
            for (int part = 0; l.r && part < 2; part++, n++) {
                char name[128];
                double sum = 0;
                for (size_t g = begin[part]; g < begin[part + 1]; g++) sum += pow((double)f.model.grads[g], 2);
                lora_name(k, "AB"[part], name);
                const cJSON *norm = json_get(json_get(want, "gradient_norms"), name);
                CHECK_MSG(norm && fabs(sqrt(sum) - norm->valuedouble) < 1e-5 * norm->valuedouble, "%s: %s: %g",
                          names[i], name, sqrt(sum));
            }
        }
        CHECK(n == cJSON_GetArraySize(json_get(want, "gradient_norms")) && n == 2 * 7 * 2);
        model_merge(&f.model);
        free(f.model.grads);
        must(model_init_grads(&f.model, &e), &e);
        loss = gradient(&f);
        CHECK_MSG(fabs(loss - json_get(want, "merged_loss")->valuedouble) < 1e-5 * loss, "%s: %.9g", names[i], loss);
        cJSON_Delete(want);
        folder_close(&f);
    }
}

// As in transformers' Trainer: weight decay is for matrices.
static void norms_and_biases_do_not_decay(void)
{
    Folder f = folder_open("tests/fixtures/families/qwen3_bias");
    Model *m = &f.model;
    Optim o = {.id = OPTIM_SGD, .weight_decay = 0.5f};
    Err e;
    float *before = mem_alloc(m->n_params, sizeof *before);
    memcpy(before, m->params, m->n_params * sizeof *before);
    memset(m->grads, 0, m->n_params * sizeof *before);
    must(optim_init(&o, m->n_params, &e), &e);
    optim_step(&o, m, 0.5, 1);
    for (TensorId id = 0; id < N_TENSORS; id++)
        for (size_t l = 0, at; l < tensor_count(&m->config, id); l++) {
            bool vector = strstr(tensor_table[id].hf_name, "norm") || strstr(tensor_table[id].hf_name, "bias");
            at = tensor_offset(&m->config, id, l);
            CHECK_MSG(fabsf(m->params[at] - before[at] * (vector ? 1 : 0.75f)) <= 1e-6f * fabsf(before[at]), "%s",
                      tensor_table[id].name);
        }
    optim_free(&o);
    free(before);
    folder_close(&f);
}

// Weights, and a forward, that are not finite.
static void bad_numbers_are_found(void)
{
    static const struct { TensorId id; const char *place; } cases[] = {
        {BQ, "layer 1: queries, keys and values"}, {BV, "layer 1: queries, keys and values"},
        {BO, "layer 1: attention output (o_proj)"}, {Q_NORM, "layer 1: q_norm, k_norm, scores"},
        {K_NORM, "layer 1: q_norm, k_norm, scores"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Folder f = folder_open("tests/fixtures/families/qwen3_bias");
        Place place = {""};
        char name[96];
        CHECK(!diagnose_weights(&f.model, &place) && !diagnose_forward(&f.model, &f.work, &f.batch, f.loss, &place));
        model_param(&f.model, cases[i].id, 1)[0] = NAN;
        CHECK(diagnose_forward(&f.model, &f.work, &f.batch, f.loss, &place));
        CHECK_STR(place.text, cases[i].place);
        tensor_hf_name(cases[i].id, 1, name);
        CHECK(diagnose_weights(&f.model, &place) && strstr(place.text, name));
        gradient(&f);
        CHECK(diagnose_gradients(&f.model, &place));
        folder_close(&f);
    }
}

// Through a folder and back.
static void folders_come_back(void)
{
    for (size_t i = 0; i < N_FIXTURES; i++) {
        Path dir = path_in(temp_dir, fixtures[i]);
        Model m, again;
        Err e;
        must(checkpoint_load(&m, fixture(i).text, &e) && dir_make(dir.text, &e), &e);
        must(formats[FORMAT_FOLDER].save(&m, dir.text, NULL, &e) && checkpoint_load(&again, dir.text, &e), &e);
        CHECK(again.n_params == m.n_params && memcmp(again.params, m.params, 4 * m.n_params) == 0);
        CHECK(memcmp(again.cos_sin, m.cos_sin, (size_t)m.config.seq_len * m.shape.D * 4) == 0);
        CHECK(memcmp(again.config.no_rope, m.config.no_rope, sizeof m.config.no_rope) == 0);
        CHECK(again.config.family == m.config.family && again.config.norm_eps == m.config.norm_eps);
        CHECK_FAILS(formats[FORMAT_BIN].save(&m, temp_path("m.bin"), NULL, &e), e,
                    families[m.config.family].architecture);
        model_free(&m);
        model_free(&again);
    }
}

// ---- config.json --------------------------------------------------------------------------------------------------

static double number(const cJSON *object, const char *key) { return json_get(object, key)->valuedouble; }

static void absent_keys_have_the_familys_defaults(void)
{
    Err e;
    cJSON *all = json_load("tests/fixtures/families/defaults.json", &e);
    const cJSON *one, *v;
    must(all != NULL, &e);
    cJSON_ArrayForEach(one, all) {
        const cJSON *means = json_get(one, "means");
        char *text = cJSON_PrintUnformatted(json_get(one, "config"));
        Config c;
        bool no_rope[MAX_LAYERS] = {0};
        if (!CHECK_MSG(config_from_json(&c, json_get(one, "config"), "test", &e), "%s: %s", text, e.text)) continue;
        int window = (int)number(means, "sliding_window"), most = (int)number(means, "max_position_embeddings");
        cJSON_ArrayForEach(v, json_get(means, "no_rope")) no_rope[v->valueint] = true;
        CHECK_MSG(params_count(&c) == (size_t)number(means, "parameters"), "%s: %zu numbers", text, params_count(&c));
        CHECK_MSG(c.n_kv_heads == (int)number(means, "num_key_value_heads"), "%s: %d", text, c.n_kv_heads);
        CHECK_MSG(c.head_dim == (int)number(means, "head_dim"), "%s: %d", text, c.head_dim);
        CHECK_MSG(c.seq_len == (window ? window : most) && c.windowed == (window > 0), "%s: %d", text, c.seq_len);
        CHECK_MSG(c.tied == cJSON_IsTrue(json_get(means, "tie_word_embeddings")), "%s: tied", text);
        CHECK_MSG(c.rope_theta == (float)number(means, "rope_theta"), "%s: %g", text, (double)c.rope_theta);
        CHECK_MSG(c.rope_scaling.factor == (float)number(means, "factor"), "%s: factor", text);
        CHECK_MSG(memcmp(c.no_rope, no_rope, sizeof no_rope) == 0, "%s: no_rope", text);
        CHECK_MSG(c.o_bias == cJSON_IsTrue(json_get(means, "o_bias")) &&
                  c.qkv_bias == cJSON_IsTrue(json_get(means, "qkv_bias")), "%s: biases", text);
        cJSON_free(text);
    }
    cJSON_Delete(all);
}

static void bad_keys_are_refused(void)
{
    static const struct { const char *keys, *message; } bad[] = {
        {"'model_type': 'gemma3'", "model_type: expected one of llama, mistral, qwen2, qwen3, smollm3, found gemma3"},
        {"'architectures': ['Qwen3MoeForCausalLM']", "Qwen3ForCausalLM, SmolLM3ForCausalLM, found Qwen3MoeForCausalLM"},
        {"'model_type': 'smollm3', 'no_rope_layers': [1, 0, 1]", "0 or 1 for each of 4 layers, found nothing"},
        {"'model_type': 'smollm3', 'no_rope_layers': [1, 0, 2, 1]", "0 or 1 for each of 4 layers, found 2"},
        {"'model_type': 'smollm3', 'no_rope_layers': {'a': 1}", "0 or 1 for each of 4 layers, found nothing"},
        {"'model_type': 'smollm3', 'no_rope_layer_interval': 0", "no_rope_layer_interval: expected a whole number"},
        {"'no_rope_layers': [1, 0, 1, 0]", "no_rope_layers: expected none for model_type llama"},
        {"'layer_types': ['full_attention', 'linear_attention']", "layer_types: expected full_attention or sliding_at"},
        {"'layer_types': [7]", "layer_types: expected full_attention or sliding_attention, found a number"},
        {"'layer_types': ['sliding_attention']", "sliding_window: expected a whole number from 1"},
        {"'model_type': 'qwen2', 'use_sliding_window': true, 'sliding_window': 0, 'max_window_layers': 0",
         "sliding_window: expected a whole number from 1 to 2147483647, found 0"},
        {"'model_type': 'qwen2', 'max_window_layers': -1", "max_window_layers: expected a whole number"},
        {"'model_type': 'qwen2', 'use_sliding_window': 'yes'", "use_sliding_window: expected true or false"},
        {"'model_type': 'qwen3', 'head_dim': 7", "head_dim: expected an even number, found 7"},
        {"'model_type': 'qwen3', 'num_hidden_layers': 1025", "n_layers: expected 1 to 1024, found 1025"},
        {"'model_type': 'smollm3', 'mlp_bias': true", "mlp_bias is not supported"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[512];
        Config c;
        Err e = {""};
        snprintf(text, sizeof text, "{'hidden_size': 64, 'intermediate_size': 8, 'num_attention_heads': 32,"
                 " 'vocab_size': 16, 'num_hidden_layers': 4, %s}", bad[i].keys);
        cJSON *json = json_parse(quoted(text), strlen(text), "test", 0, &e);
        must(json != NULL, &e);
        CHECK_FAILS(config_from_json(&c, json, "test", &e), e, bad[i].message);
        cJSON_Delete(json);
    }
}

int main(void)
{
    ops_init(0);
    temp_begin();
    RUN(losses_gradients_and_texts_are_transformers);
    RUN(so_are_those_of_other_folders);
    RUN(checkpointing_and_accumulation_change_nothing);
    RUN(any_number_of_threads_gives_the_same_bits);
    RUN(adapters_are_pefts);
    RUN(norms_and_biases_do_not_decay);
    RUN(bad_numbers_are_found);
    RUN(folders_come_back);
    RUN(absent_keys_have_the_familys_defaults);
    RUN(bad_keys_are_refused);
    temp_end();
    return check_report();
}
