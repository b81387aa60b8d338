// progress: where a run stands between two steps, what its steps came to, and the lines of log.jsonl that say so.
#ifndef PROGRESS_H
#define PROGRESS_H

#include "../rows/batch.h"

// Sums over targets, times their weights, of the steps since the last line of the log, or since the beginning.
typedef struct { double nll, entropy, correct, weight, seconds; size_t tokens, rows; } TrainSums;
void sums_add_batch(TrainSums *sums, const Batch *b, const TokenLoss *losses);
void sums_add(TrainSums *to, const TrainSums *sums);

// What a checkpoint keeps of a run besides weights and moments. resume.c lists the fields.
typedef struct {
    int64_t step;
    uint64_t epoch;
    size_t next;                                           // place in the epoch's order
    size_t num_tokens, supervised_tokens;
    double grad_norm, lr;                                  // of the last step, which may not be logged yet
    TrainSums since_log, total;
} Progress;

// Lines of the log, owned by the caller. steps_per_epoch: updates.
cJSON *progress_line(const Progress *p, int64_t steps_per_epoch);          // step and epoch, to which others add
cJSON *progress_train_line(const Progress *p, int64_t steps_per_epoch);    // the steps since the last such line
cJSON *progress_end_line(const Progress *p, int64_t steps_per_epoch, double runtime);

// On a terminal, one line on stderr that each step overwrites; nothing elsewhere. `label` (NULL: none) comes first.
void progress_show(const Progress *p, int64_t n_steps, const char *label);
void progress_clear(void);                                 // ends that line, before something else is printed

#endif
