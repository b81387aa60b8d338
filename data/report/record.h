// record: a run's log for other programs. log.csv has one row for each line of log.jsonl; the event file is what
// TensorBoard reads (report_to=tensorboard); trainer_state.json is that of transformers' Trainer. log.jsonl is the one
// that counts: a run that goes on cuts it back, and makes the others anew from its lines.
#ifndef RECORD_H
#define RECORD_H

#include "../run/output.h"
#include "../run/progress.h"

// Makes log.csv and the event file from the lines that are there, and tells the run when it was last evaluated.
bool record_open(Run *r, Err *e);
bool record_line(Run *r, cJSON *line, Err *e);             // adds a line to all logs; takes it over
// output_dir/trainer_state.json: what transformers keeps of a run, with all lines as log_history.
bool record_state(const Run *r, const Progress *p, const Plan *plan, Err *e);
// The folder of the events of one run of a comparison: TensorBoard shows folders as runs. Owned by the caller.
char *record_events_dir(const char *output_dir, const char *arm, int64_t seed);

#endif
