// diagnose: see diagnose.h.
#include "diagnose.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

static bool all_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

// ---- tensors ------------------------------------------------------------------------------------------------------

// Are the numbers of tensor `id` of `layer` in this arena not all finite? Then `place` says so.
static bool bad_tensor(const Model *m, const float *arena, const char *what, TensorId id, size_t layer, Place *place)
{
    const Config *c = &m->config;
    if (layer >= tensor_count(c, id) || all_finite(arena + tensor_offset(c, id, layer), tensor_size(c, id))) return false;
    int n = snprintf(place->text, sizeof place->text, "%s of ", what);
    snprintf(place->text + n, sizeof place->text - (size_t)n, tensor_table[id].hf_name, (int)layer);
    return true;
}

bool diagnose_weights(const Model *m, Place *place)
{
    if (bad_tensor(m, m->params, "weights", TOK_EMB, 0, place)) return true;
    for (size_t l = 0; l < (size_t)m->config.n_layers; l++)
        for (TensorId id = ATT_NORM; id <= W2; id++)
            if (bad_tensor(m, m->params, "weights", id, l, place)) return true;
    return bad_tensor(m, m->params, "weights", FINAL_NORM, 0, place) || bad_tensor(m, m->params, "weights", CLASSIFIER, 0, place);
}

bool diagnose_gradients(const Model *m, Place *place)
{
    static const TensorId order[] = {W2, W1, W3, FFN_NORM, WO, WQ, WK, WV, ATT_NORM};
    if (bad_tensor(m, m->grads, "gradient", CLASSIFIER, 0, place) || bad_tensor(m, m->grads, "gradient", FINAL_NORM, 0, place)) return true;
    for (size_t l = (size_t)m->config.n_layers; l-- > 0;)
        for (size_t i = 0; i < sizeof order / sizeof *order; i++)
            if (bad_tensor(m, m->grads, "gradient", order[i], l, place)) return true;
    return bad_tensor(m, m->grads, "gradient", TOK_EMB, 0, place);
}

// ---- activations --------------------------------------------------------------------------------------------------

// What layer `l` makes of a finite input, up to `out` (M, C), operation by operation; those whose result the model does
// not keep are done again in y. The name of the first that is not finite, or NULL.
static const char *bad_operation(const Model *m, const Batch *b, int l, const float *out, float *y, float *rstd)
{
    const Config *c = &m->config;
    const LayerActs *acts = &m->acts[l];
    size_t layer = (size_t)l, N = b->N, M = l == c->n_layers - 1 ? b->M : N;
    size_t C = config_size(c, DIM), F = config_size(c, HIDDEN_DIM), HD = config_size(c, QUERY_DIM), KD = config_size(c, KV_DIM);
    rmsnorm_forward(y, rstd, acts->x, model_param(m, ATT_NORM, layer), c->norm_eps, N, C);
    if (!all_finite(y, N * C)) return "input_layernorm";
    if (!all_finite(acts->qkv, M * HD + N * 2 * KD)) return "queries, keys and values";
    // A mean of finite values by finite scores is finite.
    if (!all_finite(acts->att, M * HD)) return "attention scores";
    if (!all_finite(acts->x_att, M * C)) return "attention output (o_proj)";
    rmsnorm_forward(y, rstd, acts->x_att, model_param(m, FFN_NORM, layer), c->norm_eps, M, C);
    if (!all_finite(y, M * C)) return "post_attention_layernorm";
    if (!all_finite(acts->gu, M * 2 * F)) return "gate_proj and up_proj";
    swiglu_forward(y, acts->gu, M, F);
    if (!all_finite(y, M * F)) return "SwiGLU";
    return all_finite(out, M * C) ? NULL : "down_proj";
}

// The same of what follows the last layer.
static const char *bad_head(const Model *m, const Batch *b, const TokenLoss *loss, float *y, float *rstd)
{
    const Config *c = &m->config;
    size_t C = config_size(c, DIM), V = config_size(c, VOCAB), at = 0;
    rmsnorm_forward(y, rstd, m->out, model_param(m, FINAL_NORM, 0), c->norm_eps, b->M, C);
    if (!all_finite(y, b->M * C)) return "final norm";
    while (at < b->M && isfinite(loss[at].nll)) at++;
    if (at == b->M) return NULL;
    float *logits = mem_alloc(V, sizeof *logits);
    linear_forward(logits, NULL, y + at * C, model_param(m, c->tied ? TOK_EMB : CLASSIFIER, 0), 1, C, V, 0);
    bool finite = all_finite(logits, V);
    free(logits);
    return finite ? "cross-entropy" : "logits";
}

bool diagnose_forward(Model *m, const Batch *b, TokenLoss *loss, Place *place)
{
    const Config *c = &m->config;
    size_t C = config_size(c, DIM), F = config_size(c, HIDDEN_DIM), layer = 0;
    assert(m->training && !m->checkpointing);
    model_forward(m, b, loss, 0);
    float *y = mem_alloc(b->N * (C > F ? C : F), sizeof *y), *rstd = mem_alloc(b->N, sizeof *rstd);
    const char *operation = all_finite(m->acts[0].x, b->N * C) ? NULL : "embedding", *after = NULL;
    for (; !operation && layer < (size_t)c->n_layers; layer++)
        operation = bad_operation(m, b, (int)layer, layer + 1 < (size_t)c->n_layers ? m->acts[layer + 1].x : m->out, y, rstd);
    if (!operation) after = bad_head(m, b, loss, y, rstd);
    if (layer && operation) snprintf(place->text, sizeof place->text, "layer %zu: %s", layer - 1, operation);
    else if (operation || after) snprintf(place->text, sizeof place->text, "%s", operation ? operation : after);
    free(y);
    free(rstd);
    return operation || after;
}
