// options: one table {key, type, range, default, help} that drives the JSON config, --key=value and --help. Keys have
// TRL's and transformers' names and meanings.
#ifndef OPTIONS_H
#define OPTIONS_H

#include "../../model/base.h"

enum { MAX_OPTIONS = 64 };

typedef struct {
    char *model_name_or_path, *tokenizer_name_or_path, *chat_template_path;
    cJSON *model_init, *chat_template_kwargs;
    char *dataset_name, *eval_dataset_name, *dataset_text_field;
    double eval_split;
    int64_t assistant_only_loss, completion_only_loss;     // 1, 0, or -1: not given
    double prompt_loss_weight;
    char *on_prefix_mismatch;                              // "error" or "warn"
    int64_t max_length;
    int64_t per_device_train_batch_size, gradient_accumulation_steps;
    double num_train_epochs;
    int64_t max_steps;                                     // -1: as num_train_epochs says
    double learning_rate, warmup_ratio;
    char *lr_scheduler_type, *optim;
    int64_t warmup_steps;
    double adam_beta1, adam_beta2, adam_epsilon, weight_decay, max_grad_norm;
    int64_t gradient_checkpointing;
    int64_t seed, shuffle;
    int64_t logging_steps, eval_steps, save_steps, save_total_limit;   // 0: null
    char *output_dir, *resume_from_checkpoint;
    int64_t overwrite_output_dir;
    int64_t n_threads;                                     // 0: all cores
    // Of single commands
    int64_t rows, row, json;                               // inspect, eval; 0 if rows or row is not given
    int64_t seeds;                                         // compare
    char *prompt_loss_weights;
    char *prompt, *system;                                 // chat, sample
    double temperature, top_p;
    int64_t max_new_tokens;
    bool given[MAX_OPTIONS];                               // by file or argument, in the table's order
} Options;

// Which keys a command takes: those of a config file, and its own.
typedef enum {
    FOR_CONFIG = 1, FOR_INSPECT = 2, FOR_EVAL = 4, FOR_GENERATE = 8, FOR_EXPORT = 16, FOR_COMPARE = 32
} OptionUse;

void options_init(Options *o);                             // all defaults
void options_free(Options *o);
void options_copy(Options *to, const Options *from);      // `to` uninitialised; all of its own
bool options_load(Options *o, const char *path, Err *e);   // a JSON config file
bool options_set(Options *o, const char *argument, unsigned uses, Err *e);     // "--key=value"
bool options_given(const Options *o, const char *key);     // was it set, by file or argument?
cJSON *options_json(const Options *o);                     // the config keys as they are now; owned by the caller
void options_help(FILE *out, unsigned uses);

#endif
