// batch: examples -> what the model eats: rows end to end, and the targets of the loss. Labels are shifted here and
// nowhere else: position t is asked for token t + 1.
#ifndef BATCH_H
#define BATCH_H

#include "../../model/transformer.h"
#include "example.h"

// Sizes that a batch of some examples needs.
typedef struct { size_t tokens, row, rows, targets; } BatchSize;

bool batch_init(Batch *b, BatchSize max, Err *e);
void batch_free(Batch *b);                                 // accepts {0}
void batch_clear(Batch *b);

// The targets of training are the tokens with a weight; nothing behind a row's last target is kept, for nothing needs
// it. Those of evaluation are all tokens but each row's first.
typedef enum { BATCH_TRAIN, BATCH_EVAL } BatchKind;

BatchSize example_size(const Example *ex, BatchKind kind); // row and tokens are 0 if it has no target
// Lays the example at the end. It must fit.
void batch_add(Batch *b, const Example *ex, BatchKind kind);

// The largest batches that any `rows` of the n examples can make.
BatchSize batch_bound(const Example *const *examples, size_t n, size_t rows, BatchKind kind);

// The order of an epoch: 0 .. n-1, shuffled by seed and epoch if wanted.
void epoch_order(size_t *order, size_t n, bool shuffle, uint64_t seed, uint64_t epoch);

#endif
