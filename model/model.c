// model: see model.h.
#include "model.h"

#include "lora.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---- the tensor table ---------------------------------------------------------------------------------------------

#define LAYER(name) "model.layers.%d." name ".weight"
#define BIAS(name) "model.layers.%d.self_attn." name ".bias"
const TensorInfo tensor_table[N_TENSORS] = {
    [TOK_EMB]    = {"tok_emb",    "model.embed_tokens.weight",       SIZE_VOCAB,  SIZE_DIM,    ALWAYS,   false, false},
    [ATT_NORM]   = {"att_norm",   LAYER("input_layernorm"),          SIZE_ONE,    SIZE_DIM,    ALWAYS,    true, false},
    [WQ]         = {"wq",         LAYER("self_attn.q_proj"),         SIZE_QUERY,  SIZE_DIM,    ALWAYS,    true, true},
    [WK]         = {"wk",         LAYER("self_attn.k_proj"),         SIZE_KV,     SIZE_DIM,    ALWAYS,    true, true},
    [WV]         = {"wv",         LAYER("self_attn.v_proj"),         SIZE_KV,     SIZE_DIM,    ALWAYS,    true, false},
    [WO]         = {"wo",         LAYER("self_attn.o_proj"),         SIZE_DIM,    SIZE_QUERY,  ALWAYS,    true, false},
    [FFN_NORM]   = {"ffn_norm",   LAYER("post_attention_layernorm"), SIZE_ONE,    SIZE_DIM,    ALWAYS,    true, false},
    [W1]         = {"w1",         LAYER("mlp.gate_proj"),            SIZE_HIDDEN, SIZE_DIM,    ALWAYS,    true, false},
    [W3]         = {"w3",         LAYER("mlp.up_proj"),              SIZE_HIDDEN, SIZE_DIM,    ALWAYS,    true, false},
    [W2]         = {"w2",         LAYER("mlp.down_proj"),            SIZE_DIM,    SIZE_HIDDEN, ALWAYS,    true, false},
    [FINAL_NORM] = {"final_norm", "model.norm.weight",               SIZE_ONE,    SIZE_DIM,    ALWAYS,   false, false},
    [CLASSIFIER] = {"classifier", "lm_head.weight",                  SIZE_VOCAB,  SIZE_DIM,    UNTIED,   false, false},
    [BQ]         = {"bq",         BIAS("q_proj"),                    SIZE_ONE,    SIZE_QUERY,  QKV_BIAS,  true, true},
    [BK]         = {"bk",         BIAS("k_proj"),                    SIZE_ONE,    SIZE_KV,     QKV_BIAS,  true, true},
    [BV]         = {"bv",         BIAS("v_proj"),                    SIZE_ONE,    SIZE_KV,     QKV_BIAS,  true, false},
    [BO]         = {"bo",         BIAS("o_proj"),                    SIZE_ONE,    SIZE_DIM,    O_BIAS,    true, false},
    [Q_NORM]     = {"q_norm",     LAYER("self_attn.q_norm"),         SIZE_ONE,    SIZE_HEAD,   QK_NORM,   true, true},
    [K_NORM]     = {"k_norm",     LAYER("self_attn.k_norm"),         SIZE_ONE,    SIZE_HEAD,   QK_NORM,   true, true},
};
#undef LAYER
#undef BIAS

Shape config_shape(const Config *c)
{
    size_t L = (size_t)c->n_layers, C = (size_t)c->dim, F = (size_t)c->hidden_dim, V = (size_t)c->vocab_size;
    size_t H = (size_t)c->n_heads, K = (size_t)c->n_kv_heads, D = (size_t)c->head_dim;
    return (Shape){.L = L, .C = C, .F = F, .V = V, .H = H, .K = K, .D = D, .HD = H * D, .KD = K * D};
}

size_t config_size(const Config *c, Size size)
{
    const Shape s = config_shape(c);
    const size_t sizes[] = {[SIZE_ONE] = 1,    [SIZE_DIM] = s.C,    [SIZE_QUERY] = s.HD, [SIZE_KV] = s.KD,
                            [SIZE_HEAD] = s.D, [SIZE_HIDDEN] = s.F, [SIZE_VOCAB] = s.V};
    return sizes[size];
}

size_t tensor_count(const Config *c, TensorId id)
{
    const bool has[] = {[ALWAYS] = true, [UNTIED] = !c->tied, [QKV_BIAS] = c->qkv_bias, [O_BIAS] = c->o_bias,
                        [QK_NORM] = c->qk_norm};
    return !has[tensor_table[id].present] ? 0 : tensor_table[id].per_layer ? (size_t)c->n_layers : 1;
}

size_t tensor_size(const Config *c, TensorId id)
{
    return config_size(c, tensor_table[id].rows) * config_size(c, tensor_table[id].columns);
}

// The embedding, the layers, then what follows them; each group in the order of the table.
size_t tensor_offset(const Config *c, TensorId id, size_t layer)
{
    bool inside = tensor_table[id].per_layer;
    size_t before = 0, one_layer = 0;
    for (TensorId t = 0; t < N_TENSORS; t++) {
        size_t size = tensor_count(c, t) ? tensor_size(c, t) : 0;
        if (tensor_table[t].per_layer) one_layer += size;
        if (t < id && tensor_table[t].per_layer == inside) before += size;
    }
    if (inside) return tensor_size(c, TOK_EMB) + layer * one_layer + before;
    return before + (id == TOK_EMB ? 0 : (size_t)c->n_layers * one_layer);
}

void tensor_hf_name(TensorId id, size_t layer, char out[96])
{
    const char *pattern = tensor_table[id].hf_name, *mark = strstr(pattern, "%d");
    if (!mark) snprintf(out, 96, "%s", pattern);
    else snprintf(out, 96, "%.*s%zu%s", (int)(mark - pattern), pattern, layer, mark + 2);
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
        {"dim", c->dim, 1 << 16}, {"hidden_dim", c->hidden_dim, 1 << 18}, {"n_layers", c->n_layers, MAX_LAYERS},
        {"n_heads", c->n_heads, 1 << 12}, {"n_kv_heads", c->n_kv_heads, 1 << 12}, {"head_dim", c->head_dim, 1 << 12},
        {"vocab_size", c->vocab_size, 1 << 22}, {"seq_len", c->seq_len, 1 << 22},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i].value < 1 || sizes[i].value > sizes[i].max)
            return fail(e, "%s: expected 1 to %d, found %d", sizes[i].name, sizes[i].max, sizes[i].value);
    if (c->n_heads % c->n_kv_heads)
        return fail(e, "n_heads: expected a multiple of n_kv_heads (%d), found %d", c->n_kv_heads, c->n_heads);
    if (c->head_dim % 2) return fail(e, "head_dim: expected an even number, found %d", c->head_dim);
    if (!(c->norm_eps >= 0 && c->norm_eps < 1))
        return fail(e, "norm_eps: expected 0 to 1, found %g", (double)c->norm_eps);
    if (!(c->rope_theta > 0))
        return fail(e, "rope_theta: expected a positive number, found %g", (double)c->rope_theta);
    return true;
}

// ---- the model ----------------------------------------------------------------------------------------------------

float *floats_alloc(size_t n, Err *e)
{
    void *p = NULL;
    if (n > SIZE_MAX / sizeof(float) || posix_memalign(&p, 64, n * sizeof(float)) != 0) {
        fail(e, "out of memory: %.1f MB could not be allocated", (double)n * sizeof(float) / 1e6);
        return NULL;
    }
    return p;
}

float rope_frequency(const Config *c, int i)
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
    *m = (Model){.config = *c, .shape = config_shape(c)};
    if (!config_check(c, e)) return false;
    m->n_params = m->n_trained = params_count(c);
    m->params = m->trained = floats_alloc(m->n_params, e);
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

bool model_init_grads(Model *m, Err *e)
{
    m->grads = floats_alloc(m->n_trained, e);
    return m->grads;
}

const float *model_embedding(const Model *m)
{
    return m->adapter && m->adapter->embedding ? m->adapter->embedding : model_param(m, TOK_EMB, 0);
}

const float *model_classifier(const Model *m)
{
    return m->config.tied ? model_embedding(m) : model_param(m, CLASSIFIER, 0);
}

void model_free(Model *m)
{
    if (m->trained != m->params) free(m->trained);
    adapter_free(m->adapter);
    free(m->params);
    free(m->grads);
    free(m->cos_sin);
    *m = (Model){0};
}

void model_randomize(Model *m, uint64_t seed)
{
    const Config *c = &m->config;
    Rng rng = rng_seed(seed);
    for (TensorId id = 0; id < N_TENSORS; id++) {
        bool residual = id == WO || id == W2, vector = tensor_table[id].rows == SIZE_ONE;
        double std = residual ? 0.02 / sqrt(2.0 * c->n_layers) : 0.02;
        for (size_t l = 0; l < tensor_count(c, id); l++) {
            float *w = model_param(m, id, l);
            for (size_t i = 0, n = tensor_size(c, id); i < n; i++)
                w[i] = !vector ? (float)(std * rng_normal(&rng)) : id >= BQ && id <= BO ? 0 : 1;
        }
    }
}
