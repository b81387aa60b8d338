// optim: see optim.h.
#include "optim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 1 << 15, LANES = 64 };      // parameters handled as one piece of work

// Zeros, written by all threads: a page of calloc's that is first read and then written costs two faults, and the second
// interrupts the other threads.
static float *zeros(size_t n)
{
    float *x = malloc(n * sizeof *x);
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i += PIECE)
        if (x) memset(x + i, 0, (n - i < PIECE ? n - i : PIECE) * sizeof *x);
    return x;
}

bool optim_init(Optim *o, size_t n_params, Err *e)
{
    o->step = 0;
    o->moment1 = o->moment2 = NULL;
    if (o->kind != OPTIM_ADAMW) return true;
    o->moment1 = zeros(n_params);
    o->moment2 = zeros(n_params);
    if (o->moment1 && o->moment2) return true;
    optim_free(o);
    return fail(e, "out of memory: AdamW's two moments need %.1f MB", 2.0 * sizeof(float) * (double)n_params / 1e6);
}

void optim_free(Optim *o)
{
    free(o->moment1);
    free(o->moment2);
    o->moment1 = o->moment2 = NULL;
}

double grads_norm(const Model *m)
{
    size_t n_pieces = (m->n_params + PIECE - 1) / PIECE;
    double total = 0, *sums = mem_alloc(n_pieces, sizeof *sums);
#pragma omp parallel for schedule(static)
    for (size_t p = 0; p < n_pieces; p++) {
        const float *g = m->grads + p * PIECE;
        size_t n = m->n_params - p * PIECE < PIECE ? m->n_params - p * PIECE : PIECE, i = 0;
        double lane[LANES] = {0};                          // sums side by side, that do not wait for one another
        for (; i + LANES <= n; i += LANES)
            for (size_t l = 0; l < LANES; l++) lane[l] += (double)g[i + l] * (double)g[i + l];
        for (; i < n; i++) lane[0] += (double)g[i] * (double)g[i];
        for (size_t l = 0; l < LANES; l++) sums[p] += lane[l];
    }
    for (size_t p = 0; p < n_pieces; p++) total += sums[p];
    free(sums);
    return sqrt(total);
}

static void adamw(const Optim *o, float *restrict p, const float *restrict g, float *restrict m1, float *restrict m2,
                  size_t n, float lr, float scale, float decay)
{
    float b1 = o->beta1, b2 = o->beta2, epsilon = o->epsilon, keep = 1 - lr * decay;
    float rate = (float)(lr / (1 - pow((double)b1, (double)o->step)));
    float unbias = (float)(1 / sqrt(1 - pow((double)b2, (double)o->step)));
    for (size_t i = 0; i < n; i++) {
        float grad = g[i] * scale;
        m1[i] = b1 * m1[i] + (1 - b1) * grad;
        m2[i] = b2 * m2[i] + (1 - b2) * grad * grad;
        p[i] = p[i] * keep - rate * m1[i] / (sqrtf(m2[i]) * unbias + epsilon);
    }
}

static void sgd(float *restrict p, const float *restrict g, size_t n, float lr, float scale, float decay)
{
    for (size_t i = 0; i < n; i++) p[i] -= lr * (g[i] * scale + decay * p[i]);
}

void optim_step(Optim *o, Model *m, double lr, double grad_scale)
{
    const Config *c = &m->config;
    o->step++;
#pragma omp parallel
    for (TensorId id = 0; id < N_TENSORS; id++) {
        float decay = tensor_table[id].decay ? o->weight_decay : 0;
        for (size_t l = 0; l < tensor_count(c, id); l++) {
            size_t at = tensor_offset(c, id, l), end = at + tensor_size(c, id);
#pragma omp for schedule(static) nowait
            for (size_t i = at; i < end; i += PIECE) {
                size_t n = i + PIECE < end ? PIECE : end - i;
                if (o->kind == OPTIM_SGD) sgd(m->params + i, m->grads + i, n, (float)lr, (float)grad_scale, decay);
                else
                    adamw(o, m->params + i, m->grads + i, o->moment1 + i, o->moment2 + i, n, (float)lr, (float)grad_scale, decay);
            }
        }
    }
}

double schedule_factor(Schedule s, int64_t step, int64_t warmup, int64_t total)
{
    if (s == SCHEDULE_CONSTANT) return 1;
    if (step < warmup) return (double)step / (double)(warmup > 1 ? warmup : 1);
    if (s == SCHEDULE_CONSTANT_WITH_WARMUP) return 1;
    double length = (double)(total - warmup > 1 ? total - warmup : 1);
    if (s == SCHEDULE_LINEAR) return fmax(0, (double)(total - step) / length);
    return fmax(0, 0.5 * (1 + cos(M_PI * (double)(step - warmup) / length)));
}
