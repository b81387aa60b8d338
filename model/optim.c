// optim: see optim.h.
#include "optim.h"

#include "lanes.h"
#include "lora.h"

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
    size_t n_pieces = (m->n_trained + PIECE - 1) / PIECE;
    double total = 0, *sums = mem_alloc(n_pieces, sizeof *sums);
#pragma omp parallel for schedule(static)
    for (size_t p = 0; p < n_pieces; p++) {
        const float *g = m->grads + p * PIECE;
        size_t n = m->n_trained - p * PIECE < PIECE ? m->n_trained - p * PIECE : PIECE;
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
    bool moments = o->moment1 != NULL, whole = m->adapter;             // an adapter's arena is taken as one tensor
    o->step++;
    o->lr = (float)lr;
    o->grad_scale = (float)grad_scale;
#pragma omp parallel
    for (TensorId id = 0; id < (whole ? 1 : N_TENSORS); id++) {
        float decay = whole || tensor_table[id].rows != SIZE_ONE ? o->weight_decay : 0;
        for (size_t l = 0; l < (whole ? 1 : tensor_count(c, id)); l++) {
            size_t at = whole ? 0 : tensor_offset(c, id, l), end = whole ? m->n_trained : at + tensor_size(c, id);
#pragma omp for schedule(static) nowait
            for (size_t i = at; i < end; i += PIECE) {
                size_t n = i + PIECE < end ? PIECE : end - i;
                float *m1 = moments ? o->moment1 + i : NULL, *m2 = moments ? o->moment2 + i : NULL;
                optim_table[o->id].update(o, m->trained + i, m->grads + i, m1, m2, n, decay);
            }
        }
    }
    adapter_changed(m);
}

// ---- schedules ----------------------------------------------------------------------------------------------------

static double length(const Schedule *s) { return fmax(1, (double)(s->total - s->warmup)); }         // after the warm-up
static double done(const Schedule *s, int64_t step) { return (double)(step - s->warmup) / length(s); }
static double wave(double cycles) { return 0.5 * (1 + cos(2 * M_PI * cycles)); }       // from 1 down to 0, and up again

static double constant(const Schedule *s, int64_t step) { return (void)s, (void)step, 1; }
static double linear(const Schedule *s, int64_t step) { return fmax(0, (double)(s->total - step) / length(s)); }
static double cosine(const Schedule *s, int64_t step) { return fmax(0, wave(s->kwargs[0] * done(s, step))); }
static double restarts(const Schedule *s, int64_t step) { return wave(0.5 * fmod(s->kwargs[0] * done(s, step), 1)); }

static double cosine_with_min_lr(const Schedule *s, int64_t step)
{
    double least = s->kwargs[1] < 0 ? s->kwargs[2] : s->peak > 0 ? s->kwargs[1] / s->peak : 0;
    return fmax(0, wave(s->kwargs[0] * done(s, step)) * (1 - least) + least);
}

static double polynomial(const Schedule *s, int64_t step)
{
    double end = s->kwargs[0] / s->peak;
    return (1 - end) * pow(1 - done(s, step), s->kwargs[1]) + end;
}

static double inverse_sqrt(const Schedule *s, int64_t step)
{
    double scale = s->kwargs[0] > 0 ? s->kwargs[0] : s->warmup ? (double)s->warmup : 10000;
    return 1 / sqrt(((double)(step - s->warmup) + scale) / scale);
}

// 1 where `part` is 0, and 0 where it is 1. The types are those of `falls`.
static double fall(double type, double part, double cycles)
{
    return type == 0 ? 1 - part : type == 1 ? wave(cycles * part) : 1 - sqrt(part);
}

// The rate rises to the peak, stays there, and falls.
static double warmup_stable_decay(const Schedule *s, int64_t step)
{
    double decay = s->kwargs[0], least = s->kwargs[4], at = (double)(step - s->warmup), factor;
    double stable = s->kwargs[1] < 0 ? (double)(s->total - s->warmup) - decay : s->kwargs[1];
    if (at >= stable + decay) return least;
    if (at >= 0 && at < stable) return 1;
    if (at < 0) factor = fall(s->kwargs[2], -at / (double)s->warmup, 0.5);
    else factor = fall(s->kwargs[3], (at - stable) / fmax(1, decay), s->kwargs[5]);
    return fmax(0, factor * (1 - least) + least);
}

// A setting of lr_scheduler_kwargs: a number, or one of `words`, of which its place is kept. `initial` is -1 where the
// setting may be left out without a default, and NAN where it must be given.
typedef struct { const char *name; double initial; const char *const *words; } Kwarg;
static const char *const falls[] = {"linear", "cosine", "1-sqrt", NULL};

typedef struct ScheduleRow {
    const char *name;                                      // of the config key "lr_scheduler_type"
    double (*factor)(const Schedule *s, int64_t step);
    bool own_warmup;                                       // false: the rate rises in a line, and then comes `factor`
    Kwarg kwargs[MAX_KWARGS];
} ScheduleRow;

static const ScheduleRow schedules[] = {
    {"linear", linear, false, {{0}}},
    {"cosine", cosine, false, {{"num_cycles", 0.5, NULL}}},
    {"constant", constant, true, {{0}}},                   // transformers' constant ignores the warm-up
    {"constant_with_warmup", constant, false, {{0}}},
    {"cosine_with_restarts", restarts, false, {{"num_cycles", 1, NULL}}},
    {"cosine_with_min_lr", cosine_with_min_lr, false,
     {{"num_cycles", 0.5, NULL}, {"min_lr", -1, NULL}, {"min_lr_rate", -1, NULL}}},
    {"polynomial", polynomial, false, {{"lr_end", 1e-7, NULL}, {"power", 1, NULL}}},
    {"inverse_sqrt", inverse_sqrt, false, {{"timescale", -1, NULL}}},
    {"warmup_stable_decay", warmup_stable_decay, true,
     {{"num_decay_steps", NAN, NULL}, {"num_stable_steps", -1, NULL}, {"warmup_type", 0, falls},
      {"decay_type", 1, falls}, {"min_lr_ratio", 0, NULL}, {"num_cycles", 0.5, NULL}}},
};
enum { N_SCHEDULES = sizeof schedules / sizeof *schedules };

const char *schedule_name(size_t i) { return i < N_SCHEDULES ? schedules[i].name : NULL; }

static bool read_kwarg(double *out, const Kwarg *k, const cJSON *kwargs, Err *e)
{
    const cJSON *v = json_get(kwargs, k->name);
    if (!k->words || json_is_absent(v))
        return json_get_number(out, kwargs, "lr_scheduler_kwargs", k->name, k->initial, e);
    for (size_t i = 0; k->words[i]; i++)
        if (cJSON_IsString(v) && strcmp(v->valuestring, k->words[i]) == 0) return *out = (double)i, true;
    return fail(e, "lr_scheduler_kwargs.%s: expected linear, cosine or 1-sqrt", k->name);
}

bool schedule_init(Schedule *s, const char *name, const cJSON *kwargs, double peak, int64_t warmup, int64_t total,
                   Err *e)
{
    const ScheduleRow *row = schedules;
    while (row < schedules + N_SCHEDULES && strcmp(row->name, name) != 0) row++;
    assert(row < schedules + N_SCHEDULES);
    *s = (Schedule){.row = row, .warmup = warmup, .total = total, .peak = peak};
    for (const cJSON *v = kwargs ? kwargs->child : NULL; v; v = v->next) {
        int k = 0;
        while (k < MAX_KWARGS && row->kwargs[k].name && strcmp(row->kwargs[k].name, v->string) != 0) k++;
        if (k == MAX_KWARGS || !row->kwargs[k].name)
            return fail(e, "lr_scheduler_kwargs: %s has no setting \"%s\"", name, v->string);
    }
    for (int k = 0; k < MAX_KWARGS && row->kwargs[k].name; k++)
        if (!read_kwarg(&s->kwargs[k], &row->kwargs[k], kwargs, e)) return false;
    if (row->factor == polynomial && s->kwargs[0] >= peak)
        return fail(e, "lr_scheduler_kwargs.lr_end: expected less than learning_rate, found %g", s->kwargs[0]);
    return row->factor != cosine_with_min_lr || (s->kwargs[1] < 0) != (s->kwargs[2] < 0) ||
           fail(e, "lr_scheduler_kwargs: expected one of min_lr and min_lr_rate");
}

double schedule_factor(const Schedule *s, int64_t step)
{
    return step < s->warmup && !s->row->own_warmup ? (double)step / (double)s->warmup : s->row->factor(s, step);
}
