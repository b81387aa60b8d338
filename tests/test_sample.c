// The sampler: its logits do not depend on how the tokens come in, nor on the number of threads, and are those of the
// forward of transformer.c; and which token it chooses.
#include "check.h"

#include "../model/peft.h"
#include "../model/sample.h"
#include "../model/transformer.h"

#include <stdlib.h>
#include <string.h>

enum { N = 600, V = 700 };     // more tokens than go in at a time

// Products and attention are so large that threads share them. Weights are so large that the attention is not flat.
static void make_model(Model *m, FamilyId family, int dim, int heads, int kv_heads)
{
    Config c = {.dim = dim, .hidden_dim = 2 * dim, .n_layers = 3, .n_heads = heads, .n_kv_heads = kv_heads,
                .head_dim = dim / heads, .vocab_size = V, .seq_len = N + 40, .family = family, .tied = true,
                .norm_eps = 1e-5f, .rope_theta = 10000};
    Err e;
    c.qk_norm = family == QWEN3;
    c.qkv_bias = family == QWEN2;
    c.no_rope[1] = family == SMOLLM3;
    if (!CHECK_MSG(model_init(m, &c, &e), "%s", e.text)) exit(1);
    model_randomize(m, 3);
    for (size_t i = 0; i < m->n_params; i++) m->params[i] *= 4;
    Rng rng = rng_seed(8);
    for (TensorId id = BQ; id < N_TENSORS; id++)
        for (size_t l = 0; l < tensor_count(&c, id); l++)
            for (size_t i = 0; i < tensor_size(&c, id); i++)
                model_param(m, id, l)[i] = (float)(1 + 0.5 * rng_normal(&rng));
}

static void add_adapter(Model *m)
{
    Err e;
    cJSON *json = cJSON_Parse("{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":8,\"target_modules\":[\"q_proj\","
                              "\"k_proj\",\"v_proj\",\"o_proj\",\"gate_proj\",\"up_proj\",\"down_proj\"]}");
    Adapter *a = adapter_plan(&m->config, json, "lora", &e);
    cJSON_Delete(json);
    if (!CHECK_MSG(a && model_adapt(m, a, &e), "%s", e.text)) exit(1);
    Rng rng = rng_seed(9);
    for (size_t i = 0; i < m->n_trained; i++) m->trained[i] = (float)(0.1 * rng_normal(&rng));
}

static const int *tokens(void)
{
    static int ids[N];
    Rng rng = rng_seed(5);
    for (size_t i = 0; i < N; i++) ids[i] = (int)rng_below(&rng, V);
    return ids;
}

// The logits after N tokens that come in pieces of `first`, `second`, `first`, ... tokens, and 20 tokens of its own.
static void run(const Model *m, size_t first, size_t second, float logits[V], int text[20])
{
    Sampler s;
    Err e;
    const int *ids = tokens();
    if (!CHECK_MSG(sampler_init(&s, m, N + 20, &e), "%s", e.text)) exit(1);
    for (size_t at = 0, n = first; at < N; at += n, n = n == first ? second : first) {
        if (n > N - at) n = N - at;
        sampler_feed(&s, ids + at, n);
        if (n == N - at) break;
    }
    CHECK(s.n_cached == N);
    memcpy(logits, s.logits, V * sizeof *logits);
    for (size_t i = 0; i < 20; i++) {
        text[i] = sampler_choose(&s, 0, 1, NULL);
        sampler_feed(&s, &text[i], 1);
    }
    sampler_free(&s);
}

// The nll of each token under the forward of transformer.c is that of the logits.
static void check_forward(const Model *m, const float *logits)
{
    BatchSize size = {N, N, 1, 1};
    Batch b;
    Work w;
    Err e;
    if (!CHECK(batch_init(&b, size, &e) && work_init(&w, &m->config, size, WORK_LOSS, &e))) exit(1);
    double sum = 0, worst = 0;
    for (size_t v = 0; v < V; v++) sum += exp((double)logits[v]);
    for (int target = 0; target < V; target += 50) {
        TokenLoss loss;
        memcpy(b.ids, tokens(), N * sizeof *b.ids);
        b.N = b.starts[1] = N;
        b.S = b.M = 1;
        b.at[0] = N - 1;
        b.target[0] = target;
        model_loss(m, &w, &b, &loss);
        worst = fmax(worst, fabs((double)loss.nll - (log(sum) - (double)logits[target])));
    }
    CHECK_MSG(worst < 1e-4, "off by %g", worst);
    work_free(&w);
    batch_free(&b);
}

static void check_pieces(Model *m)
{
    static const size_t pieces[][2] = {{N, N}, {7, 1}, {513, 2}, {300, 16}};
    static float one_by_one[V], logits[V];
    int text[20], other[20];
    run(m, 1, 1, one_by_one, text);
    check_forward(m, one_by_one);
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        run(m, pieces[i][0], pieces[i][1], logits, other);
        CHECK_CLOSE("logits", logits, one_by_one, V, 1e-5);
        CHECK(memcmp(text, other, sizeof text) == 0);
    }
    model_free(m);
}

static void test_pieces(void)
{
    Model m;
    make_model(&m, LLAMA, 96, 8, 2);                       // heads of 12, which is no whole vector
    check_pieces(&m);
    make_model(&m, QWEN2, 64, 8, 8);
    check_pieces(&m);
    make_model(&m, QWEN3, 64, 4, 1);
    check_pieces(&m);
    make_model(&m, SMOLLM3, 64, 4, 2);
    check_pieces(&m);
    make_model(&m, LLAMA, 64, 4, 2);
    add_adapter(&m);
    check_pieces(&m);
}

static void test_threads(void)
{
    static float first[V], logits[V];
    int text[20], other[20];
    Model m;
    make_model(&m, LLAMA, 256, 4, 2);
    for (size_t pieces = 1; pieces <= N; pieces += N - 1)
        for (int threads = 1; threads <= 5; threads++) {
            ops_init(threads);
            run(&m, pieces, pieces, threads > 1 ? logits : first, threads > 1 ? other : text);
            if (threads == 1) continue;
            CHECK_MSG(memcmp(first, logits, sizeof first) == 0, "%d threads", threads);
            CHECK(memcmp(text, other, sizeof text) == 0);
        }
    model_free(&m);
}

// A cache that grows while it is used holds what one of full size holds. It grows with the text, and never above the
// model's limit.
static void test_growing_cache(void)
{
    Model m;
    Sampler whole, growing;
    Err e;
    make_model(&m, LLAMA, 64, 4, 2);
    if (!CHECK(sampler_init(&whole, &m, N, &e)) || !CHECK(sampler_init(&growing, &m, 1, &e))) return;
    for (size_t i = 0; i < N; i++) {
        CHECK(sampler_reserve(&growing, i + 1, &e) && growing.capacity > i && growing.capacity <= 2 * i + 1);
        sampler_feed(&whole, tokens() + i, 1);
        sampler_feed(&growing, tokens() + i, 1);
        CHECK(memcmp(whole.logits, growing.logits, V * sizeof(float)) == 0);
    }
    CHECK(growing.capacity == N + 40);
    CHECK(sampler_reserve(&growing, 8, &e) && growing.capacity == N + 40);
    sampler_free(&whole);
    sampler_free(&growing);
    model_free(&m);
}

static const float *compared;

static int by_logit(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return compared[x] > compared[y] ? -1 : compared[x] < compared[y] ? 1 : x - y;
}

// As sampler_choose says it, with no shortcut: all tokens sorted, all sums in double.
static int choose_plainly(const float *logits, double temperature, double top_p, double coin)
{
    int order[V];
    double p[V], sum = 0, kept = 0, seen = 0;
    size_t n = 0;
    for (int i = 0; i < V; i++) order[i] = i;
    compared = logits;
    qsort(order, V, sizeof *order, by_logit);
    for (int i = 0; i < V; i++) sum += p[i] = exp(((double)logits[i] - (double)logits[order[0]]) / temperature);
    while (n < V && kept < top_p) kept += p[order[n++]] / sum;
    for (size_t i = 0; i < n; i++)
        if ((seen += p[order[i]] / sum) > coin * kept) return order[i];
    return order[n - 1];
}

static void test_choose(void)
{
    Sampler s;
    Model m;
    Err e;
    int chosen[V] = {0}, kinds = 0;
    make_model(&m, LLAMA, 64, 4, 2);
    if (!CHECK(sampler_init(&s, &m, 1, &e))) return;
    Rng rng = rng_seed(11);
    for (int i = 0; i < 2000; i++) {
        static const float top_ps[] = {0.05f, 0.5f, 0.9f, 0.99f}, temperatures[] = {0.3f, 1, 2, 30};
        float logits[V], top_p = top_ps[i % 4], temperature = temperatures[i / 4 % 4];
        for (int v = 0; v < V; v++) logits[v] = (float)(3 * rng_normal(&rng));
        Rng same = rng;
        memcpy(s.logits, logits, sizeof logits);
        int id = sampler_choose(&s, temperature, top_p, &rng);
        CHECK(id == choose_plainly(logits, (double)temperature, (double)top_p, rng_uniform(&same)));
        kinds += chosen[id]++ == 0;
        memcpy(s.logits, logits, sizeof logits);
        logits[V - 1] = s.logits[V - 1] = 99;
        CHECK(sampler_choose(&s, 0, 1, NULL) == V - 1);
        s.logits[5] = 99;
        CHECK(sampler_choose(&s, 0, 1, NULL) == 5);        // the first of equals
    }
    CHECK(kinds > V / 2);
    sampler_free(&s);
    model_free(&m);
}

int main(void)
{
    ops_init(2);
    RUN(test_pieces);
    RUN(test_threads);
    RUN(test_growing_cache);
    RUN(test_choose);
    return check_report();
}
