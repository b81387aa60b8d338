// diagnose: see diagnose.h.
#include "diagnose.h"

#include "lora.h"

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
    if (layer >= tensor_count(c, id)) return false;
    if (all_finite(arena + tensor_offset(c, id, layer), tensor_size(c, id))) return false;
    int n = snprintf(place->text, sizeof place->text, "%s of ", what);
    snprintf(place->text + n, sizeof place->text - (size_t)n, tensor_table[id].hf_name, (int)layer);
    return true;
}

// The same of an adapter's numbers or their gradients.
static bool bad_adapter(const Model *m, const float *numbers, const char *what, Place *place)
{
    char name[128];
    bool bad = m->adapter && !adapter_finite(m, numbers, name);
    if (bad) snprintf(place->text, sizeof place->text, "%s of %s", what, name);
    return bad;
}

bool diagnose_weights(const Model *m, Place *place)
{
    if (bad_adapter(m, m->trained, "weights", place)) return true;
    if (bad_tensor(m, m->params, "weights", TOK_EMB, 0, place)) return true;
    for (size_t l = 0; l < (size_t)m->config.n_layers; l++)
        for (TensorId id = ATT_NORM; id < N_TENSORS; id++)
            if (tensor_table[id].per_layer && bad_tensor(m, m->params, "weights", id, l, place)) return true;
    return bad_tensor(m, m->params, "weights", FINAL_NORM, 0, place) ||
           bad_tensor(m, m->params, "weights", CLASSIFIER, 0, place);
}

bool diagnose_gradients(const Model *m, Place *place)
{
    static const TensorId order[] = {W2, W1, W3, FFN_NORM, BO, WO, Q_NORM, K_NORM, BQ, BK, BV, WQ, WK, WV, ATT_NORM};
    if (m->adapter) return bad_adapter(m, m->grads, "gradient", place);
    if (bad_tensor(m, m->grads, "gradient", CLASSIFIER, 0, place)) return true;
    if (bad_tensor(m, m->grads, "gradient", FINAL_NORM, 0, place)) return true;
    for (size_t l = (size_t)m->config.n_layers; l-- > 0;)
        for (size_t i = 0; i < sizeof order / sizeof *order; i++)
            if (bad_tensor(m, m->grads, "gradient", order[i], l, place)) return true;
    return bad_tensor(m, m->grads, "gradient", TOK_EMB, 0, place);
}

// ---- activations --------------------------------------------------------------------------------------------------

// What layer `l` makes of a finite input, up to `out` (M, C), operation by operation; what Work does not keep is done
// again in y. The name of the first result that is not finite, or NULL.
static const char *bad_operation(const Model *m, const Work *w, const Batch *b, size_t l, const float *out, float *y,
                                 float *rstd)
{
    const Shape *s = &m->shape;
    const LayerActs *acts = &w->acts[l];
    size_t N = b->N, M = l + 1 == s->L ? b->M : N, C = s->C, F = s->F;
    rmsnorm_forward(y, rstd, acts->x, model_param(m, ATT_NORM, l), m->config.norm_eps, N, C);
    if (!all_finite(y, N * C)) return "input_layernorm";
    if (!all_finite(acts->qkv, M * s->HD + N * 2 * s->KD)) return "queries, keys and values";
    // A mean of finite values by finite scores is finite.
    if (!all_finite(acts->att, M * s->HD)) return m->config.qk_norm ? "q_norm, k_norm, scores" : "attention scores";
    if (!all_finite(acts->x_att, M * C)) return "attention output (o_proj)";
    rmsnorm_forward(y, rstd, acts->x_att, model_param(m, FFN_NORM, l), m->config.norm_eps, M, C);
    if (!all_finite(y, M * C)) return "post_attention_layernorm";
    if (!all_finite(acts->gu, M * 2 * F)) return "gate_proj and up_proj";
    swiglu_forward(y, acts->gu, M, F);
    if (!all_finite(y, M * F)) return "SwiGLU";
    return all_finite(out, M * C) ? NULL : "down_proj";
}

// The same of what follows the last layer.
static const char *bad_head(const Model *m, const Work *w, const Batch *b, const TokenLoss *loss, float *y, float *rstd)
{
    size_t C = m->shape.C, V = m->shape.V, at = 0;
    rmsnorm_forward(y, rstd, w->out, model_param(m, FINAL_NORM, 0), m->config.norm_eps, b->M, C);
    if (!all_finite(y, b->M * C)) return "final norm";
    while (at < b->M && isfinite(loss[at].nll)) at++;
    if (at == b->M) return NULL;
    float *logits = mem_alloc(V, sizeof *logits);
    linear_forward(logits, NULL, y + at * C, model_classifier(m), 1, C, V);
    bool finite = all_finite(logits, V);
    free(logits);
    return finite ? "cross-entropy" : "logits";
}

bool diagnose_forward(const Model *m, Work *w, const Batch *b, TokenLoss *loss, Place *place)
{
    size_t C = m->shape.C, F = m->shape.F, L = m->shape.L, layer = 0;
    assert(w->kind == WORK_GRADIENT);
    w->whole = true;
    model_loss(m, w, b, loss);
    w->whole = false;
    float *y = mem_alloc(b->N * (C > F ? C : F), sizeof *y), *rstd = mem_alloc(b->N, sizeof *rstd);
    const char *operation = all_finite(w->acts[0].x, b->N * C) ? NULL : "embedding", *after = NULL;
    for (; !operation && layer < L; layer++)
        operation = bad_operation(m, w, b, layer, layer + 1 < L ? w->acts[layer + 1].x : w->out, y, rstd);
    if (!operation) after = bad_head(m, w, b, loss, y, rstd);
    if (layer && operation) snprintf(place->text, sizeof place->text, "layer %zu: %s", layer - 1, operation);
    else if (operation || after) snprintf(place->text, sizeof place->text, "%s", operation ? operation : after);
    free(y);
    free(rstd);
    return operation || after;
}

// ---- where a gradient arrives -------------------------------------------------------------------------------------

static double squares(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sum;
}

PlaceGradient diagnose_places(Model *m, Work *w, const Batch *b, TokenLoss *loss, double divisor, const bool *tokens,
                              const bool *targets)
{
    const Shape *s = &m->shape;
    PlaceGradient g = {0};
    float *logits = mem_alloc(s->V, sizeof *logits);
    w->whole = true;
    model_loss(m, w, b, loss);
    for (size_t i = 0; i < b->M; i++) {
        float scale = (float)(b->weight[i] / divisor);
        if (!targets[i]) continue;
        linear_forward(logits, NULL, w->norm_out + i * s->C, model_classifier(m), 1, s->C, s->V);
        cross_entropy(&loss[i], logits, b->target + i, &scale, b->objective, 1, s->V);
        g.logits += squares(logits, s->V);
    }
    free(logits);
    model_gradient(m, w, b, loss, divisor, false);
    w->whole = false;
    // layer 0's, as layer_queries of transformer.c lays them out
    bool alone = s->L == 1, reached = !m->adapter || m->adapter->lowest < lora_index(WO, 0);
    size_t stride = 2 * s->KD + (alone ? 0 : s->HD);
    const float *dkv = w->dqkv + (alone ? b->M * s->HD : s->HD);
    for (size_t n = 0; n < b->N; n++) {
        if (!tokens[n]) continue;
        g.keys += reached ? squares(dkv + n * stride, s->KD) : NAN;
        g.values += reached ? squares(dkv + n * stride + s->KD, s->KD) : NAN;
    }
    return (PlaceGradient){sqrt(g.logits), sqrt(g.keys), sqrt(g.values)};
}
