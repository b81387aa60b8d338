// output: what a run writes: its folder, its log, its model; and a model exported to another format.
#ifndef OUTPUT_H
#define OUTPUT_H

#include "inputs.h"

// Claims output_dir for this run, before anything costs time: makes and locks the folder, checks that it can be written
// to, and removes what a killed run left unfinished. Refused if it holds a model, checkpoints or a comparison and may
// not be overwritten; the message offers resume_from_checkpoint if the command can_resume.
bool run_claim_output(Run *r, bool can_resume, Err *e);
bool run_open_output(Run *r, Err *e);                      // train_config.json; an empty log.jsonl unless it resumes
void run_remove_unfinished(const char *dir);               // files that a killed run left there under temporary names
void run_keep_line(Run *r, const cJSON *line);             // sets `evaluated` if this line of the log is an evaluation
bool run_write_log(Run *r, const cJSON *line, Err *e);     // keeps it too
cJSON *run_read_log(const Run *r, Err *e);                 // a list of its lines, each with a step; owned by the caller
cJSON *run_read_lines(const char *path, Err *e);           // the same of another such file
#define TRACES_FILE "traces.jsonl"                         // of trace.h
#define MAX_COUNT ((int64_t)1 << 53)                       // of a number in JSON: a double counts no further
#define EVENTS_FILE "events.out.tfevents.0"                // of TensorBoard
int64_t run_newest_checkpoint(const char *dir, int64_t below);         // the largest N < below of its folders
                                                           // checkpoint-N; -1 if there is none

// The model in the format it came in, and its tokenizer. All is on the disk before the first old file is replaced.
bool run_save_model(const Run *r, const char *dir, Err *e);
bool run_write_model(const Run *r, const char *dir, Err *e);           // the same into a new folder, file by file
bool run_copy_beside(const char *from_dir, const char *to_dir, const char *name, Err *e);      // if it is there

// What a .gguf has besides the model's keys: the tokenizer, of n_ids tokens; and what another .gguf said about itself.
bool run_gguf_keys(const Run *r, GgufKeys *k, int n_ids, Err *e);
// The model at the first path and its tokenizer, written to the second: a .bin, a .gguf, or else a Hugging Face folder.
// Refused where there is one already.
bool run_export(Run *r, char **model_and_out, Err *e);

#endif
