// inputs: what a config names, opened for a command: tokenizer, template, rows, model. It all stands in a Run.
#ifndef INPUTS_H
#define INPUTS_H

#include "../../model/checkpoint.h"
#include "../../model/optim.h"
#include "../../model/peft.h"
#include "../rows/batch.h"
#include "../rows/dataset.h"
#include "options.h"
#include "evaluate.h"

typedef struct {
    Options options;
    char *base_path;                                       // of the weights: of an adapter its base's; NULL: model_init
    cJSON *peft;                                           // adapter_config.json of the run's adapter; NULL: none
    char *tokenizer_path;                                  // a tokenizer.bin, a tokenizer.json or a folder
    Tokenizer *tokenizer;
    Template *template, *tool_template;                    // the second for rows with tools, if there is one
    Recipe recipe;
    Dataset data, eval_data;
    Example *eval;                                         // borrowed from one of the two: the held-out rows
    size_t n_train, n_eval;                                // examples of data to train on; of eval
    Model model;
    Room room;
    Optim optim;
    int lock;                                              // on output_dir, once it is claimed; else 0
    int64_t evaluated;                                     // 1 + the step of the last evaluation; 0: none
    char *events_dir;                                      // of the event file: output_dir/runs/train, if not given
} Run;

void run_free(Run *r);                                     // accepts {0}

// The model is a base or an adapter: sets base_path, and peft if it is an adapter. NULL: model_init. First of all.
bool run_find_model(Run *r, const char *model, Err *e);
// Loads the base, and from the folder `adapter` (NULL: none) its adapter.
bool run_load_model(const Run *r, Model *m, const char *adapter, Err *e);
// What the options say about an adapter: sets peft if one is to be made, and the options if there is one.
bool run_open_adapter(Run *r, const Config *c, Err *e);
// Warns if the tokens that end a turn are unknown to the base and not trained, after the first batch of an adapter.
void run_warn_end(const Run *r);
// Tokenizer and chat template, for a command that has a model's path (NULL: tokenizer_name_or_path must be given).
bool run_open_tokenizer(Run *r, const char *model, Err *e);
bool run_open_template(Run *r, Err *e);
bool run_check_vocabulary(const Run *r, const Config *c, Err *e);      // of a tokenizer and a model; pads the tokenizer
// Tokenizer, template, rows and (need_model, or if one is named) the model's shape.
bool run_open_inputs(Run *r, bool need_model, Config *c, Err *e);
// The format that the model is kept in: the one that it came in; a new model goes by its tokenizer.
const Format *run_format(const Run *r);
// Loads the model, or makes it as model_init says; or takes the one of a checkpoint folder (NULL: none).
bool run_open_model(const Run *r, Model *m, const Config *c, const char *checkpoint, Err *e);
// The largest batches that these rows (NULL: none) make in training, or the held-out ones in an evaluation.
BatchSize run_batch_size(const Run *r, const Example *const *rows, size_t n_rows);
// A model where a config belongs, or the other way round, is an error. What is not there is none.
bool run_check_kind(const char *path, bool config, Err *e);

#endif
