// batch: see batch.h.
#include "batch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// Is token t, which position t - 1 predicts, a target? In training a label of -100 is none: this is where the loss
// ignores it.
static bool is_target(const Example *ex, size_t t, BatchKind kind)
{
    return kind == BATCH_EVAL || ex->labels[t] != IGNORE;
}

double example_weight(const Example *ex)
{
    double sum = 0;
    for (size_t t = 1; t < ex->n; t++)
        if (is_target(ex, t, BATCH_TRAIN)) sum += (double)ex->weights[t];
    return sum;
}

BatchSize example_size(const Example *ex, BatchKind kind)
{
    BatchSize size = {.rows = 1};
    for (size_t t = 1; t < ex->n; t++)
        if (is_target(ex, t, kind)) {
            size.targets++;
            size.row = size.tokens = t;                    // the positions 0 .. t-1
        }
    return size;
}

// Of n tokens of a row that has `all`, from position `at` on.
static void draw_noise(Noise *noise, size_t at, size_t n, size_t all)
{
    double limit = noise->alpha / sqrt((double)(all * noise->C));
    for (size_t i = at * noise->C; i < (at + n) * noise->C; i++)
        noise->values[i] = (float)((2 * rng_uniform(&noise->rng) - 1) * limit);
}

void batch_add(Batch *b, const Example *ex, BatchKind kind)
{
    size_t n = example_size(ex, kind).row;
    if (n == 0) return;
    memcpy(b->ids + b->N, ex->ids, n * sizeof *b->ids);
    for (size_t t = 1; t <= n; t++) {
        if (!is_target(ex, t, kind)) continue;
        b->at[b->M] = b->N + t - 1;                        // THE shift: position t - 1 predicts token t
        b->target[b->M] = ex->labels[t] != IGNORE ? ex->labels[t] : ex->ids[t];      // -100: in an evaluation only
        b->weight[b->M++] = ex->weights[t];
    }
    if (b->noise.values && kind == BATCH_TRAIN) draw_noise(&b->noise, b->N, n, ex->n);
    b->N += n;
    b->starts[++b->S] = b->N;
}

static int descending(const void *a, const void *b)
{
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return x > y ? -1 : x < y;
}

static size_t sum_of_largest(size_t *values, size_t n, size_t count)
{
    size_t sum = 0;
    qsort(values, n, sizeof *values, descending);
    for (size_t i = 0; i < n && i < count; i++) sum += values[i];
    return sum;
}

BatchSize batch_bound(const Example *const *examples, size_t n, size_t rows, BatchKind kind)
{
    size_t *tokens = mem_alloc(n, sizeof *tokens), *targets = mem_alloc(n, sizeof *targets);
    for (size_t i = 0; i < n; i++) {
        BatchSize size = example_size(examples[i], kind);
        tokens[i] = size.tokens;
        targets[i] = size.targets;
    }
    BatchSize max = {.rows = rows < n ? rows : n};
    max.tokens = sum_of_largest(tokens, n, rows);
    max.row = n ? tokens[0] : 0;
    max.targets = sum_of_largest(targets, n, rows);
    free(tokens);
    free(targets);
    return max;
}

void epoch_order(size_t *order, size_t n, bool shuffle, uint64_t seed, uint64_t epoch)
{
    Rng rng = rng_seed(seed * 1000003 + epoch);
    for (size_t i = 0; i < n; i++) order[i] = i;
    for (size_t i = n; shuffle && i > 1; i--) {            // Fisher and Yates
        size_t j = rng_below(&rng, i), swap = order[i - 1];
        order[i - 1] = order[j];
        order[j] = swap;
    }
}
