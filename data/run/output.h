// output: what a run writes: its folder, its log, its model; and a model exported to another format.
#ifndef OUTPUT_H
#define OUTPUT_H

#include "inputs.h"

// output_dir for this run alone, before anything costs time: made, locked, known to be writable, without what a killed run
// left half done; refused if it holds a model and may not be overwritten.
bool run_claim_output(Run *r, Err *e);
bool run_open_output(Run *r, Err *e);                      // its train_config.json and, but for a run that goes on, an empty log.jsonl
char *run_log_path(const Run *r);                          // owned by the caller
bool run_write_log(Run *r, cJSON *line, Err *e);           // takes the line over
bool run_holds_model(const char *dir);                     // has the folder a model, checkpoints or a comparison in it?
int64_t run_step_of(const char *name);                 // N of checkpoint-N, -1 if it is another name
// In the format it came in, its tokenizer beside it; all of it is on the disk before the first file of an old one is replaced.
bool run_save_model(const Run *r, const char *dir, Err *e);
bool run_write_model(const Run *r, const char *dir, Err *e);           // the same into a new folder, file by file
bool dir_stage(const char *dir, char **stage, Err *e);     // a new folder in `dir`, owned by the caller, for files that belong together
bool dir_publish(const char *dir, char *stage, bool ok, Err *e);       // moves them into `dir` if all is ok; ends the stage
bool run_save_tokenizer(const Run *r, const char *dir, Err *e);
cJSON *run_config_keys(const Run *r, Err *e);              // for Format.save; owned by the caller
// The model and its tokenizer to `out`: a .bin, or else a Hugging Face folder. Refused where there is one already.
bool run_export(Run *r, const char *model, const char *out, Err *e);

#endif
