// transformer: see transformer.h. The layer is written once; the last one differs only in that its queries are the
// target positions alone: keys and values are needed of every token, but the rest only where something is predicted.
#include "transformer.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---- the tensor table ---------------------------------------------------------------------------------------------

const TensorInfo tensor_table[N_TENSORS] = {
    [TOK_EMB]    = {"tok_emb",    "model.embed_tokens.weight",                       VOCAB,      DIM,        false, true,  false},
    [ATT_NORM]   = {"att_norm",   "model.layers.%d.input_layernorm.weight",          ONE,        DIM,        true,  false, false},
    [WQ]         = {"wq",         "model.layers.%d.self_attn.q_proj.weight",         QUERY_DIM,  DIM,        true,  true,  true},
    [WK]         = {"wk",         "model.layers.%d.self_attn.k_proj.weight",         KV_DIM,     DIM,        true,  true,  true},
    [WV]         = {"wv",         "model.layers.%d.self_attn.v_proj.weight",         KV_DIM,     DIM,        true,  true,  false},
    [WO]         = {"wo",         "model.layers.%d.self_attn.o_proj.weight",         DIM,        QUERY_DIM,  true,  true,  false},
    [FFN_NORM]   = {"ffn_norm",   "model.layers.%d.post_attention_layernorm.weight", ONE,        DIM,        true,  false, false},
    [W1]         = {"w1",         "model.layers.%d.mlp.gate_proj.weight",            HIDDEN_DIM, DIM,        true,  true,  false},
    [W3]         = {"w3",         "model.layers.%d.mlp.up_proj.weight",              HIDDEN_DIM, DIM,        true,  true,  false},
    [W2]         = {"w2",         "model.layers.%d.mlp.down_proj.weight",            DIM,        HIDDEN_DIM, true,  true,  false},
    [FINAL_NORM] = {"final_norm", "model.norm.weight",                               ONE,        DIM,        false, false, false},
    [CLASSIFIER] = {"classifier", "lm_head.weight",                                  VOCAB,      DIM,        false, true,  false},
};

size_t config_size(const Config *c, Size s)
{
    switch (s) {
    case ONE:        return 1;
    case DIM:        return (size_t)c->dim;
    case QUERY_DIM:  return (size_t)c->n_heads * (size_t)c->head_dim;
    case KV_DIM:     return (size_t)c->n_kv_heads * (size_t)c->head_dim;
    case HIDDEN_DIM: return (size_t)c->hidden_dim;
    case VOCAB:      return (size_t)c->vocab_size;
    }
    return 0;
}

size_t tensor_count(const Config *c, TensorId id)
{
    return tensor_table[id].per_layer ? (size_t)c->n_layers : !(id == CLASSIFIER && c->tied);
}

size_t tensor_size(const Config *c, TensorId id)
{
    return config_size(c, tensor_table[id].rows) * config_size(c, tensor_table[id].columns);
}

size_t tensor_offset(const Config *c, TensorId id, size_t layer)
{
    size_t before = 0, one_layer = 0;
    for (TensorId t = 0; t < id; t++) {
        bool other_layers_too = tensor_table[t].per_layer && !tensor_table[id].per_layer;
        before += tensor_size(c, t) * (other_layers_too ? (size_t)c->n_layers : 1);
    }
    for (TensorId t = 0; t < N_TENSORS; t++)
        if (tensor_table[t].per_layer) one_layer += tensor_size(c, t);
    return before + (tensor_table[id].per_layer ? layer * one_layer : 0);
}

size_t params_count(const Config *c)
{
    size_t n = 0;
    for (TensorId t = 0; t < N_TENSORS; t++) n += tensor_size(c, t) * tensor_count(c, t);
    return n;
}

// Bounds that keep every product of two sizes, and the whole arena, far from overflow.
bool config_check(const Config *c, Err *e)
{
    const struct { const char *name; int value, max; } sizes[] = {
        {"dim", c->dim, 1 << 16},            {"hidden_dim", c->hidden_dim, 1 << 18}, {"n_layers", c->n_layers, 1 << 10},
        {"n_heads", c->n_heads, 1 << 12},    {"n_kv_heads", c->n_kv_heads, 1 << 12}, {"head_dim", c->head_dim, 1 << 12},
        {"vocab_size", c->vocab_size, 1 << 22}, {"seq_len", c->seq_len, 1 << 22},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i].value < 1 || sizes[i].value > sizes[i].max)
            return fail(e, "%s: expected 1 to %d, found %d", sizes[i].name, sizes[i].max, sizes[i].value);
    if (c->n_heads % c->n_kv_heads)
        return fail(e, "n_heads: expected a multiple of n_kv_heads (%d), found %d", c->n_kv_heads, c->n_heads);
    if (c->head_dim % 2) return fail(e, "head_dim: expected an even number, found %d", c->head_dim);
    if (!(c->norm_eps >= 0 && c->norm_eps < 1)) return fail(e, "norm_eps: expected 0 to 1, found %g", (double)c->norm_eps);
    if (!(c->rope_theta > 0)) return fail(e, "rope_theta: expected a positive number, found %g", (double)c->rope_theta);
    return true;
}

// ---- making and freeing -------------------------------------------------------------------------------------------

static float *floats_alloc(size_t n, Err *e)
{
    void *p = NULL;
    if (n > SIZE_MAX / sizeof(float) || posix_memalign(&p, 64, n * sizeof(float)) != 0) {
        fail(e, "out of memory: %.1f MB were not to be had", (double)n * sizeof(float) / 1e6);
        return NULL;
    }
    return p;
}

// Llama 3's stretching of low frequencies, as transformers' _compute_llama3_parameters does it.
static float rope_frequency(const Config *c, int i)
{
    float f = 1 / powf(c->rope_theta, (float)(2 * i) / (float)c->head_dim), factor = c->rope_scaling.factor;
    if (factor == 0) return f;
    float low = c->rope_scaling.low_freq_factor, high = c->rope_scaling.high_freq_factor;
    float original = c->rope_scaling.original_seq_len, wavelength = 2 * (float)M_PI / f;
    if (wavelength < original / high) return f;
    if (wavelength > original / low) return f / factor;
    float smooth = (original / wavelength - low) / (high - low);
    return (1 - smooth) * f / factor + smooth * f;
}

bool model_init(Model *m, const Config *c, Err *e)
{
    *m = (Model){.config = *c};
    if (!config_check(c, e)) return false;
    m->n_params = params_count(c);
    m->params = floats_alloc(m->n_params, e);
    m->cos_sin = m->params ? floats_alloc((size_t)c->seq_len * (size_t)c->head_dim, e) : NULL;
    if (!m->cos_sin) {
        model_free(m);
        return false;
    }
    for (int i = 0; i < c->head_dim / 2; i++) {
        float frequency = rope_frequency(c, i);
        for (int t = 0; t < c->seq_len; t++) {
            float angle = (float)t * frequency, *to = m->cos_sin + (size_t)t * (size_t)c->head_dim + 2 * i;
            to[0] = cosf(angle);
            to[1] = sinf(angle);
        }
    }
    return true;
}

void model_randomize(Model *m, uint64_t seed)
{
    const Config *c = &m->config;
    Rng rng = rng_seed(seed);
    for (TensorId id = 0; id < N_TENSORS; id++) {
        bool residual = id == WO || id == W2;
        double std = residual ? 0.02 / sqrt(2.0 * c->n_layers) : 0.02;
        for (size_t l = 0; l < tensor_count(c, id); l++) {
            float *w = model_param(m, id, l);
            for (size_t i = 0, n = tensor_size(c, id); i < n; i++)
                w[i] = tensor_table[id].rows == ONE ? 1 : (float)(std * rng_normal(&rng));
        }
    }
}

// Rows of logits at a time: 64 MB of them, so that the matrix products are large and the memory is not.
size_t model_logit_rows(const Config *c)
{
    size_t rows = (size_t)16000000 / (size_t)c->vocab_size;
    return rows < 32 ? 32 : rows > 512 ? 512 : rows;
}

// Hands out pieces of one block. With base NULL it only counts, so that one function both measures and lays out.
typedef struct { float *base; size_t used; } Arena;

static float *arena_take(Arena *a, size_t n)
{
    float *p = a->base ? a->base + a->used : NULL;
    a->used += (n + 15) / 16 * 16;
    return p;
}

static void lay_out_layers(Model *m, Arena *a)
{
    const Config *c = &m->config;
    size_t N = m->max_tokens, C = config_size(c, DIM), HD = config_size(c, QUERY_DIM), KD = config_size(c, KV_DIM);
    for (int l = 0; l < c->n_layers; l++) {
        LayerActs *acts = &m->acts[l];
        bool own = m->training && !m->checkpointing, last = l == c->n_layers - 1;
        if (l > 0 && !own) {                               // shared, but for the layer's input
            float *x = m->training || l == 1 ? arena_take(a, N * C) : m->acts[l - 2].x;
            *acts = m->acts[0];
            acts->x = x;
            continue;
        }
        size_t M = last && own ? m->max_targets : N;
        *acts = (LayerActs){
            .x = arena_take(a, N * C), .qkv = arena_take(a, M * HD + N * 2 * KD), .att = arena_take(a, M * HD),
            .lse = arena_take(a, M * (size_t)c->n_heads), .x_att = arena_take(a, M * C), .gu = arena_take(a, M * 2 * (size_t)c->hidden_dim),
        };
    }
}

static void lay_out(Model *m, Arena *a)
{
    const Config *c = &m->config;
    size_t N = m->max_tokens, M = m->max_targets, C = config_size(c, DIM), HD = config_size(c, QUERY_DIM), slice = model_logit_rows(c);
    lay_out_layers(m, a);
    m->out = arena_take(a, M * C);
    m->norm_out = arena_take(a, M * C);
    m->scale = arena_take(a, M);
    m->logits = arena_take(a, slice * (size_t)c->vocab_size);
    m->norm_att = arena_take(a, N * C);
    m->norm_ffn = arena_take(a, N * C);
    m->norm_q = arena_take(a, M * C);
    m->rstd = arena_take(a, N);
    m->y = arena_take(a, N * (size_t)c->hidden_dim);
    m->attention = arena_take(a, attention_scratch(m->max_row, (size_t)c->head_dim));
    if (!m->training) return;
    m->dx = arena_take(a, N * C);
    m->dout = arena_take(a, N * C);
    m->dx_att = arena_take(a, N * C);
    m->dx_q = arena_take(a, M * C);
    m->dnorm = arena_take(a, N * C);
    m->datt = arena_take(a, N * HD);
    m->dqkv = arena_take(a, N * (HD + 2 * config_size(c, KV_DIM)));
    m->dw_tiles = arena_take(a, tile_count(N) * C);
    m->partial = arena_take(a, linear_scratch(slice, C));
}

size_t model_work_size(const Config *c, size_t max_tokens, size_t max_row, size_t max_rows, size_t max_targets, bool training,
                       bool checkpointing)
{
    Model m = {.config = *c, .max_tokens = max_tokens, .max_row = max_row, .max_rows = max_rows, .max_targets = max_targets,
               .training = training, .checkpointing = checkpointing, .acts = mem_alloc((size_t)c->n_layers, sizeof *m.acts)};
    Arena measure = {0};
    lay_out(&m, &measure);
    free(m.acts);
    return measure.used;
}

static void release_work(Model *m)
{
    free(m->activations);
    free(m->acts);
    free(m->position);
    free(m->query_position);
    free(m->query_starts);
    m->activations = NULL;
    m->acts = NULL;
    m->position = m->query_position = NULL;
    m->query_starts = NULL;
}

bool model_reserve(Model *m, size_t max_tokens, size_t max_row, size_t max_rows, size_t max_targets, bool training,
                   bool checkpointing, Err *e)
{
    release_work(m);
    m->max_tokens = max_tokens;
    m->max_row = max_row;
    m->max_rows = max_rows;
    m->max_targets = max_targets;
    m->training = training;
    m->checkpointing = checkpointing;
    m->acts = mem_alloc((size_t)m->config.n_layers, sizeof *m->acts);
    m->position = mem_alloc(max_tokens, sizeof *m->position);
    m->query_position = mem_alloc(max_targets, sizeof *m->query_position);
    m->query_starts = mem_alloc(max_rows + 1, sizeof *m->query_starts);
    m->n_activations = model_work_size(&m->config, max_tokens, max_row, max_rows, max_targets, training, checkpointing);
    m->activations = floats_alloc(m->n_activations, e);
    if (training && !m->grads) m->grads = floats_alloc(m->n_params, e);
    if (!m->activations || (training && !m->grads)) return false;
    lay_out(m, &(Arena){.base = m->activations});
    return true;
}

void model_free(Model *m)
{
    release_work(m);
    free(m->params);
    free(m->grads);
    free(m->cos_sin);
    *m = (Model){0};
}

// ---- rows of a matrix ---------------------------------------------------------------------------------------------

// y_m = x_at[m]
static void rows_gather(float *y, const float *x, const size_t *at, size_t M, size_t C)
{
    for (size_t m = 0; m < M; m++) memcpy(y + m * C, x + at[m] * C, C * sizeof(float));
}

// y_at[m] += x_m
static void rows_scatter_add(float *y, const float *x, const size_t *at, size_t M, size_t C)
{
    for (size_t m = 0; m < M; m++)
        for (size_t c = 0; c < C; c++) y[at[m] * C + c] += x[m * C + c];
}

// y (C) = beta * y + the sum of x's rows (N, C)
static void rows_sum(float *y, const float *x, size_t N, size_t C, float beta)
{
    for (size_t c = 0; c < C; c++) {
        float sum = beta == 0 ? 0 : beta * y[c];
        for (size_t n = 0; n < N; n++) sum += x[n * C + c];
        y[c] = sum;
    }
}

// ---- tiles of rows ------------------------------------------------------------------------------------------------
// What a row of activations goes through between two attentions does not depend on the other rows. So the threads share
// out tiles of rows, and take each through a whole chain of operations while it is in the cache.

// Rows (N, C) to queries, keys, values, or some of them: norm, product, and the first `heads` heads turned by position.
typedef struct {
    size_t N, out, heads;
    const float *norm_w, *w;                               // (C), (out, C)
    const int *position;                                   // (N)
} Projection;

// y (N, out) = rope(norm(x) w^T), by way of `norm` (N, C)
static void project(const Model *m, const Projection *p, float *y, float *norm, const float *x)
{
    const Config *c = &m->config;
    size_t N = p->N, C = config_size(c, DIM), out = p->out, tile = tile_rows(N), tasks = tile_tasks(N);
#pragma omp parallel for schedule(dynamic)
    for (size_t n = 0; n < N; n += tile) {
        size_t R = N - n < tile ? N - n : tile;
        rmsnorm_forward(norm + n * C, m->rstd + n, x + n * C, p->norm_w, c->norm_eps, R, C);
        linear_forward(y + n * out, NULL, norm + n * C, p->w, R, C, out, tasks);
        rope(y + n * out, out, m->cos_sin, p->position + n, R, p->heads, (size_t)c->head_dim, 1);
    }
}

// dx = add + its share of dy, without `add` where it is NULL; dx may be x.   dnorm_w = beta * dnorm_w + ...
// dy is turned back, and norm made again, for the gradient of w.
static void project_backward(const Model *m, const Projection *p, float *dx, float *dnorm_w, const float *add, float *dy, float *norm,
                             const float *x, float beta)
{
    const Config *c = &m->config;
    size_t N = p->N, C = config_size(c, DIM), out = p->out, tile = tile_rows(N), tasks = tile_tasks(N);
#pragma omp parallel for schedule(dynamic)
    for (size_t n = 0; n < N; n += tile) {
        size_t R = N - n < tile ? N - n : tile;
        float *dnorm = m->dnorm + n * C;
        rope(dy + n * out, out, m->cos_sin, p->position + n, R, p->heads, (size_t)c->head_dim, -1);
        rmsnorm_forward(norm + n * C, m->rstd + n, x + n * C, p->norm_w, c->norm_eps, R, C);
        linear_backward_input(dnorm, dy + n * out, p->w, R, C, out, tasks);
        rmsnorm_backward(dx + n * C, m->dw_tiles + n / tile * C, add ? add + n * C : NULL, dnorm, x + n * C, p->norm_w, m->rstd + n, R, C);
    }
    rows_sum(dnorm_w, m->dw_tiles, (N + tile - 1) / tile, C, beta);
}

// What follows attention: x_att = x + att wo;   out = x_att + swiglu(norm(x_att)) w2
static void after_attention(const Model *m, const LayerActs *acts, float *out, const float *x, size_t layer, size_t M)
{
    const Config *c = &m->config;
    size_t C = config_size(c, DIM), F = config_size(c, HIDDEN_DIM), HD = config_size(c, QUERY_DIM);
    size_t tile = tile_rows(M), tasks = tile_tasks(M);
#pragma omp parallel for schedule(dynamic)
    for (size_t n = 0; n < M; n += tile) {
        size_t R = M - n < tile ? M - n : tile;
        float *x_att = acts->x_att + n * C, *norm = m->norm_ffn + n * C, *gu = acts->gu + n * 2 * F, *y = m->y + n * F;
        linear_forward(x_att, x + n * C, acts->att + n * HD, model_param(m, WO, layer), R, HD, C, tasks);
        rmsnorm_forward(norm, m->rstd + n, x_att, model_param(m, FFN_NORM, layer), c->norm_eps, R, C);
        linear_forward(gu, NULL, norm, model_param(m, W1, layer), R, C, 2 * F, tasks);         // w1|w3 at once
        swiglu_forward(y, gu, R, F);
        linear_forward(out + n * C, x_att, y, model_param(m, W2, layer), R, F, C, tasks);
    }
}

// m->dx_att and m->datt from dout. acts->gu becomes its own gradient; m->y and m->norm_ffn are made again.
static void after_attention_backward(const Model *m, const LayerActs *acts, const float *dout, size_t layer, size_t M, float beta)
{
    const Config *c = &m->config;
    size_t C = config_size(c, DIM), F = config_size(c, HIDDEN_DIM), HD = config_size(c, QUERY_DIM);
    size_t tile = tile_rows(M), tasks = tile_tasks(M);
#pragma omp parallel for schedule(dynamic)
    for (size_t n = 0; n < M; n += tile) {
        size_t R = M - n < tile ? M - n : tile;
        float *x_att = acts->x_att + n * C, *norm = m->norm_ffn + n * C, *gu = acts->gu + n * 2 * F, *y = m->y + n * F;
        float *dx_att = m->dx_att + n * C, *dnorm = m->dnorm + n * C;
        linear_backward_input(y, dout + n * C, model_param(m, W2, layer), R, F, C, tasks);
        swiglu_backward(gu, y, R, F);
        rmsnorm_forward(norm, m->rstd + n, x_att, model_param(m, FFN_NORM, layer), c->norm_eps, R, C);
        linear_backward_input(dnorm, gu, model_param(m, W1, layer), R, C, 2 * F, tasks);
        rmsnorm_backward(dx_att, m->dw_tiles + n / tile * C, dout + n * C, dnorm, x_att, model_param(m, FFN_NORM, layer),
                         m->rstd + n, R, C);
        linear_backward_input(m->datt + n * HD, dx_att, model_param(m, WO, layer), R, HD, C, tasks);
    }
    rows_sum(model_grad(m, FFN_NORM, layer), m->dw_tiles, (M + tile - 1) / tile, C, beta);
}

// ---- a layer ------------------------------------------------------------------------------------------------------

// Which positions have queries in a layer: all N (at NULL), or in the last layer the M targets. Where all have, q|k|v lie
// side by side in rows, and one product makes all three; in the last layer the block holds (M, H*D), then (N, 2*K*D).
typedef struct {
    size_t M;
    const size_t *at;
    size_t kv;                                             // where k|v begin in a block of q, k, v
    Projection to_q, to_kv;                                // to q|k|v where all have; to_kv is for the last layer alone
    AttentionShape attention;
} Queries;

static Queries layer_queries(const Model *m, const Batch *b, int l)
{
    const Config *c = &m->config;
    bool last = l == c->n_layers - 1;
    size_t layer = (size_t)l, H = (size_t)c->n_heads, K = (size_t)c->n_kv_heads, D = (size_t)c->head_dim, HD = H * D, KD = K * D;
    size_t M = last ? b->M : b->N, together = HD + 2 * KD, q_stride = last ? HD : together, kv_stride = last ? 2 * KD : together;
    const int *position = last ? m->query_position : m->position;
    const float *norm_w = model_param(m, ATT_NORM, layer);
    return (Queries){M, last ? b->at : NULL, last ? M * HD : HD,
                     {M, q_stride, last ? H : H + K, norm_w, model_param(m, WQ, layer), position},
                     {b->N, kv_stride, K, norm_w, model_param(m, WK, layer), m->position},
                     {b->S, b->starts, last ? m->query_starts : b->starts, position, H, K, D, m->max_row, q_stride, kv_stride}};
}

// out (M, C) from acts->x (N, C)
static void layer_forward(Model *m, const Batch *b, int l, float *out)
{
    const LayerActs *acts = &m->acts[l];
    Queries query = layer_queries(m, b, l);
    float *q = acts->qkv, *kv = q + query.kv;
    const float *x = acts->x;
    if (query.at) {
        rows_gather(acts->x_att, x, query.at, query.M, config_size(&m->config, DIM));
        project(m, &query.to_kv, kv, m->norm_att, x);
        project(m, &query.to_q, q, m->norm_q, x = acts->x_att);
    } else project(m, &query.to_q, q, m->norm_att, x);
    attention_forward(acts->att, acts->lse, q, kv, &query.attention, m->attention);
    after_attention(m, acts, out, x, (size_t)l, query.M);
}

// dx (N, C) from dout (M, C). Uses up acts->gu.
static void layer_backward(Model *m, const Batch *b, int l, float *dx, const float *dout)
{
    const Config *c = &m->config;
    const LayerActs *acts = &m->acts[l];
    Queries query = layer_queries(m, b, l);
    size_t layer = (size_t)l, N = b->N, M = query.M;
    size_t C = config_size(c, DIM), F = config_size(c, HIDDEN_DIM), HD = config_size(c, QUERY_DIM);
    float *dq = m->dqkv, *dkv = dq + query.kv, *dnorm_w = model_grad(m, ATT_NORM, layer), beta = m->accumulate ? 1 : 0;
    const float *q = acts->qkv, *kv = q + query.kv;

    after_attention_backward(m, acts, dout, layer, M, beta);
    attention_backward(dq, dkv, m->datt, acts->lse, q, kv, &query.attention, m->attention);
    if (query.at) {
        rows_gather(m->dx_q, acts->x, query.at, M, C);     // x at the queries, which becomes its gradient
        project_backward(m, &query.to_q, m->dx_q, dnorm_w, m->dx_att, dq, m->norm_q, m->dx_q, beta);
        project_backward(m, &query.to_kv, dx, dnorm_w, NULL, dkv, m->norm_att, acts->x, 1);
        rows_scatter_add(dx, m->dx_q, query.at, M, C);
    } else project_backward(m, &query.to_q, dx, dnorm_w, m->dx_att, dq, m->norm_att, acts->x, beta);

    const WeightGradient weights[] = {
        {model_grad(m, W1, layer), acts->gu, m->norm_ffn, M, C, 2 * F},                          // w1|w3
        {model_grad(m, W2, layer), dout, m->y, M, F, C},
        {model_grad(m, WQ, layer), dq, query.at ? m->norm_q : m->norm_att, M, C, query.to_q.out},
        {model_grad(m, WO, layer), m->dx_att, acts->att, M, HD, C},
        {model_grad(m, WK, layer), dkv, m->norm_att, N, C, query.to_kv.out},                     // in the last layer alone
    };
    linear_backward_weights(weights, query.at ? 5 : 4, beta);
}

// ---- the whole ----------------------------------------------------------------------------------------------------

// Where each token and each target stands in its row, and which targets belong to which row.
static void batch_positions(Model *m, const Batch *b)
{
    size_t target = 0;
    m->query_starts[0] = 0;
    for (size_t s = 0; s < b->S; s++) {
        for (size_t n = b->starts[s]; n < b->starts[s + 1]; n++) m->position[n] = (int)(n - b->starts[s]);
        for (; target < b->M && b->at[target] < b->starts[s + 1]; target++)
            m->query_position[target] = (int)(b->at[target] - b->starts[s]);
        m->query_starts[s + 1] = target;
    }
    assert(target == b->M);
}

// The head, forward and backward in one go, so that only a slice of the logits exists at a time.
// logits = norm(out) classifier^T;  dout becomes the gradient of sum_m scale_m * nll_m (with_gradient).
static void head(Model *m, const Batch *b, TokenLoss *loss, bool with_gradient)
{
    const Config *c = &m->config;
    size_t M = b->M, C = config_size(c, DIM), V = config_size(c, VOCAB), slice = model_logit_rows(c), tile = tile_rows(M);
    TensorId id = c->tied ? TOK_EMB : CLASSIFIER;
    float beta = m->accumulate ? 1 : 0, *norm = m->norm_out;
    const float *norm_w = model_param(m, FINAL_NORM, 0);
#pragma omp parallel for schedule(dynamic)
    for (size_t i = 0; i < M; i += tile)
        rmsnorm_forward(norm + i * C, m->rstd + i, m->out + i * C, norm_w, c->norm_eps, M - i < tile ? M - i : tile, C);
    for (size_t i = 0; i < M; i += slice) {
        size_t R = M - i < slice ? M - i : slice;
        linear_forward(m->logits, NULL, norm + i * C, model_param(m, id, 0), R, C, V, 0);
        cross_entropy(loss + i, m->logits, b->target + i, with_gradient ? m->scale + i : NULL, R, V);
        if (!with_gradient) continue;
        const WeightGradient weights = {model_grad(m, id, 0), m->logits, norm + i * C, R, C, V};
        linear_backward_weights(&weights, 1, i ? 1 : beta);
        linear_backward_input_long(norm + i * C, m->logits, model_param(m, id, 0), R, C, V, m->partial);
    }
    if (!with_gradient) return;
#pragma omp parallel for schedule(dynamic)
    for (size_t i = 0; i < M; i += tile)
        rmsnorm_backward(m->dout + i * C, m->dw_tiles + i / tile * C, NULL, norm + i * C, m->out + i * C, norm_w, m->rstd + i,
                         M - i < tile ? M - i : tile, C);
    rows_sum(model_grad(m, FINAL_NORM, 0), m->dw_tiles, (M + tile - 1) / tile, C, beta);
}

void model_forward(Model *m, const Batch *b, TokenLoss *loss, double divisor)
{
    const Config *c = &m->config;
    assert(b->M > 0 && b->N <= m->max_tokens && b->S <= m->max_rows && b->M <= m->max_targets);
    batch_positions(m, b);
    embedding_forward(m->acts[0].x, b->ids, model_param(m, TOK_EMB, 0), b->N, config_size(c, DIM));
    for (int l = 0; l < c->n_layers; l++) layer_forward(m, b, l, l + 1 < c->n_layers ? m->acts[l + 1].x : m->out);
    if (divisor > 0)
        for (size_t i = 0; i < b->M; i++) m->scale[i] = (float)(b->weight[i] / divisor);
    head(m, b, loss, divisor > 0);
}

void model_backward(Model *m, const Batch *b)
{
    const Config *c = &m->config;
    for (int l = c->n_layers - 1; l >= 0; l--) {
        bool last = l == c->n_layers - 1;
        if (m->checkpointing && !last) layer_forward(m, b, l, m->acts[l + 1].x);
        layer_backward(m, b, l, m->dx, m->dout);
        float *dx = m->dx;                                 // is the layer below's dout
        m->dx = m->dout;
        m->dout = dx;
    }
    float *dtable = model_grad(m, TOK_EMB, 0);
    if (!c->tied && !m->accumulate) memset(dtable, 0, tensor_size(c, TOK_EMB) * sizeof(float));
    embedding_backward(dtable, m->dout, b->ids, b->N, config_size(c, DIM));
}
