// run: what a config names, opened for a command (tokenizer, template, rows, model), evaluated, and written out again.
#ifndef RUN_H
#define RUN_H

#include "../../model/checkpoint.h"
#include "../../model/optim.h"
#include "../rows/batch.h"
#include "../rows/dataset.h"
#include "options.h"
#include "../report/report.h"

typedef struct {
    Options options;
    char *tokenizer_path;                                  // a tokenizer.bin, a tokenizer.json or a folder
    Tokenizer *tokenizer;
    Template *template;
    Recipe recipe;
    Dataset data, eval_data;
    Example *eval;                                         // borrowed from one of the two: the held-out rows
    size_t n_train, n_eval;                                // examples of data to train on; of eval
    Model model;
    Optim optim;
    BatchSize max;                                         // what the model has room for
    Batch batch;
    TokenLoss *losses;                                     // (max.targets)
    unsigned char *roles;                                  // (max.targets)
    int lock;                                              // on output_dir, once it is claimed; else 0
    EvalPoint *evals;                                      // what was logged of evaluations so far
    size_t n_evals, cap_evals;
} Run;

void run_free(Run *r);                                     // accepts {0}

// Tokenizer and chat template, for a command that has a model's path (NULL: tokenizer_name_or_path must be given).
bool run_open_tokenizer(Run *r, const char *model, Err *e);
bool run_open_template(Run *r, Err *e);
bool run_check_vocabulary(const Run *r, const Config *c, Err *e);
// Tokenizer, template, rows and (need_model, or if one is named) the model's shape.
bool run_open_inputs(Run *r, bool need_model, Config *c, Err *e);
// Loads the model, or makes it as model_init says; or takes the one of a checkpoint folder (NULL: none).
bool run_open_model(Run *r, const Config *c, const char *checkpoint, Err *e);
// The largest batches that these rows (NULL: none) make in training, or the held-out ones in an evaluation.
BatchSize run_batch_size(const Run *r, const Example *const *rows, size_t n_rows);
// Room for them.
bool run_make_room(Run *r, const Example *const *rows, size_t n_rows, bool training, Err *e);

// Loss per token over fixed masks, summed over all rows and divided once. In batches of per_device_train_batch_size rows,
// whatever the run trains on, so that all runs over the same rows come to the same bits from the same weights.
EvalSums run_evaluate(Run *r, const Example *rows, size_t n);

// output_dir for this run alone, before anything costs time: made, locked, known to be writable, without what a killed run
// left half done; refused if it holds a model and may not be overwritten.
bool run_claim_output(Run *r, Err *e);
bool run_open_output(Run *r, Err *e);                      // its train_config.json and, but for a run that goes on, an empty log.jsonl
char *run_log_path(const Run *r);                          // owned by the caller
bool run_write_log(Run *r, cJSON *line, Err *e);           // takes the line over
bool run_holds_model(const char *dir);                     // has the folder a model, checkpoints or a comparison in it?
int64_t checkpoint_step(const char *name);                 // N of checkpoint-N, -1 if it is another name
// In the format it came in, its tokenizer beside it; all of it is on the disk before the first file of an old one is replaced.
bool run_save_model(const Run *r, const char *dir, Err *e);
bool run_write_model(const Run *r, const char *dir, Err *e);           // the same into a new folder, file by file
bool dir_stage(const char *dir, char **stage, Err *e);     // a new folder in `dir`, owned by the caller, for files that belong together
bool dir_publish(const char *dir, char *stage, bool ok, Err *e);       // moves them into `dir` if all is ok; ends the stage
bool run_save_tokenizer(const Run *r, const char *dir, Err *e);
cJSON *run_config_keys(const Run *r, Err *e);              // for checkpoint_save_folder; owned by the caller

#endif
