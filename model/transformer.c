// transformer: see transformer.h. The fast forward, and the backward; the reference is sampler_feed in sample.c.
// The layer is written once. The last layer differs in one thing: its queries are the target positions alone. It needs
// the keys and values of every token, but the rest only at positions that predict a target.
#include "transformer.h"

#include "lora.h"

#include <assert.h>
#include <omp.h>
#include <string.h>

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

// y (C) = beta * y + the sum of N rows of x, `stride` floats apart; beta is 0 or 1
static void rows_sum(float *y, const float *x, size_t N, size_t stride, size_t C, float beta)
{
    if (beta == 0) memset(y, 0, C * sizeof *y);
    for (size_t n = 0; n < N; n++)
        for (size_t c = 0; c < C; c++) y[c] += x[n * stride + c];
}

// ---- an adapter ---------------------------------------------------------------------------------------------------

// Is something trained below this tensor? The backward ends where nothing is.
static bool trains_below(const Model *m, TensorId id, size_t layer)
{
    return !m->adapter || m->adapter->lowest < lora_index(id, layer);
}

// Sums up what the tiles of N rows have: the gradient of a norm or, with an adapter, of the tensors first .. last.
static void tiles_sum(Model *m, const Work *w, TensorId norm, TensorId first, TensorId last, size_t layer, size_t N,
                      float beta)
{
    size_t C = m->shape.C, n = (N - 1) / tile_rows(N) + 1, begin;
    const Adapter *a = m->adapter;
    if (!a) {
        rows_sum(model_grad(m, norm, layer), w->dw_tiles, n, C, C, beta);
        return;
    }
    begin = lora_at(a, first, layer)->a;                   // its gradients begin as zeros
    rows_sum(m->grads + begin, w->grads_tiles + (begin - lora_at(a, TOK_EMB, layer)->a), n, a->layer_size,
             lora_at(a, last + 1, layer)->a - begin, 1);
}

// ---- packed weights -----------------------------------------------------------------------------------------------

// A layer's weights for its forward; the copies are in `to`, packed_size() floats.
static PackedLayer pack_layer(const Model *m, float *to, size_t layer)
{
    size_t C = m->shape.C, F = m->shape.F, HD = m->shape.HD, kv_out = 2 * m->shape.KD;
    bool last = layer + 1 == m->shape.L;
    PackedLayer p;
    const struct { const float **w; TensorId id; size_t in, out; } all[] = {
        {&p.q, WQ, C, HD + (last ? 0 : kv_out)}, {&p.kv, WK, C, last ? kv_out : 0}, {&p.o, WO, HD, C},
        {&p.w1, W1, C, 2 * F}, {&p.w2, W2, F, C}};
    for (size_t i = 0; i < sizeof all / sizeof *all; to += linear_packed(all[i].in, all[i].out), i++)
        *all[i].w = linear_pack(to, model_param(m, all[i].id, layer), all[i].in, all[i].out);
    return p;
}

// Shares find the weights of all layers packed (pack_all). Else a layer's are packed when it is computed.
static PackedLayer layer_weights(const Model *m, const Work *w, size_t layer)
{
    return w->packed ? pack_layer(m, w->packed, layer) : w->packs[layer];
}

static void pack_all(const Model *m, Work *w)
{
    size_t size = packed_size(&m->shape);
#pragma omp parallel for schedule(dynamic)
    for (size_t l = 0; l < m->shape.L; l++) w->packs[l] = pack_layer(m, w->share_packed + l * size, l);
}

// ---- between two attentions ---------------------------------------------------------------------------------------
// Between two attentions, the operations on a row of activations do not depend on the other rows. So each thread takes
// a tile of rows through the whole chain of operations while the tile is in the cache.
// In a backward, the comment at the end of a line is the line of the forward whose gradient it computes.
// Parameters: first the model, its work memory, and the projection, activations or batch; then, as in ops.h, outputs,
// inputs, sizes.

// From rows x (N, C) of layer `layer` to queries, keys and values, or to one or two of these. Their weights are
// neighbours in the arena and are used as one matrix.
typedef struct {
    size_t N, layer, out, heads;                           // out: columns; rope turns their first `heads` heads
    TensorId id, last;                                     // the neighbours: from WQ or WK to WQ or WV
    const int *position;                                   // (N)
    float *norm;                                           // (N, C)
    float *linear;                                         // (N, out): norm(x) w^T + bias; y itself without qk_norm
} Projection;

// What the attention takes of a tile of the linears' output: y = rope(norm(linear)). Values stay as they are.
static void heads_forward(const Model *m, const Projection *p, float *y, Tile t)
{
    size_t D = m->shape.D, H = p->id == WQ ? m->shape.H : 0, out = p->out;
    float *y_t = y + t.n * out, eps = m->config.norm_eps;
    const float *x = p->linear + t.n * out;
    if (m->config.qk_norm) {
        memcpy(y_t, x, t.R * out * sizeof *y);
        head_norm_forward(y_t, x, out, model_param(m, Q_NORM, p->layer), eps, t.R, H, D);
        head_norm_forward(y_t + H * D, x + H * D, out, model_param(m, K_NORM, p->layer), eps, t.R, p->heads - H, D);
    }
    if (!m->config.no_rope[p->layer]) rope(y_t, out, m->cos_sin, p->position + t.n, t.R, p->heads, D, 1);
}

// dy becomes the gradient of the linears' output.
static void heads_backward(const Model *m, const Work *w, const Projection *p, float *dy, Tile t)
{
    size_t D = m->shape.D, H = p->id == WQ ? m->shape.H : 0, out = p->out;
    float *dy_t = dy + t.n * out, eps = m->config.norm_eps;
    const float *x = p->linear + t.n * out;
    if (!m->config.no_rope[p->layer]) rope(dy_t, out, m->cos_sin, p->position + t.n, t.R, p->heads, D, -1);
    if (!m->config.qk_norm) return;
    float *dw = w->dqk_tiles + t.i * 2 * D;
    head_norm_backward(dy_t, dw, x, out, model_param(m, Q_NORM, p->layer), eps, t.R, H, D);
    head_norm_backward(dy_t + H * D, dw + D, x + H * D, out, model_param(m, K_NORM, p->layer), eps, t.R, p->heads - H,
                       D);
}

// y (N, out) = rope(norm(norm(x) w^T + bias)): bias, the second norm and rope where the layer has them
static void project(const Model *m, Work *w, const Projection *p, const float *packed, float *y, const float *x)
{
    size_t N = p->N, C = m->shape.C, out = p->out;
    const float *norm_w = model_param(m, ATT_NORM, p->layer);
    FOR_EACH_TILE(t, N) {
        float *norm = p->norm + t.own * C, *linear = p->linear + t.n * out;
        rmsnorm_forward(norm, w->rstd + t.n, x + t.n * C, norm_w, m->config.norm_eps, t.R, C);
        linear_rows(linear, NULL, norm, packed, t.R, C, out);
        lora_forward(m, w, (Products){p->id, p->last, p->layer, out}, t, linear, norm);
        bias_forward(linear, model_bias(m, BQ + p->id - WQ, p->layer), t.R, out);
        heads_forward(m, p, y, t);
    }
}

// dx = add + the gradient of x that follows from dy. `add` may be NULL: then it is left out. dx may be x. The norm's
// gradient goes to m->grads. dy becomes the gradient of the linear, and p->norm is computed again: the gradient of the
// weights needs both.
// With an adapter dx is computed only if something below is trained.
static void project_backward(Model *m, Work *w, const Projection *p, float *dx, const float *add, float *dy,
                             const float *x, float beta)
{
    size_t N = p->N, C = m->shape.C, D = m->shape.D, out = p->out;
    const float *norm_w = model_param(m, ATT_NORM, p->layer), *weight = model_param(m, p->id, p->layer);
    bool goes_on = trains_below(m, WQ, p->layer);
    FOR_EACH_TILE(t, N) {
        const float *x_t = x + t.n * C, *add_t = add ? add + t.n * C : NULL;
        float *norm = p->norm + t.n * C, *rstd = w->rstd + t.n, *dnorm = w->dnorm + t.own * C, *dy_t = dy + t.n * out;
        float *dx_t = dx + t.n * C, *dw = w->dw_tiles + t.i * C;
        heads_backward(m, w, p, dy, t);                                              // heads_forward
        if (goes_on) linear_rows_backward(dnorm, dy_t, out, weight, t.R, C, out);    // linear = norm w^T
        rmsnorm_forward(norm, rstd, x_t, norm_w, m->config.norm_eps, t.R, C);
        lora_backward(m, w, (Products){p->id, p->last, p->layer, out}, t, goes_on ? dnorm : NULL, dy_t, norm);
        if (!goes_on) continue;
        rmsnorm_backward(dx_t, dw, add_t, dnorm, x_t, norm_w, rstd, t.R, C);         // norm = rmsnorm(x)
    }
    tiles_sum(m, w, ATT_NORM, p->id, p->last, p->layer, N, beta);
    if (m->config.qk_norm && !m->adapter)
        rows_sum(model_grad(m, Q_NORM, p->layer), w->dqk_tiles, (N - 1) / tile_rows(N) + 1, 2 * D, 2 * D, beta);
}

// out = x_att + swiglu(norm(x_att) w1|w3^T) w2^T,   x_att = x + att wo^T + bias:   all (M, C)
static void after_attention(const Model *m, Work *w, const LayerActs *acts, const PackedLayer *p, float *out,
                            const float *x, size_t layer, size_t M)
{
    size_t C = m->shape.C, F = m->shape.F, HD = m->shape.HD;
    const float *norm_w = model_param(m, FFN_NORM, layer);
    FOR_EACH_TILE(t, M) {
        float *x_att = acts->x_att + t.n * C, *norm = w->norm_ffn + t.own * C;
        float *gu = acts->gu + t.n * 2 * F, *y = w->y + t.own * F;
        linear_rows(x_att, x + t.n * C, acts->att + t.n * HD, p->o, t.R, HD, C);
        lora_forward(m, w, (Products){WO, WO, layer, C}, t, x_att, acts->att + t.n * HD);
        bias_forward(x_att, model_bias(m, BO, layer), t.R, C);
        rmsnorm_forward(norm, w->rstd + t.n, x_att, norm_w, m->config.norm_eps, t.R, C);
        linear_rows(gu, NULL, norm, p->w1, t.R, C, 2 * F);                           // w1|w3 at once
        lora_forward(m, w, (Products){W1, W3, layer, 2 * F}, t, gu, norm);
        swiglu_forward(y, gu, t.R, F);
        linear_rows(out + t.n * C, x_att, y, p->w2, t.R, F, C);
        lora_forward(m, w, (Products){W2, W2, layer, C}, t, out + t.n * C, y);
    }
}

//   buffer             before               after
//   dout     (M, C)    gradient of out      the same
//   gu       (M, 2F)   g|u                  its gradient, for dW1|W3
//   y        (M, F)    of any layer         first its gradient, then y as in the forward, for dW2
//   norm_ffn (M, C)    of any layer         as in the forward, for dW1|W3
//   dx_att   (M, C)    of any layer         gradient of x_att, for dWo and for x
//   datt     (M, HD)   of any layer         gradient of att
static void after_attention_backward(Model *m, Work *w, const LayerActs *acts, const float *dout, size_t layer,
                                     size_t M, float beta)
{
    size_t C = m->shape.C, F = m->shape.F, HD = m->shape.HD;
    const float *norm_w = model_param(m, FFN_NORM, layer), *wo = model_param(m, WO, layer);
    const float *w1 = model_param(m, W1, layer), *w2 = model_param(m, W2, layer);
    bool to_norm = trains_below(m, W1, layer), to_att = trains_below(m, WO, layer);
    FOR_EACH_TILE(t, M) {
        const float *x_att = acts->x_att + t.n * C, *dout_t = dout + t.n * C;
        float *norm = w->norm_ffn + t.n * C, *rstd = w->rstd + t.n, *gu = acts->gu + t.n * 2 * F, *y = w->y + t.n * F;
        float *dx_att = w->dx_att + t.n * C, *dnorm = w->dnorm + t.own * C, *dw = w->dw_tiles + t.i * C;
        float *datt = w->datt + t.n * HD;
        linear_rows_backward(y, dout_t, C, w2, t.R, F, C);                           // out = x_att + y w2^T
        lora_backward(m, w, (Products){W2, W2, layer, C}, t, y, dout_t, NULL);
        swiglu_backward(gu, y, t.R, F);                                              // y = swiglu(gu)
        lora_backward(m, w, (Products){W2, W2, layer, C}, t, NULL, dout_t, y);       // y is that of the forward again
        if (to_norm) linear_rows_backward(dnorm, gu, 2 * F, w1, t.R, C, 2 * F);      // gu = norm w1|w3^T
        rmsnorm_forward(norm, rstd, x_att, norm_w, m->config.norm_eps, t.R, C);
        lora_backward(m, w, (Products){W1, W3, layer, 2 * F}, t, to_norm ? dnorm : NULL, gu, norm);
        if (!to_norm) continue;
        rmsnorm_backward(dx_att, dw, dout_t, dnorm, x_att, norm_w, rstd, t.R, C);    // norm = rmsnorm(x_att)
        if (to_att) linear_rows_backward(datt, dx_att, C, wo, t.R, HD, C);           // x_att = x + att wo^T
        lora_backward(m, w, (Products){WO, WO, layer, C}, t, to_att ? datt : NULL, dx_att, acts->att + t.n * HD);
    }
    tiles_sum(m, w, FFN_NORM, WO, W2, layer, M, beta);
}

// ---- a layer ------------------------------------------------------------------------------------------------------

// What a layer computes of which positions:
//
//   layers 0 .. L-2   x    (N, C) --norm--> [wq|wk|wv] --> q|k|v of all N tokens, a row each: (N, HD + 2*KD)
//   the last layer    x_at (M, C) --norm--> [wq] --------> q of the M targets: (M, HD); in the same block, behind them,
//                     x    (N, C) --norm--> [wk|wv] -----> k|v of all N tokens: (N, 2*KD)
typedef struct {
    size_t M;
    const size_t *at;                                      // (M); NULL: M is N, all positions
    size_t kv;                                             // where k|v begin in the block
    float *block;                                          // what the attention takes
    Projection to_q, to_kv;                                // to q|k|v; in the last layer to q, and to k|v
    AttentionShape attention;
} Queries;

static Queries layer_queries(const Model *m, const Work *w, const Batch *b, size_t layer)
{
    const Shape *s = &m->shape;
    bool all = layer + 1 < s->L;
    const int *position = all ? w->position : w->query_position;
    size_t M = all ? b->N : b->M, kv_out = 2 * s->KD, q_out = s->HD + (all ? kv_out : 0);
    size_t kv = all ? s->HD : M * s->HD;
    float *linear = w->acts[layer].qkv;
    return (Queries){
        .M = M, .at = all ? NULL : b->at, .kv = kv, .block = w->qkv ? w->qkv : linear,
        .to_q = {.N = M, .layer = layer, .out = q_out, .heads = s->H + (all ? s->K : 0), .id = WQ, .linear = linear,
                 .last = all ? WV : WQ, .position = all ? w->rope_position : w->rope_position + w->max.tokens,
                 .norm = all ? w->norm_att : w->norm_q},
        .to_kv = {.N = b->N, .layer = layer, .out = kv_out, .heads = s->K, .id = WK, .last = WV, .linear = linear + kv,
                  .position = w->rope_position, .norm = w->norm_att},
        .attention = {.S = b->S, .key_starts = b->starts, .query_starts = all ? b->starts : w->query_starts,
                      .query_position = position, .order = w->order, .H = s->H, .K = s->K, .D = s->D,
                      .longest_row = w->max.row, .q_stride = q_out, .kv_stride = all ? q_out : kv_out},
    };
}

// From acts->x (N, C) to the next layer's x or, in the last layer, w->out (M, C).
static void layer_forward(const Model *m, Work *w, const Batch *b, size_t layer)
{
    const LayerActs *acts = &w->acts[layer];
    const Queries query = layer_queries(m, w, b, layer);
    const PackedLayer weights = layer_weights(m, w, layer);
    const float *x = acts->x;
    float *q = query.block, *kv = q + query.kv, *out = layer + 1 < m->shape.L ? w->acts[layer + 1].x : w->out;
    if (query.at) {
        float *x_at = acts->x_att;                         // x at the targets, until it becomes x_at + att wo^T
        project(m, w, &query.to_kv, weights.kv, kv, x);
        rows_gather(x_at, x, query.at, query.M, m->shape.C);
        x = x_at;
    }
    project(m, w, &query.to_q, weights.q, q, x);
    attention_forward(acts->att, acts->lse, q, kv, &query.attention, w->attention);
    after_attention(m, w, acts, &weights, out, x, layer, query.M);
}

// dx (N, C) from dout (M, C). Uses up acts->gu.
static void layer_backward(Model *m, Work *w, const Batch *b, size_t layer, float *dx, const float *dout, float beta)
{
    const LayerActs *acts = &w->acts[layer];
    const Queries query = layer_queries(m, w, b, layer);
    const Projection *to_q = &query.to_q, *to_kv = &query.to_kv;
    size_t M = query.M, C = m->shape.C, F = m->shape.F, HD = m->shape.HD;
    float *dq = w->dqkv, *dkv = dq + query.kv, *q = query.block, *kv = q + query.kv;

    after_attention_backward(m, w, acts, dout, layer, M, beta);                      // after_attention(..., out, x...)
    if (!trains_below(m, WO, layer)) return;
    if (m->config.qk_norm) {                               // another layer's are there
        FOR_EACH_TILE(t, M) heads_forward(m, to_q, q, t);
        if (query.at) FOR_EACH_TILE(t, b->N) heads_forward(m, to_kv, kv, t);
    }
    attention_backward(dq, dkv, w->datt, acts->att, acts->lse, q, kv, &query.attention, w->attention);  // ..._forward
    if (query.at) {
        float *x_at = w->dx_q, *dx_at = w->dx_q;           // the first becomes the second
        rows_gather(x_at, acts->x, query.at, M, C);
        project_backward(m, w, to_q, dx_at, w->dx_att, dq, x_at, beta);              // project(..., q, x_at)
        project_backward(m, w, to_kv, dx, NULL, dkv, acts->x, 1);                    // project(..., kv, x)
        if (trains_below(m, WQ, layer)) rows_scatter_add(dx, dx_at, query.at, M, C); // rows_gather(x_at, x)
    } else project_backward(m, w, to_q, dx, w->dx_att, dq, acts->x, beta);           // project(..., q, x)
    if (m->adapter) return;

    const float *ones = w->ones;                           // a bias is a weight whose input is 1
    WeightGradient weights[8] = {
        {model_grad(m, W1, layer), acts->gu, w->norm_ffn, M, C, 2 * F},              // dW1|W3 += dgu^T norm_ffn
        {model_grad(m, W2, layer), dout, w->y, M, F, C},                             // dW2 += dout^T y
        {model_grad(m, WQ, layer), dq, to_q->norm, M, C, to_q->out},                 // dWq|Wk|Wv += dq|dk|dv^T norm
        {model_grad(m, WO, layer), w->dx_att, acts->att, M, HD, C},                  // dWo += dx_att^T att
    };
    size_t n = 4;
    if (query.at)                                          // the third is dWq alone; dWk|Wv += dk|dv^T norm
        weights[n++] = (WeightGradient){model_grad(m, WK, layer), dkv, to_kv->norm, to_kv->N, C, to_kv->out};
    if (m->config.o_bias) weights[n++] = (WeightGradient){model_grad(m, BO, layer), w->dx_att, ones, M, 1, C};
    if (m->config.qkv_bias) weights[n++] = (WeightGradient){model_grad(m, BQ, layer), dq, ones, M, 1, to_q->out};
    if (m->config.qkv_bias && query.at)
        weights[n++] = (WeightGradient){model_grad(m, BK, layer), dkv, ones, to_kv->N, 1, to_kv->out};
    linear_backward_weights(weights, n, beta);
}

// ---- the whole ----------------------------------------------------------------------------------------------------

static size_t row_length(const Batch *b, size_t s) { return b->starts[s + 1] - b->starts[s]; }

// Where each token and each target stands in its row, and which targets belong to which row.
// The threads begin with the longest rows, so that none is left with a long one at the end. The keys of dropout do not
// depend on how the rows of a step are cut into batches.
static void batch_positions(Work *w, const Batch *b)
{
    uint32_t *target_keys = w->drops ? w->keys + w->max.tokens : NULL;
    size_t target = 0;
    w->query_starts[0] = 0;
    for (size_t s = 0; s < b->S; s++) {
        for (size_t n = b->starts[s]; n < b->starts[s + 1]; n++) {
            w->position[n] = (int)(n - b->starts[s]);
            w->rope_position[n] = b->position ? b->position[n] : w->position[n];
            if (w->drops) w->keys[n] = lora_key(b->dropout_seed, b->first_row + s, n - b->starts[s]);
        }
        for (; target < b->M && b->at[target] < b->starts[s + 1]; target++) {
            w->query_position[target] = (int)(b->at[target] - b->starts[s]);
            w->rope_position[w->max.tokens + target] = w->rope_position[b->at[target]];
            if (target_keys) target_keys[target] = w->keys[b->at[target]];
        }
        w->query_starts[s + 1] = target;
        size_t i = s, *order = w->order;
        for (; i > 0 && row_length(b, order[i - 1]) < row_length(b, s); i--) order[i] = order[i - 1];
        order[i] = s;
    }
    assert(target == b->M);
}

// From tokens to w->out and w->norm_out = rmsnorm(w->out): everything before the logits. Noise and dropout are for
// training only.
static void body_forward(const Model *m, Work *w, const Batch *b, bool training)
{
    const float *noise = training ? b->noise.values : NULL;
    size_t M = b->M, C = m->shape.C;
    assert(M > 0 && b->N <= w->max.tokens && b->S <= w->max.rows && M <= w->max.targets);
    if (training && m->adapter && !w->keys) {              // the first pass that trains an adapter
        w->grads_tiles = mem_alloc(work_adapter_size(&m->config, m->adapter, w->max), sizeof(float));
        w->keys = mem_alloc(w->max.tokens + w->max.targets, sizeof *w->keys);
    }
    w->drops = training && m->adapter && m->adapter->dropout > 0 && !b->no_dropout;
    batch_positions(w, b);
    for (size_t i = 0; w->ones && i < b->N; i++) w->ones[i] = 1;
    embedding_forward(w->acts[0].x, b->ids, model_embedding(m), b->N, C);
    for (size_t i = 0; noise && i < b->N * C; i++) w->acts[0].x[i] += noise[i];
    for (size_t l = 0; l < m->shape.L; l++) layer_forward(m, w, b, l);
    FOR_EACH_TILE(t, M)
        rmsnorm_forward(w->norm_out + t.n * C, w->rstd + t.n, w->out + t.n * C, model_param(m, FINAL_NORM, 0),
                        m->config.norm_eps, t.R, C);
}

// logits = norm_out classifier^T, for a slice of the targets that begins at i. The logits of all targets, (M, V), would
// take too much memory. Fills the loss of the slice; with `scale` the logits become their gradient. Returns the number
// of targets in the slice.
static size_t head_slice(const Model *m, Work *w, const Batch *b, TokenLoss *loss, const float *scale, size_t i)
{
    size_t left = b->M - i, most = model_logit_rows(&m->config), R = left < most ? left : most, V = m->shape.V;
    linear_forward(w->logits, NULL, w->norm_out + i * m->shape.C, model_classifier(m), R, m->shape.C, V);
    cross_entropy(loss + i, w->logits, b->target + i, scale ? scale + i : NULL, b->objective, R, V);
    return R;
}

// The head, slice by slice: forward, and backward before the next slice overwrites the logits. dout (M, C) is the
// gradient of w->out.
static void head_gradient(Model *m, Work *w, const Batch *b, TokenLoss *loss, float *dout, float beta)
{
    size_t M = b->M, C = m->shape.C, V = m->shape.V;
    const float *norm_w = model_param(m, FINAL_NORM, 0);
    float *dclassifier = m->adapter ? NULL : model_grad(m, classifier_id(&m->config), 0);
    for (size_t i = 0, R; i < M; i += R) {
        R = head_slice(m, w, b, loss, w->scale, i);
        float *dlogits = w->logits, *norm = w->norm_out + i * C, *dnorm = norm;      // norm becomes dnorm
        const WeightGradient weights = {dclassifier, dlogits, norm, R, C, V};
        if (!m->adapter) linear_backward_weights(&weights, 1, i ? 1 : beta);         // dclassifier += dlogits^T norm
        else if (m->config.tied) lora_tokens_backward(m, norm, R, NULL, dlogits);
        linear_backward_input(dnorm, dlogits, model_classifier(m), R, C, V, w->partial);   // logits = norm classifier^T
    }
    FOR_EACH_TILE(t, M) {
        const float *dnorm = w->norm_out + t.n * C, *out = w->out + t.n * C;
        rmsnorm_backward(dout + t.n * C, w->dw_tiles + t.i * C, NULL, dnorm, out, norm_w, w->rstd + t.n, t.R, C);
    }
    if (!m->adapter) tiles_sum(m, w, FINAL_NORM, 0, 0, 0, M, beta);
}

// model_loss and model_gradient of a batch, or of a share
static void loss_of(const Model *m, Work *w, const Batch *b, TokenLoss *loss)
{
    body_forward(m, w, b, false);
    for (size_t i = 0; i < b->M;) i += head_slice(m, w, b, loss, NULL, i);
}

static void gradient_of(Model *m, Work *w, const Batch *b, TokenLoss *loss, double divisor, bool add)
{
    float *dtable = m->grads, *dout = w->dout, *dx = w->dx, beta = add ? 1 : 0;
    body_forward(m, w, b, true);
    if (m->adapter && !add) memset(m->grads, 0, m->n_trained * sizeof(float));
    for (size_t i = 0; i < b->M; i++) w->scale[i] = (float)(b->weight[i] / divisor);
    head_gradient(m, w, b, loss, dout, beta);
    for (size_t l = m->shape.L; l-- > 0 && trains_below(m, TOK_EMB, l + 1);) {
        if (w->kind == WORK_CHECKPOINTING && l + 1 < m->shape.L) layer_forward(m, w, b, l);
        layer_backward(m, w, b, l, dx, dout, beta);
        float *swap = dout;                                // dx is the layer below's dout
        dout = dx;
        dx = swap;
    }
    if (m->adapter) return lora_tokens_backward(m, dout, b->N, b->ids, NULL);
    // tied: head_gradient has already written dtable
    if (!m->config.tied && !add) memset(dtable, 0, tensor_size(&m->config, TOK_EMB) * sizeof(float));
    embedding_backward(dtable, dout, b->ids, b->N, m->shape.C);                      // x = table[ids]
}

void model_loss(const Model *m, Work *w, const Batch *b, TokenLoss *loss)
{
    Share shares[MAX_SHARES];
    size_t n = work_shares(shares, w, b);
    if (n == 0) return loss_of(m, w, b, loss);
    pack_all(m, w);
#pragma omp parallel for schedule(dynamic) num_threads(w->threads)
    for (size_t i = 0; i < n; i++) {
        Work *own = &w->shares[omp_get_thread_num()];
        Batch part = work_share(own, b, &shares[i]);
        if (part.M) loss_of(m, own, &part, loss + shares[i].target);
    }
}

void model_gradient(Model *m, Work *w, const Batch *b, TokenLoss *loss, double divisor, bool add)
{
    assert(m->grads && w->kind != WORK_LOSS && divisor > 0);
    Share shares[MAX_SHARES];
    size_t size = m->n_trained, n = size <= m->n_params ? work_shares(shares, w, b) : 0;
    if (n == 0) return gradient_of(m, w, b, loss, divisor, add);
    pack_all(m, w);
#pragma omp parallel for schedule(dynamic) num_threads(w->threads)
    for (size_t i = 0; i < n; i++) {
        Work *own = &w->shares[omp_get_thread_num()];
        Batch part = work_share(own, b, &shares[i]);
        Model share = *m;
        share.grads = w->share_grads + i * size;
        if (part.M) gradient_of(&share, own, &part, loss + shares[i].target, divisor, false);
        else memset(share.grads, 0, size * sizeof(float));
    }
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < size; i += 2048)
        rows_sum(m->grads + i, w->share_grads + i, n, size, size - i < 2048 ? size - i : 2048, add ? 1 : 0);
}
