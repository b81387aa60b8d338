// evaluate: what a model's losses are on rows, by role.
#ifndef EVALUATE_H
#define EVALUATE_H

#include "inputs.h"

// Loss per token over fixed masks, summed over all rows and divided once. In batches of per_device_train_batch_size rows,
// whatever the run trains on, so that all runs over the same rows come to the same bits from the same weights.
EvalSums run_evaluate(Run *r, const Example *rows, size_t n);

#endif
