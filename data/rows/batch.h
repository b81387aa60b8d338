// batch: examples -> a batch for the model: rows end to end, and the targets of the loss. Labels are shifted here and
// nowhere else: position t - 1 predicts token t.
#ifndef BATCH_H
#define BATCH_H

#include "../../model/work.h"
#include "example.h"

// The targets of training are the labels that are not -100. Tokens after a row's last target are not kept: nothing
// needs them. The targets of an evaluation are all tokens except each row's first, with or without a label. Every run
// is therefore judged on the same tokens. Their weights are the same as in training.
typedef enum { BATCH_TRAIN, BATCH_EVAL } BatchKind;

BatchSize example_size(const Example *ex, BatchKind kind); // row and tokens are 0 if it has no target
// The sum of the weights of its targets in training. The loss and gradient of a step are divided by the sum of these.
double example_weight(const Example *ex);
// Appends the example to the batch. It must fit. For training it draws the row's noise, if the batch has any.
void batch_add(Batch *b, const Example *ex, BatchKind kind);

// The largest batches that any `rows` of the n examples can make.
BatchSize batch_bound(const Example *const *examples, size_t n, size_t rows, BatchKind kind);

// The order of an epoch: 0 .. n-1, shuffled by seed and epoch if wanted.
void epoch_order(size_t *order, size_t n, bool shuffle, uint64_t seed, uint64_t epoch);

#endif
