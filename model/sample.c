// sample: see sample.h. sampler_feed is the reference for transformer.c: the whole forward, for one token.
#include "sample.h"

#include "lora.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool sampler_reserve(Sampler *s, size_t capacity, Err *e)
{
    if (capacity <= s->capacity) return true;
    size_t L = s->model->shape.L, row = 2 * s->model->shape.KD;
    float *cache = calloc(L * capacity, row * sizeof *cache), *scores = malloc(capacity * sizeof *scores);
    if (!cache || !scores) {
        free(cache);
        free(scores);
        return fail(e, "out of memory: a cache of %zu positions; a smaller max_new_tokens takes less", capacity);
    }
    for (size_t l = 0; s->n_cached && l < L; l++)
        memcpy(cache + l * capacity * row, s->cache + l * s->capacity * row, s->n_cached * row * sizeof *cache);
    free(s->cache);
    free(s->scores);
    s->cache = cache;
    s->scores = scores;
    s->capacity = capacity;
    return true;
}

bool sampler_init(Sampler *s, const Model *m, size_t capacity, Err *e)
{
    const Shape z = m->shape;
    *s = (Sampler){.model = m};
    if (!sampler_reserve(s, capacity, e)) return false;
    const struct { float **buffer; size_t n; } all[] = {
        {&s->x, z.C}, {&s->norm, z.C}, {&s->q, z.HD}, {&s->att, z.HD}, {&s->gu, 2 * z.F}, {&s->y, z.F},
        {&s->logits, z.V}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) *all[i].buffer = mem_alloc(all[i].n, sizeof(float));
    return true;
}

void sampler_free(Sampler *s)
{
    float *all[] = {s->cache, s->x, s->norm, s->q, s->att, s->gu, s->y, s->scores, s->logits};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    *s = (Sampler){0};
}

void sampler_reset(Sampler *s) { s->n_cached = 0; }

// att (D) = softmax(q k^T / sqrt(D)) v: one query head and the n cached positions, which are `stride` floats apart
static void attend(float *att, const float *q, const float *keys, const float *values, size_t n, size_t stride,
                   size_t D, float *scores)
{
    float max = -INFINITY, sum = 0, scale = 1 / sqrtf((float)D);
    for (size_t t = 0; t < n; t++) {
        float dot = 0;
        for (size_t d = 0; d < D; d++) dot += q[d] * keys[t * stride + d];
        scores[t] = dot * scale;
        max = scores[t] > max ? scores[t] : max;
    }
    memset(att, 0, D * sizeof *att);
    for (size_t t = 0; t < n; t++) {
        float p = expf(scores[t] - max);                   // minus the largest: exp cannot overflow
        sum += p;
        for (size_t d = 0; d < D; d++) att[d] += p * values[t * stride + d];
    }
    for (size_t d = 0; d < D; d++) att[d] /= sum;
}

// y += what an adapter, if there is one, has beside the products of the tensors first .. last
static void add_branches(const Model *m, float *y, const float *x, TensorId first, TensorId last, size_t layer)
{
    size_t stride = 1 << 30;                               // of one row: there is no next
    lora_forward(m, NULL, (Products){first, last, layer, stride}, (Tile){.R = 1}, y, x);
}

// C model dim, F ffn size, V vocabulary, H query heads, K key/value heads, D head size; HD = H * D, KD = K * D.
// Arguments of the operations: outputs, then inputs, then sizes (ops.h).
void sampler_feed(Sampler *s, int token)
{
    const Model *m = s->model;
    size_t C = m->shape.C, F = m->shape.F, V = m->shape.V, H = m->shape.H, K = m->shape.K, D = m->shape.D;
    size_t HD = m->shape.HD, KD = m->shape.KD;
    int position = (int)s->n_cached;
    float rstd, eps = m->config.norm_eps;                  // rstd: only a backward pass needs it
    assert(s->n_cached < s->capacity && token >= 0 && (size_t)token < V);
    s->n_cached++;

    // the token's embedding begins the residual stream x
    embedding_forward(s->x, &token, model_embedding(m), 1, C);
    for (size_t l = 0; l < m->shape.L; l++) {
        // query, key and value of this position; key and value are written into the cache. wk and wv are neighbours in
        // memory: one product gives both
        float *cache = s->cache + l * s->capacity * 2 * KD, *kv = cache + (size_t)position * 2 * KD;
        rmsnorm_forward(s->norm, &rstd, s->x, model_param(m, ATT_NORM, l), eps, 1, C);
        linear_forward(s->q, NULL, s->norm, model_param(m, WQ, l), 1, C, HD);
        linear_forward(kv, NULL, s->norm, model_param(m, WK, l), 1, C, 2 * KD);
        add_branches(m, s->q, s->norm, WQ, WQ, l);
        add_branches(m, kv, s->norm, WK, WV, l);
        bias_forward(s->q, model_bias(m, BQ, l), 1, HD);   // of a Qwen2; bk and bv are neighbours too
        bias_forward(kv, model_bias(m, BK, l), 1, 2 * KD);
        if (m->config.qk_norm) {                           // a Qwen3 norms each head of queries and keys
            head_norm_forward(s->q, s->q, HD, model_param(m, Q_NORM, l), eps, 1, H, D);
            head_norm_forward(kv, kv, 2 * KD, model_param(m, K_NORM, l), eps, 1, K, D);
        }

        // RoPE: each pair of numbers in queries and keys is turned by an angle that grows with the position. Some
        // layers of a SmolLM3 have none
        if (!m->config.no_rope[l]) {
            rope(s->q, HD, m->cos_sin, &position, 1, H, D, 1);
            rope(kv, 2 * KD, m->cos_sin, &position, 1, K, D, 1);
        }

        // attention: each query head looks at all positions so far; H/K query heads share a key/value head
        for (size_t h = 0; h < H; h++) {
            const float *keys = cache + h / (H / K) * D;
            attend(s->att + h * D, s->q + h * D, keys, keys + KD, s->n_cached, 2 * KD, D, s->scores);
        }
        // x = x + att wo^T
        linear_forward(s->x, s->x, s->att, model_param(m, WO, l), 1, HD, C);
        add_branches(m, s->x, s->att, WO, WO, l);
        bias_forward(s->x, model_bias(m, BO, l), 1, C);

        // the ffn: x = x + (silu(g) * u) w2^T, where g = norm(x) w1^T and u = norm(x) w3^T, one product again
        rmsnorm_forward(s->norm, &rstd, s->x, model_param(m, FFN_NORM, l), eps, 1, C);
        linear_forward(s->gu, NULL, s->norm, model_param(m, W1, l), 1, C, 2 * F);
        add_branches(m, s->gu, s->norm, W1, W3, l);
        swiglu_forward(s->y, s->gu, 1, F);
        linear_forward(s->x, s->x, s->y, model_param(m, W2, l), 1, F, C);
        add_branches(m, s->x, s->y, W2, W2, l);
    }
    // the last norm, and a logit for every token that may follow
    rmsnorm_forward(s->norm, &rstd, s->x, model_param(m, FINAL_NORM, 0), eps, 1, C);
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
    for (size_t i = 0; i < V; i++) all[i] = (Candidate){p[i], (int)i};
    qsort(all, V, sizeof *all, by_probability);
    double total = 0, sum = 0;
    size_t n = 0;
    while (n < V && total < (double)top_p) total += (double)all[n++].p;
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
    for (size_t i = 1; i < V; i++) best = p[i] > p[best] ? i : best;
    if (temperature == 0) return (int)best;
    float max = p[best];
    for (size_t i = 0; i < V; i++) sum += (double)(p[i] = expf((p[i] - max) / temperature));
    for (size_t i = 0; i < V; i++) p[i] = (float)((double)p[i] / sum);
    double coin = rng_uniform(rng);
    if (top_p > 0 && top_p < 1) return choose_top_p(p, V, top_p, coin);
    for (size_t i = 0; i < V; i++)
        if ((seen += (double)p[i]) > coin) return (int)i;
    return (int)best;
}
