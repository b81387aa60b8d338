// resume: checkpoint folders. output_dir/checkpoint-N holds the model and its tokenizer as output_dir will in the end, the
// optimizer's moments (optimizer.safetensors) and where the run stood (trainer_state.json). The order of rows is a
// function of seed and epoch, so nothing of it is kept. A run that goes on from one ends with the same bits.
#ifndef RESUME_H
#define RESUME_H

#include "run.h"

// Sums since the last line of the log, or since the beginning.
typedef struct { double nll, entropy, correct, weight, seconds; size_t tokens, rows; } TrainSums;

// Where a run stands between two steps.
typedef struct {
    int64_t step;
    uint64_t epoch;
    size_t next;                                           // place in the epoch's order
    size_t num_tokens, supervised_tokens;
    TrainSums since_log, total;
} Progress;

// Writes checkpoint-<step> to a temporary name, syncs it and renames it, and only then removes what is beyond
// save_total_limit.
bool checkpoint_write(const Run *r, const Progress *p, Err *e);

// resume_from_checkpoint as a folder: itself, or the newest checkpoint of output_dir if it is "latest". Owned by the caller.
char *checkpoint_find(const Options *o, Err *e);

// Reads the state and the moments, after the model itself was loaded from the same folder, and cuts log.jsonl back to
// where it stood. A checkpoint of another config or data set is refused, with what differs.
bool checkpoint_read(Run *r, Progress *p, const char *folder, Err *e);

// Adds to the message which checkpoint is the one before it, if there is one.
void checkpoint_offer_older(const Options *o, const char *folder, Err *e);

#endif
