// optim: see optim.h.
#include "optim.h"

#include "lanes.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 1 << 15 };                  // parameters handled as one piece of work

// Zeros, written by all threads: a page of calloc's that is first read and then written costs two faults, and the
// second interrupts the other threads.
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
    if (optim_table[o->id].n_moments == 0) return true;
    o->moment1 = zeros(n_params);
    o->moment2 = zeros(n_params);
    if (o->moment1 && o->moment2) return true;
    optim_free(o);
    return fail(e, "out of memory: the optimizer's two moments need %.1f MB",
                2.0 * sizeof(float) * (double)n_params / 1e6);
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
        size_t n = m->n_params - p * PIECE < PIECE ? m->n_params - p * PIECE : PIECE;
        double sum = 0;
#pragma omp simd reduction(+ : sum)
        for (size_t i = 0; i < n; i++) sum += (double)g[i] * (double)g[i];
        sums[p] = sum;
    }
    for (size_t p = 0; p < n_pieces; p++) total += sums[p];
    free(sums);
    return sqrt(total);
}

// m1 and m2 are the running means of the gradient and of its square; the bias of their start at 0 is divided out.
static void adamw(const Optim *o, float *restrict p, const float *restrict g, float *restrict m1, float *restrict m2,
                  size_t n, float decay)
{
    float b1 = o->beta1, b2 = o->beta2, epsilon = o->epsilon, scale = o->grad_scale, keep = 1 - o->lr * decay;
    float rate = (float)(o->lr / (1 - pow((double)b1, (double)o->step)));
    float unbias = (float)(1 / sqrt(1 - pow((double)b2, (double)o->step)));
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        float grad = g[i] * scale;
        m1[i] = b1 * m1[i] + (1 - b1) * grad;
        m2[i] = b2 * m2[i] + (1 - b2) * grad * grad;
        p[i] = p[i] * keep - rate * m1[i] / (sqrtf(m2[i]) * unbias + epsilon);
    }
}

static void sgd(const Optim *o, float *restrict p, const float *restrict g, float *restrict m1, float *restrict m2,
                size_t n, float decay)
{
    (void)m1, (void)m2;
#pragma omp simd
    for (size_t i = 0; i < n; i++) p[i] -= o->lr * (g[i] * o->grad_scale + decay * p[i]);
}

const OptimRow optim_table[N_OPTIMS] = {
    [OPTIM_ADAMW] = {"adamw_torch", 2, adamw},
    [OPTIM_SGD] = {"sgd", 0, sgd},
};

const char *optim_name(size_t i) { return i < N_OPTIMS ? optim_table[i].name : NULL; }

OptimId optim_find(const char *name)
{
    OptimId id = 0;
    while (id < N_OPTIMS && strcmp(optim_table[id].name, name) != 0) id++;
    assert(id < N_OPTIMS);
    return id;
}

void optim_step(Optim *o, Model *m, double lr, double grad_scale)
{
    const Config *c = &m->config;
    bool moments = o->moment1 != NULL;
    o->step++;
    o->lr = (float)lr;
    o->grad_scale = (float)grad_scale;
#pragma omp parallel
    for (TensorId id = 0; id < N_TENSORS; id++) {
        float decay = tensor_table[id].decay ? o->weight_decay : 0;
        for (size_t l = 0; l < tensor_count(c, id); l++) {
            size_t at = tensor_offset(c, id, l), end = at + tensor_size(c, id);
#pragma omp for schedule(static) nowait
            for (size_t i = at; i < end; i += PIECE) {
                size_t n = i + PIECE < end ? PIECE : end - i;
                float *m1 = moments ? o->moment1 + i : NULL, *m2 = moments ? o->moment2 + i : NULL;
                optim_table[o->id].update(o, m->params + i, m->grads + i, m1, m2, n, decay);
            }
        }
    }
}

// ---- schedules ----------------------------------------------------------------------------------------------------

// The share of the peak while it warms up, 1 after.
static double warm(int64_t step, int64_t warmup)
{
    return step < warmup ? (double)step / (double)(warmup > 1 ? warmup : 1) : 1;
}

// The updates after the warm-up, at least 1.
static double length_after(int64_t warmup, int64_t total) { return (double)(total - warmup > 1 ? total - warmup : 1); }

static double linear(int64_t step, int64_t warmup, int64_t total)
{
    return step < warmup ? warm(step, warmup) : fmax(0, (double)(total - step) / length_after(warmup, total));
}

static double cosine(int64_t step, int64_t warmup, int64_t total)
{
    if (step < warmup) return warm(step, warmup);
    return fmax(0, 0.5 * (1 + cos(M_PI * (double)(step - warmup) / length_after(warmup, total))));
}

static double constant(int64_t step, int64_t warmup, int64_t total)
{
    (void)step, (void)warmup, (void)total;                 // transformers' constant ignores the warm-up
    return 1;
}

static double constant_with_warmup(int64_t step, int64_t warmup, int64_t total)
{
    (void)total;
    return warm(step, warmup);
}

static const Schedule schedules[] = {
    {"linear", linear}, {"cosine", cosine}, {"constant", constant}, {"constant_with_warmup", constant_with_warmup},
};
enum { N_SCHEDULES = sizeof schedules / sizeof *schedules };

const char *schedule_name(size_t i) { return i < N_SCHEDULES ? schedules[i].name : NULL; }

const Schedule *schedule_find(const char *name)
{
    size_t i = 0;
    while (i < N_SCHEDULES && strcmp(schedules[i].name, name) != 0) i++;
    assert(i < N_SCHEDULES);
    return &schedules[i];
}
