// optim: gradient norm, AdamW and SGD over the flat arena of what is trained, and the learning-rate schedules.
#ifndef OPTIM_H
#define OPTIM_H

#include "model.h"

// An optimizer: how one slice of n parameters is updated. To add one: its name here, its row and its function
// in optim.c. What it keeps for each parameter counts as a moment: checkpoints and the memory estimate include it.
typedef enum { OPTIM_ADAMW, OPTIM_SGD, N_OPTIMS } OptimId;

typedef struct Optim Optim;
typedef struct {
    const char *name;                                      // of the config key "optim"
    int n_moments;                                         // numbers kept beside each parameter: 0 or 2
    void (*update)(const Optim *o, float *p, const float *g, float *m1, float *m2, size_t n, float decay);
} OptimRow;
extern const OptimRow optim_table[N_OPTIMS];
const char *optim_name(size_t i);                          // of row i; NULL from N_OPTIMS on
OptimId optim_find(const char *name);                      // a name of the table (assert)

struct Optim {
    OptimId id;
    float beta1, beta2, epsilon, weight_decay;             // decay applies where the tensor table says so
    float *moment1, *moment2;                              // as long as the parameters; NULL without moments
    int64_t step;                                          // updates done
    float lr, grad_scale;                                  // of the current update
};

bool optim_init(Optim *o, size_t n_params, Err *e);        // id and the numbers are already set
void optim_free(Optim *o);                                 // accepts {0}

// The L2 norm of all gradients together, summed in double in a fixed order.
double grads_norm(const Model *m);

// One update with the gradients times grad_scale (clipping: min(1, max_grad_norm / (norm + 1e-6)), as PyTorch does).
// AdamW (Loshchilov & Hutter 2019): p -= lr * wd * p, then p -= lr * m_hat / (sqrt(v_hat) + epsilon).
// SGD, as PyTorch's without momentum: p -= lr * (g + wd * p).
void optim_step(Optim *o, Model *m, double lr, double grad_scale);

// A learning-rate schedule: the factor of the peak rate at update `step` (0-based) of `total`, as in transformers'
// get_scheduler. As there, the first update of a warm-up has rate 0. To add one: a row and its
// function in optim.c.
enum { MAX_KWARGS = 6 };
typedef struct {
    const struct ScheduleRow *row;
    int64_t warmup, total;
    double peak;                                           // learning_rate
    double kwargs[MAX_KWARGS];                             // in the order of the row; -1: not given
} Schedule;
const char *schedule_name(size_t i);                       // a name of row i; NULL after the last
// `name` is one of the table (assert). `kwargs` is lr_scheduler_kwargs (NULL: none).
bool schedule_init(Schedule *s, const char *name, const cJSON *kwargs, double peak, int64_t warmup, int64_t total,
                   Err *e);
double schedule_factor(const Schedule *s, int64_t step);

#endif
