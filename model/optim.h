// optim: gradient norm, AdamW and SGD over the flat arenas, and the learning-rate schedules.
#ifndef OPTIM_H
#define OPTIM_H

#include "transformer.h"

typedef enum { OPTIM_ADAMW, OPTIM_SGD } OptimKind;

typedef struct {
    OptimKind kind;
    float beta1, beta2, epsilon, weight_decay;             // decay applies where the tensor table says so
    float *moment1, *moment2;                              // as long as the parameters; NULL for SGD
    int64_t step;                                          // updates done
} Optim;

bool optim_init(Optim *o, size_t n_params, Err *e);        // kind and the numbers are already set
void optim_free(Optim *o);                                 // accepts {0}

// The L2 norm of all gradients together, summed in double in a fixed order.
double grads_norm(const Model *m);

// One update with the gradients times grad_scale (clipping: min(1, max_grad_norm / (norm + 1e-6)), as PyTorch does).
// AdamW (Loshchilov & Hutter 2019): p -= lr * wd * p, then p -= lr * m_hat / (sqrt(v_hat) + epsilon).
// SGD, as PyTorch's without momentum: p -= lr * (g + wd * p).
void optim_step(Optim *o, Model *m, double lr, double grad_scale);

typedef enum { SCHEDULE_LINEAR, SCHEDULE_COSINE, SCHEDULE_CONSTANT, SCHEDULE_CONSTANT_WITH_WARMUP } Schedule;

// What the peak rate is multiplied with at update `step` (0-based) of `total`: transformers' get_scheduler. The first
// update of a warm-up has rate 0 there, and so it has here.
double schedule_factor(Schedule s, int64_t step, int64_t warmup, int64_t total);

#endif
