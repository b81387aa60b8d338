// progress: where a run stands between two steps, what its steps came to, and the lines of log.jsonl that say so.
#ifndef PROGRESS_H
#define PROGRESS_H

#include "../rows/batch.h"
#include "options.h"

// How long a run is, and when it does what: steps between two lines, evaluations or checkpoints.
enum { NEVER = 0, EVERY_EPOCH = -1 };
typedef struct {
    int64_t n_steps, steps_per_epoch, warmup, logging, eval, save;
    int64_t batch, batches_per_epoch;                      // rows of a batch; batches: an update may take several
    bool eval_on_start, eval_at_end;
} Plan;
Plan plan_run(const Options *o, size_t n_rows);            // parts of all steps as transformers counts them

// Sums over targets, times their weights, of the steps since the last line of the log, or since the beginning. `loss`
// is the sum of the steps' losses: a logged loss is the mean of the steps, as in transformers. All else is a mean over
// tokens.
typedef struct { double weighted_loss, entropy, correct, weight, loss, seconds; size_t steps, tokens, rows; } TrainSums;
void sums_add_batch(TrainSums *sums, const Batch *b, const TokenLoss *losses);
void sums_add_step(TrainSums *to, const TrainSums *step);

// What a checkpoint keeps of a run besides weights and moments. resume.c lists the fields.
typedef struct {
    int64_t step;
    uint64_t epoch;
    size_t next;                                           // place in the epoch's order
    size_t num_tokens, supervised_tokens;
    double grad_norm, lr;                                  // of the last step, which may not be logged yet
    TrainSums since_log, total;
    double best_metric;                                    // of load_best_model_at_end: the best evaluation so far,
    int64_t best_step;                                     // and the step of its checkpoint; 0: none
} Progress;

bool progress_due(const Progress *p, int64_t every);       // after the step that was just done

// Takes the evaluation of a step as the best one, if it is, by metric_for_best_model.
bool progress_note_best(Progress *p, const Options *o, const cJSON *line, Err *e);

// Passes over the rows so far, in batches as transformers counts them: 1.4 after 14 batches of 10.
double progress_epoch(const Progress *p, const Plan *plan);

// Lines of the log, owned by the caller.
cJSON *progress_line(const Progress *p, const Plan *plan);                 // step and epoch, to which others add
cJSON *progress_train_line(const Progress *p, const Plan *plan);           // the steps since the last such line
cJSON *progress_end_line(const Progress *p, const Plan *plan, double runtime);

#endif
