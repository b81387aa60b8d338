// sample: see sample.h. sampler_feed is the reference for transformer.c: the whole forward, on one page.
#include "sample.h"

#include "exp.h"
#include "lora.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool sampler_reserve(Sampler *s, size_t capacity, Err *e)
{
    const Shape z = s->model->shape;
    size_t row = 2 * z.KD, most = (size_t)s->model->config.seq_len, more = 2 * s->capacity;
    if (capacity <= s->capacity) return true;
    if (more > most) more = most;
    if (capacity < more) capacity = more;                  // a cache that grows token by token is seldom copied
    float *cache = calloc(z.L * capacity, row * sizeof *cache), *scores = malloc(z.H * capacity * sizeof *scores);
    if (!cache || !scores) {
        free(cache);
        free(scores);
        return fail(e, "out of memory: a cache of %zu positions; a shorter text takes less", capacity);
    }
    for (size_t l = 0; s->n_cached && l < z.L; l++)
        memcpy(cache + l * capacity * row, s->cache + l * s->capacity * row, s->n_cached * row * sizeof *cache);
    free(s->cache);
    free(s->scores);
    s->cache = cache;
    s->scores = scores;
    s->capacity = capacity;
    return true;
}

// Scratch for n tokens at a time
static void sampler_rows(Sampler *s, size_t n)
{
    const Shape z = s->model->shape;
    const struct { float **buffer; size_t n; } all[] = {
        {&s->x, z.C}, {&s->norm, z.C}, {&s->q, z.HD}, {&s->att, z.HD}, {&s->gu, 2 * z.F}, {&s->y, z.F},
        {&s->unused, z.H}};
    if (n <= s->rows) return;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        *all[i].buffer = mem_grow(*all[i].buffer, n * all[i].n, sizeof(float));
    s->position = mem_grow(s->position, n, sizeof *s->position);
    s->rows = n;
}

bool sampler_init(Sampler *s, const Model *m, size_t capacity, Err *e)
{
    *s = (Sampler){.model = m};
    if (!sampler_reserve(s, capacity, e)) return false;
    sampler_rows(s, 1);
    s->logits = mem_alloc(m->shape.V, sizeof *s->logits);
    return true;
}

void sampler_free(Sampler *s)
{
    float *all[] = {s->cache, s->x, s->norm, s->q, s->att, s->gu, s->y, s->unused, s->scores, s->logits};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    free(s->position);
    *s = (Sampler){0};
}

void sampler_reset(Sampler *s) { s->n_cached = 0; }

// Tokens of a prompt that go in at a time: with these, products are large, and scratch is not.
// Multiplications: threads for fewer cost more than they save.
enum { MOST_ROWS = 512, WORTH_THREADS = 1 << 16 };

// att (D) = softmax(q k^T / sqrt(D)) v: one query head and the n cached positions, which are `stride` floats apart
static void attend(float *att, const float *q, const float *keys, const float *values, size_t n, size_t stride,
                   size_t D, float *scores)
{
    float max = -INFINITY, sum = 0, scale = 1 / sqrtf((float)D);
    for (size_t t = 0; t < n; t++) {
        float dot = 0;
#pragma omp simd reduction(+ : dot) simdlen(8)
        for (size_t d = 0; d < D; d++) dot += q[d] * keys[t * stride + d];
        scores[t] = dot * scale;
        max = scores[t] > max ? scores[t] : max;
    }
#pragma omp simd reduction(+ : sum)
    for (size_t t = 0; t < n; t++) sum += scores[t] = exp_inline(scores[t] - max);     // - max: exp cannot overflow
    memset(att, 0, D * sizeof *att);
    for (size_t t = 0; t < n; t++) {
        float p = scores[t] / sum;
        for (size_t d = 0; d < D; d++) att[d] += p * values[t * stride + d];
    }
}

// Each query head looks at all positions up to its own; H/K query heads share a key/value head. The n queries of a
// prompt go to the fast attention; the one of a text that is generated has its keys read just once.
static void attention(Sampler *s, const float *cache, size_t n)
{
    const Shape z = s->model->shape;
    if (n > 1) {
        const AttentionShape shape = {
            .S = 1, .key_starts = (size_t[]){0, s->n_cached}, .query_starts = (size_t[]){0, n}, .order = (size_t[]){0},
            .query_position = s->position, .H = z.H, .K = z.K, .D = z.D, .longest_row = s->n_cached, .q_stride = z.HD,
            .kv_stride = 2 * z.KD};
        float *scratch = mem_grow(NULL, (size_t)ops_threads() * attention_scratch(s->n_cached, z.D), sizeof(float));
        attention_forward(s->att, s->unused, s->q, cache, &shape, scratch);
        free(scratch);
        return;
    }
#pragma omp parallel for if (s->n_cached * z.HD > WORTH_THREADS)
    for (size_t h = 0; h < z.H; h++) {
        const float *keys = cache + h / (z.H / z.K) * z.D;
        attend(s->att + h * z.D, s->q + h * z.D, keys, keys + z.KD, s->n_cached, 2 * z.KD, z.D,
               s->scores + h * s->capacity);
    }
}

// y (n, ...) += what an adapter, if there is one, has beside the products of the tensors first .. last
static void add_branches(const Model *m, float *y, size_t stride, const float *x, size_t n, TensorId first,
                         TensorId last, size_t layer)
{
    lora_forward(m, NULL, (Products){first, last, layer, stride}, (Tile){.R = n}, y, x);
}

// C model dim, F ffn size, V vocabulary, H query heads, K key/value heads, D head size; HD = H * D, KD = K * D.
// Arguments of the operations: outputs, then inputs, then sizes (ops.h).
void sampler_feed(Sampler *s, const int *tokens, size_t n)
{
    for (; n > MOST_ROWS; tokens += MOST_ROWS, n -= MOST_ROWS) sampler_feed(s, tokens, MOST_ROWS);
    const Model *m = s->model;
    size_t C = m->shape.C, F = m->shape.F, V = m->shape.V, H = m->shape.H, K = m->shape.K, D = m->shape.D;
    size_t HD = m->shape.HD, KD = m->shape.KD, first = s->n_cached;
    float eps = m->config.norm_eps;
    assert(n > 0 && first + n <= s->capacity);
    sampler_rows(s, n);
    float *rstd = s->unused;                               // only a backward pass needs it
    for (size_t i = 0; i < n; i++) {
        assert(tokens[i] >= 0 && (size_t)tokens[i] < V);
        s->position[i] = (int)(first + i);
    }
    s->n_cached += n;

    // the tokens' embeddings begin the residual stream x
    embedding_forward(s->x, tokens, model_embedding(m), n, C);
    for (size_t l = 0; l < m->shape.L; l++) {
        // query, key and value of each position; key and value are written into the cache. wk and wv are neighbours in
        // memory: one product gives both
        float *cache = s->cache + l * s->capacity * 2 * KD, *kv = cache + first * 2 * KD;
        rmsnorm_forward(s->norm, rstd, s->x, model_param(m, ATT_NORM, l), eps, n, C);
        linear_forward(s->q, NULL, s->norm, model_param(m, WQ, l), n, C, HD);
        linear_forward(kv, NULL, s->norm, model_param(m, WK, l), n, C, 2 * KD);
        add_branches(m, s->q, HD, s->norm, n, WQ, WQ, l);
        add_branches(m, kv, 2 * KD, s->norm, n, WK, WV, l);
        bias_forward(s->q, model_bias(m, BQ, l), n, HD);   // of a Qwen2; bk and bv are neighbours too
        bias_forward(kv, model_bias(m, BK, l), n, 2 * KD);
        if (m->config.qk_norm) {                           // a Qwen3 norms each head of queries and keys
            head_norm_forward(s->q, s->q, HD, model_param(m, Q_NORM, l), eps, n, H, D);
            head_norm_forward(kv, kv, 2 * KD, model_param(m, K_NORM, l), eps, n, K, D);
        }

        // RoPE: each pair of numbers in queries and keys is turned by an angle that grows with the position. Some
        // layers of a SmolLM3 have none
        if (!m->config.no_rope[l]) {
            rope(s->q, HD, m->cos_sin, s->position, n, H, D, 1);
            rope(kv, 2 * KD, m->cos_sin, s->position, n, K, D, 1);
        }

        // att = softmax(q k^T / sqrt(D)) v, over all positions so far
        attention(s, cache, n);
        // x = x + att wo^T
        linear_forward(s->x, s->x, s->att, model_param(m, WO, l), n, HD, C);
        add_branches(m, s->x, C, s->att, n, WO, WO, l);
        bias_forward(s->x, model_bias(m, BO, l), n, C);

        // the ffn: x = x + (silu(g) * u) w2^T, where g = norm(x) w1^T and u = norm(x) w3^T, one product again
        rmsnorm_forward(s->norm, rstd, s->x, model_param(m, FFN_NORM, l), eps, n, C);
        linear_forward(s->gu, NULL, s->norm, model_param(m, W1, l), n, C, 2 * F);
        add_branches(m, s->gu, 2 * F, s->norm, n, W1, W3, l);
        swiglu_forward(s->y, s->gu, n, F);
        linear_forward(s->x, s->x, s->y, model_param(m, W2, l), n, F, C);
        add_branches(m, s->x, C, s->y, n, W2, W2, l);
    }
    // the last norm, and a logit for every token that may follow the last one
    rmsnorm_forward(s->norm, rstd, s->x + (n - 1) * C, model_param(m, FINAL_NORM, 0), eps, 1, C);
    linear_forward(s->logits, NULL, s->norm, model_classifier(m), 1, C, V);
}

typedef struct { float p; int id; } Candidate;

static int by_probability(const void *a, const void *b)
{
    const Candidate *x = a, *y = b;
    return x->p > y->p ? -1 : x->p < y->p ? 1 : x->id - y->id;
}

static int choose_top_p(const float *p, size_t V, float top_p, double coin)
{
    Candidate *all = mem_alloc(V, sizeof *all);
    double total = 0, sum = 0;
    size_t n = 0, candidates = 0;
    // Tokens below this one together do not reach 1 - top_p: none of them is kept, and they need not be sorted.
    float least = (1 - top_p) / (float)V;
    for (size_t i = 0; i < V; i++)
        if (p[i] >= least) all[candidates++] = (Candidate){p[i], (int)i};
    qsort(all, candidates, sizeof *all, by_probability);
    while (n < candidates && total < (double)top_p) total += (double)all[n++].p;
    int id = all[n ? n - 1 : 0].id;
    for (size_t i = 0; i < n; i++)
        if ((sum += (double)all[i].p) > coin * total) { id = all[i].id; break; }
    free(all);
    return id;
}

int sampler_choose(Sampler *s, float temperature, float top_p, Rng *rng)
{
    size_t V = s->model->shape.V, best = 0;
    float *p = s->logits;
    double sum = 0, seen = 0;
    float max = row_max(p, V);
    while (best + 1 < V && p[best] != max) best++;
    if (temperature == 0) return (int)best;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < V; i++) sum += (double)(p[i] = exp_inline((p[i] - max) / temperature));
    for (size_t i = 0; i < V; i++) p[i] = (float)((double)p[i] / sum);
    double coin = rng_uniform(rng);
    if (top_p > 0 && top_p < 1) return choose_top_p(p, V, top_p, coin);
    for (size_t i = 0; i < V; i++)
        if ((seen += (double)p[i]) > coin) return (int)i;
    return (int)best;
}
