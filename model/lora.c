// lora: see lora.h.
#include "lora.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// Of the tensor with this lora_index.
static size_t rows_of(const Config *c, size_t i) { return config_size(c, tensor_table[i % N_TENSORS].rows); }
static size_t columns_of(const Config *c, size_t i) { return config_size(c, tensor_table[i % N_TENSORS].columns); }

// ---- the arena ----------------------------------------------------------------------------------------------------

void adapter_lay_out(Adapter *a, const Config *c)
{
    size_t n = (size_t)c->n_layers * N_TENSORS;
    a->n = a->layer_size = 0;
    a->lowest = a->n_tokens ? 0 : n;
    for (size_t i = 0; i < n; i++) {
        Lora *l = &a->lora[i];
        l->a = a->n;
        l->b = l->a + l->r * columns_of(c, i);
        a->n = l->b + l->r * rows_of(c, i);
        if (l->r && i < a->lowest) a->lowest = i;
        size_t layer = a->n - a->lora[i / N_TENSORS * N_TENSORS].a;
        if (layer > a->layer_size) a->layer_size = layer;
    }
    a->lora[n].a = a->token_rows = a->n;
    a->n += a->n_tokens * (size_t)c->dim;
}

bool model_adapt(Model *m, Adapter *a, Err *e)
{
    size_t table = tensor_size(&m->config, TOK_EMB) * sizeof(float);
    m->adapter = a;
    m->trained = malloc(a->n * sizeof *m->trained);
    m->n_trained = a->n;
    if (a->n_tokens) a->embedding = malloc(table);
    if (!m->trained || (a->n_tokens && !a->embedding)) return fail(e, "out of memory: an adapter of %zu numbers", a->n);
    if (a->n_tokens) memcpy(a->embedding, model_param(m, TOK_EMB, 0), table);
    return true;
}

void adapter_free(Adapter *a)
{
    if (!a) return;
    free(a->lora);
    free(a->tokens);
    free(a->embedding);
    cJSON_Delete(a->json);
    free(a);
}

void adapter_changed(Model *m)
{
    const Adapter *a = m->adapter;
    size_t C = m->shape.C;
    for (size_t j = 0; a && j < a->n_tokens; j++)
        memcpy(a->embedding + (size_t)a->tokens[j] * C, m->trained + a->token_rows + j * C, C * sizeof(float));
}

void adapter_randomize(Model *m, uint64_t seed)
{
    const Adapter *a = m->adapter;
    size_t C = m->shape.C;
    Rng rng = rng_seed(seed);
    memset(m->trained, 0, a->n * sizeof *m->trained);
    for (size_t i = 0; i < m->shape.L * N_TENSORS; i++) {
        double bound = 1 / sqrt((double)columns_of(&m->config, i));
        for (size_t k = a->lora[i].a; k < a->lora[i].b; k++)
            m->trained[k] = (float)(bound * (2 * rng_uniform(&rng) - 1));
    }
    for (size_t j = 0; j < a->n_tokens; j++)
        memcpy(m->trained + a->token_rows + j * C, a->embedding + (size_t)a->tokens[j] * C, C * sizeof(float));
}

void model_merge(Model *m)
{
    Adapter *a = m->adapter;
    for (size_t i = 0; i < m->shape.L * N_TENSORS; i++) {
        const Lora l = a->lora[i];
        size_t out = l.r ? rows_of(&m->config, i) : 0, in = columns_of(&m->config, i);
        const float *A = m->trained + l.a, *B = m->trained + l.b;
        float *w = model_param(m, i % N_TENSORS, i / N_TENSORS);
#pragma omp parallel for schedule(static)
        for (size_t k = 0; k < out * in; k++) {
            double sum = 0;
            for (size_t r = 0; r < l.r; r++) sum += (double)B[k / in * l.r + r] * (double)A[r * in + k % in];
            w[k] = (float)((double)w[k] + (double)l.scale * sum);
        }
    }
    if (a->embedding)
        memcpy(model_param(m, TOK_EMB, 0), a->embedding, tensor_size(&m->config, TOK_EMB) * sizeof(float));
    adapter_free(a);
    free(m->trained);
    m->adapter = NULL;
    m->trained = m->params;
    m->n_trained = m->n_params;
}

void lora_name(size_t index, char matrix, char out[128])
{
    char name[96];
    tensor_hf_name(index % N_TENSORS, index / N_TENSORS, name);
    snprintf(out, 128, "base_model.model.%.*s.lora_%c.weight", (int)(strlen(name) - strlen(".weight")), name, matrix);
}

bool adapter_finite(const Model *m, const float *numbers, char name[128])
{
    size_t at = 0, i = 0, n = m->shape.L * N_TENSORS;
    while (at < m->n_trained && isfinite(numbers[at])) at++;
    while (i < n && at >= m->adapter->lora[i + 1].a) i++;
    if (i == n) snprintf(name, 128, TOKEN_ROWS);
    else lora_name(i, at < m->adapter->lora[i].b ? 'A' : 'B', name);
    return at == m->n_trained;
}

// ---- branches -----------------------------------------------------------------------------------------------------

uint32_t lora_key(uint64_t seed, size_t row, size_t position)
{
    Rng rng = rng_seed(seed ^ ((uint64_t)row << 32 | position));
    return (uint32_t)(rng_next(&rng) >> 32);
}

// Each bit of x decides about each bit of the result (the constants are those of Chris Wellons' lowbias32).
static inline uint32_t mix(uint32_t x)
{
    x = (x ^ x >> 16) * 0x7FEB352Du;
    x = (x ^ x >> 15) * 0x846CA68Bu;
    return x ^ x >> 16;
}

// y = add + dropout(x) (R, in), without `add` where it is NULL: a number stays with probability 1 - p and is divided by
// that (Srivastava et al. 2014). Which ones stay follows from the row's key, the tensor and the column: the backward
// finds them again.
static void drop(float *y, const float *add, const float *x, const uint32_t *keys, size_t index, size_t R, size_t in,
                 float p)
{
    uint32_t limit = (uint32_t)((double)p * 0x1p32);
    float scale = 1 / (1 - p);
    for (size_t r = 0; r < R; r++, x += in, y += in) {
        uint32_t key = mix(keys[r] + (uint32_t)index * 0x9E3779B9u);
        const float *add_r = add ? add + r * in : NULL;
#pragma omp simd
        for (uint32_t c = 0; c < (uint32_t)in; c++)
            y[c] = (add_r ? add_r[c] : 0) + (mix(key ^ c) >= limit ? x[c] * scale : 0);
    }
}

// A branch and its tile, and scratch for it: u and du (R, r), dropped (R, in).
typedef struct {
    size_t r, in, out, index;
    float scale, p, *u, *du, *dropped;
    const float *A, *B;
    const uint32_t *keys;                                  // (R): of dropout; NULL: none
} Branch;

static bool branch_open(Branch *b, const Model *m, const Work *w, Products p, TensorId id, Tile t)
{
    const Adapter *a = m->adapter;
    const Lora *l = lora_at(a, id, p.layer);
    bool targets = p.layer + 1 == m->shape.L && p.first != WK;         // the tile's rows are targets, not tokens
    *b = (Branch){.r = l->r, .in = columns_of(&m->config, id), .out = rows_of(&m->config, id),
                  .index = p.layer * (CLASSIFIER + 1) + id, .scale = l->scale, .p = a->dropout, .A = m->trained + l->a,
                  .B = m->trained + l->b};
    if (!l->r) return false;
    if (w && w->drops) b->keys = w->keys + (targets ? w->max.tokens : 0) + t.n;
    b->u = mem_grow(NULL, t.R * (2 * l->r + (b->keys ? b->in : 0)), sizeof *b->u);
    b->du = b->u + t.R * l->r;
    b->dropped = b->du + t.R * l->r;
    return true;
}

// u = scale * dropout(x) A^T. Returns dropout(x).
static const float *branch_input(const Branch *b, const float *x, size_t R)
{
    if (b->keys) drop(b->dropped, NULL, x, b->keys, b->index, R, b->in, b->p), x = b->dropped;
    rows_product(b->u, b->r, x, b->in, b->A, true, R, b->in, b->r, 0);
    for (size_t i = 0; i < R * b->r; i++) b->u[i] *= b->scale;
    return x;
}

void lora_forward(const Model *m, const Work *w, Products p, Tile t, float *y, const float *x)
{
    Branch b;
    for (TensorId id = p.first; m->adapter && id <= p.last; y += rows_of(&m->config, id++)) {
        if (!branch_open(&b, m, w, p, id, t)) continue;
        branch_input(&b, x, t.R);
        rows_product(y, p.stride, b.u, b.r, b.B, true, t.R, b.r, b.out, 1);
        free(b.u);
    }
}

// With g = dy, u = scale * dropout(x) A^T:  dB = g^T u;  du = scale * g B;  dA = du^T dropout(x);  dx += dropout'(du A)
void lora_backward(const Model *m, const Work *w, Products p, Tile t, float *dx, const float *dy, const float *x)
{
    Branch b;
    for (TensorId id = p.first; m->adapter && id <= p.last; dy += rows_of(&m->config, id++)) {
        if (!branch_open(&b, m, w, p, id, t)) continue;
        rows_product(b.du, b.r, dy, p.stride, b.B, false, t.R, b.out, b.r, 0);
        for (size_t i = 0; i < t.R * b.r; i++) b.du[i] *= b.scale;
        if (x) {
            const float *dropped = branch_input(&b, x, t.R);
            float *grads = w->grads_tiles + t.i * m->adapter->layer_size;
            size_t at = lora_at(m->adapter, id, p.layer)->a - lora_at(m->adapter, TOK_EMB, p.layer)->a;
            rows_weights(grads + at, b.du, b.r, dropped, t.R, b.in, b.r);
            rows_weights(grads + at + b.r * b.in, dy, p.stride, b.u, t.R, b.r, b.out);
        }
        if (dx && b.keys) {
            rows_product(b.dropped, b.in, b.du, b.r, b.A, false, t.R, b.r, b.in, 0);
            drop(dx, dx, b.dropped, b.keys, b.index, t.R, b.in, b.p);
        } else if (dx) rows_product(dx, b.in, b.du, b.r, b.A, false, t.R, b.r, b.in, 1);
        free(b.u);
    }
}

void lora_tokens_backward(Model *m, const float *x, size_t R, const int *ids, const float *dlogits)
{
    const Adapter *a = m->adapter;
    size_t C = m->shape.C, V = m->shape.V;
#pragma omp parallel for schedule(static)
    for (size_t j = 0; j < a->n_tokens; j++) {
        float *drow = m->grads + a->token_rows + j * C;
        for (size_t r = 0; r < R; r++) {
            float g = ids ? ids[r] == a->tokens[j] : dlogits[r * V + (size_t)a->tokens[j]];
            for (size_t c = 0; g != 0 && c < C; c++) drow[c] += g * x[r * C + c];
        }
    }
}
