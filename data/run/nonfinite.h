// nonfinite: what is said when numbers go wrong: NaN or Inf in weights, or in a step's loss or gradient.
#ifndef NONFINITE_H
#define NONFINITE_H

#include "inputs.h"

// Fails, naming the tensor, where a weight is not finite; `whose` begins the message.
bool check_weights(const Model *m, const char *whose, Err *e);

// A step over rows[order[0 .. n)] whose loss or gradient is not finite, and that has not touched the weights.
typedef struct {
    const Example *const *rows;
    const size_t *order;
    size_t n;
    int64_t step;
    double divisor, loss, grad_norm;                       // the divisor of the step's sums, and what it came to
} BadStep;

// Looks at it again, row by row, and says which row (file:line) and which operation or tensor is the first to be so.
// Uses up the run's batch, gradients and work memory. Always fails.
bool explain_step(Run *r, const BadStep *s, Err *e);

#endif
