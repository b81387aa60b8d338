// options: one table {key, type, range, default, help} that drives the JSON config, --key=value and --help. Keys have
// TRL's and transformers' names and meanings.
#ifndef OPTIONS_H
#define OPTIONS_H

#include "../../model/base.h"

enum { MAX_OPTIONS = 96 };

typedef struct {
    char *model_name_or_path, *tokenizer_name_or_path, *chat_template_path;
    char *base_model_name_or_path, *on_base_mismatch;      // the second: "error" or "warn"
    int64_t use_peft, lora_r, use_rslora;
    double lora_alpha, lora_dropout;
    cJSON *lora_target_modules, *lora_trainable_tokens;    // lists
    cJSON *model_init, *chat_template_kwargs;
    char *dataset_name, *eval_dataset_name, *dataset_text_field;
    double eval_split;
    int64_t assistant_only_loss, completion_only_loss;     // 1, 0, or -1: not given
    double prompt_loss_weight;
    char *loss_type;                                       // "nll" or "dft"
    double label_smoothing_factor, neftune_noise_alpha;
    char *on_prefix_mismatch;                              // "error" or "warn"
    int64_t split_turns;
    int64_t max_length;                                    // 0: the model's own limit
    int64_t per_device_train_batch_size, gradient_accumulation_steps;
    double num_train_epochs;
    int64_t max_steps;                                     // -1: as num_train_epochs says
    double learning_rate, warmup_steps;                    // every ..._steps: below 1, a part of all steps
    char *lr_scheduler_type, *optim;
    cJSON *lr_scheduler_kwargs;
    double adam_beta1, adam_beta2, adam_epsilon, weight_decay, max_grad_norm;
    int64_t activation_checkpointing, seed;
    char *train_sampling_strategy;                         // "random" or "sequential"
    double logging_steps, eval_steps, save_steps;          // 0: null
    int64_t logging_first_step, eval_on_start, save_total_limit;
    char *eval_strategy, *save_strategy;                   // NULL: as eval_steps and save_steps say
    int64_t load_best_model_at_end, greater_is_better;
    char *metric_for_best_model, *eos_token;
    char *output_dir, *resume_from_checkpoint, *report_to;
    int64_t overwrite_output_dir;
    int64_t n_threads;                                     // 0: all cores
    cJSON *arms;                                           // of compare
    // Of single commands
    int64_t rows, row, json, gradients;                    // inspect, eval; rows 0, row -1: not given
    char *html;                                            // inspect: the page's file; NULL: none
    char *hide;                                            // inspect
    int64_t seeds;                                         // compare
    char *prompt_loss_weights;                             // NULL: the arms, or else 0 and 1
    char *prompt, *system;                                 // chat, sample
    char *outtype;                                         // export; NULL: not given
    double temperature, top_p;
    int64_t max_new_tokens;
    bool named[MAX_OPTIONS];                               // in the table's order: a value was given, also the default
} Options;

// Which keys a command takes: those of a config file, and its own. FOR_ARM: those that may differ between arms.
typedef enum {
    FOR_CONFIG = 1, FOR_INSPECT = 2, FOR_EVAL = 4, FOR_GENERATE = 8, FOR_EXPORT = 16, FOR_COMPARE = 32, FOR_ARM = 64
} OptionUse;

void options_init(Options *o);                             // all defaults
void options_free(Options *o);
void options_copy(Options *to, const Options *from);      // `to` uninitialised; all of its own
bool options_load(Options *o, const char *path, Err *e);   // a JSON config file; all that is wrong, in one message
bool options_set(Options *o, const char *argument, unsigned uses, Err *e);     // "--key=value"
// The config file (NULL: none), then the arguments; all that is wrong, in one message.
bool options_read(Options *o, const char *path, char **arguments, int n, unsigned uses, Err *e);
// Makes the options of a comparison those of one of its arms; `keys` is an object. Fails where training would.
bool options_set_arm(Options *o, const cJSON *keys, Err *e);
bool options_check(const Options *o, Err *e);              // keys that do not go together
bool options_given(const Options *o, const char *key);     // has it another value than the default?
bool options_named(const Options *o, const char *key);     // does the config or an argument have it? A key of the table
cJSON *options_json(const Options *o);                     // the config keys as they are now; owned by the caller
void options_help(FILE *out, unsigned uses);

#endif
