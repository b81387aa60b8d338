// resume: checkpoint folders. output_dir/checkpoint-N holds the model and its tokenizer as output_dir will in the end,
// the optimizer's moments (optimizer.safetensors) and where the run stood (resume.json); trainer_state.json is for
// programs of others. The order of rows is a function of seed and epoch, so nothing of it is kept. A run that goes on
// from one ends with the same bits, so one by a program that may have computed other bits is refused.
#ifndef RESUME_H
#define RESUME_H

#include "output.h"
#include "progress.h"

// Counts up whenever a checkpoint holds something else, or a step computes other bits from the same config and rows.
enum { PROGRAM_VERSION = 17 };

// Writes checkpoint-<step> under a temporary name, syncs it, renames it and syncs that; only then removes what is
// beyond save_total_limit.
bool resume_write(const Run *r, const Progress *p, Err *e);

// Removes the checkpoints of output_dir that are of later steps: all (-1) where a run begins anew, since the log that
// they belong to is gone. Folders that are not ours stay, whatever their name.
bool resume_remove_after(const Options *o, int64_t step, Err *e);

// resume_from_checkpoint as a folder: itself, or the newest checkpoint of output_dir if it is "latest". Owned by the
// caller.
char *resume_find(const Options *o, Err *e);
Path resume_path(const Options *o, int64_t step);          // of the checkpoint of a step

// The state in a checkpoint folder, owned by the caller. NULL if it is of another program version, config or data set,
// with what differs.
cJSON *resume_open(const Run *r, const char *folder, Err *e);

// Takes the state over, once model and optimizer stand: reads the moments, cuts log.jsonl and traces.jsonl back to
// where they stood and removes the checkpoints of later steps.
bool resume_read(Run *r, Progress *p, const cJSON *state, const char *folder, Err *e);

// Adds to the message which checkpoint is the one before it, if there is one.
void resume_offer_older(const Options *o, const char *folder, Err *e);

#endif
