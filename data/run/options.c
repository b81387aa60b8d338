// options: see options.h.
#include "options.h"

#include "../../model/optim.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

// What a config of TRL's may hold besides the keys of the table below: trl_keys.txt, of which the Makefile makes this.
extern const char trl_keys_txt[];

// STEPS: a whole number of updates; a number below 1 is a part of all updates.
typedef enum { STRING, CHOICE, INT, REAL, STEPS, BOOL, JSON, LIST, NAMES } Type;

// THE table of keys: the JSON config, --key=value and --help all read it. To add a key: a field of Options, a row here,
// a line in configs/README.md (a test compares it with --help), and the place that uses it. Two questions to ask: may a
// run that is resumed have another value (may_differ in resume.c)? Do the same config and rows now give other bits
// (PROGRAM_VERSION in resume.h)?
// Defaults are written as JSON. One that is "null" may be unset: then the field is NULL, -1 for a BOOL, 0 for a REAL or
// STEPS, and one below the least number for an INT. For every other key, null means its default. TRL's other keys are
// in trl_keys.txt.
typedef struct {
    const char *key;
    Type type;
    size_t offset;
    unsigned uses;
    const char *initial;
    double min, max;
    const char *(*choice)(size_t i);                       // of a CHOICE: its values, NULL after the last
    const char *help;
} Option;

#define KEY(name, type, ...) {#name, type, offsetof(Options, name), __VA_ARGS__}       // named as its field
// Those of a config only:
#define TEXT(name, initial, help) KEY(name, STRING, FOR_CONFIG, initial, 0, 0, NULL, help)
#define FLAG(name, initial, help) KEY(name, BOOL, FOR_CONFIG, initial, 0, 1, NULL, help)
#define ONE_OF(name, initial, choice, help) KEY(name, CHOICE, FOR_CONFIG, initial, 0, 0, choice, help)
#define NUMBER(name, type, initial, min, max, help) KEY(name, type, FOR_CONFIG, initial, min, max, NULL, help)
// Those of a config that may differ between the arms of a comparison: rows, order and evaluation do not depend on them.
#define ARM_ONE_OF(name, initial, choice, help) KEY(name, CHOICE, FOR_CONFIG | FOR_ARM, initial, 0, 0, choice, help)
#define ARM(name, type, initial, min, max, help) KEY(name, type, FOR_CONFIG | FOR_ARM, initial, min, max, NULL, help)
#define MANY 1e15

#define CHOICES(of, ...) static const char *of(size_t i) { return ((const char *const[]){__VA_ARGS__, NULL})[i]; }
CHOICES(error_or_warn, "error", "warn")
CHOICES(loss_kind, "nll", "dft")
CHOICES(sampling, "random", "sequential")
CHOICES(number_type, "f32", "f16", "q8_0")
CHOICES(strategy, "no", "steps", "epoch")
CHOICES(viewer, "none", "tensorboard")
CHOICES(eval_metric, "eval_loss", "eval_assistant_loss", "eval_prompt_loss", "eval_mean_token_accuracy",
        "eval_exact_match")

static const Option table[] = {
    TEXT(model_name_or_path, "null",
         "the model: a .bin of llama2.c, a .gguf, or the folder of a Hugging Face model or of an adapter"),
    KEY(base_model_name_or_path, STRING, FOR_CONFIG | FOR_GENERATE | FOR_EXPORT, "null", 0, 0, NULL,
        "the base of an adapter; null: the one that the adapter names"),
    KEY(on_base_mismatch, CHOICE, FOR_CONFIG | FOR_GENERATE | FOR_EXPORT, "\"error\"", 0, 0, error_or_warn,
        "what to do if an adapter was trained on another base"),
    ARM(use_peft, BOOL, "false", 0, 1,
        "train a LoRA adapter beside the model instead of the model; not given: if model_name_or_path is one"),
    ARM(lora_r, INT, "16", 1, 1 << 16, "LoRA: the rank of the adapter's matrices"),
    ARM(lora_alpha, REAL, "32", 1e-6, 1e6, "LoRA: what an adapter adds is scaled by lora_alpha / lora_r"),
    ARM(lora_dropout, REAL, "0.05", 0, 0.999, "LoRA: this part of an adapter's inputs is left out in training"),
    ARM(lora_target_modules, NAMES, "null", 0, 0,
        "LoRA: which linears get an adapter, a list of names, or all-linear; null: q_proj and v_proj"),
    ARM(use_rslora, BOOL, "false", 0, 1, "LoRA: scale by lora_alpha / sqrt(lora_r) (rank-stabilized LoRA)"),
    ARM(lora_trainable_tokens, NAMES, "null", 0, 0,
        "LoRA: train the embeddings of these tokens or ids too; template: of the special tokens that it prints"),
    KEY(tokenizer_name_or_path, STRING, FOR_CONFIG | FOR_GENERATE | FOR_EXPORT, "null", 0, 0, NULL,
        "a tokenizer.bin, a tokenizer.json, a .gguf or a folder; null: the model's own"),
    KEY(model_init, JSON, FOR_CONFIG, "null", 0, 0, NULL,
        "train from scratch: an object with the names of transformers' LlamaConfig"),
    KEY(chat_template_path, STRING, FOR_CONFIG | FOR_GENERATE, "null", 0, 0, NULL,
        "a Jinja file with the chat template; null: the tokenizer's own template"),
    KEY(chat_template_kwargs, JSON, FOR_CONFIG | FOR_GENERATE, "null", 0, 0, NULL,
        "an object with more variables for the chat template"),
    TEXT(dataset_name, "null", "the training rows: a .jsonl or .json file"),
    TEXT(eval_dataset_name, "null", "the held-out rows: a .jsonl or .json file"),
    NUMBER(eval_split, REAL, "0", 0, 0.999,
        "this part of the training file, at its end, is held out for evaluation"),
    TEXT(dataset_text_field, "\"text\"", "the key that has the text in a row of plain text"),
    FLAG(assistant_only_loss, "null", "learn the assistant's tokens only; null: true for rows of messages"),
    FLAG(completion_only_loss, "null", "learn the completion only; null: true for rows of prompt and completion"),
    ARM(prompt_loss_weight, REAL, "0", 0, 1000,
        "loss weight of the tokens that the mask does not select; 0: masked, 1: unmasked"),
    ARM_ONE_OF(loss_type, "\"nll\"", loss_kind,
        "nll: the cross-entropy; dft: a token's nll times its probability"),
    ARM(label_smoothing_factor, REAL, "0", 0, 1, "0 to 1: how much of the loss is the mean nll of the vocabulary"),
    ARM(neftune_noise_alpha, REAL, "0", 0, 1e6, "NEFTune: size of the noise on embeddings in training; 0: none"),
    ONE_OF(on_prefix_mismatch, "\"error\"", error_or_warn,
        "what to do if a row does not begin with the tokens of its prompt"),
    FLAG(split_turns, "false",
        "one row for each assistant turn, as it stands before more follow: for templates that rewrite earlier turns"),
    TEXT(eos_token, "null", "the token that ends a text, for rows and chat template; null: the tokenizer's own"),
    NUMBER(max_length, INT, "1024", 1, MANY,
        "a longer row is cut at its end; null, or more than the model's limit: that limit"),
    NUMBER(per_device_train_batch_size, INT, "8", 1, 1 << 20, "training rows in one batch"),
    NUMBER(gradient_accumulation_steps, INT, "1", 1, 1 << 20,
        "batches whose gradients are added up before each update of the weights"),
    NUMBER(num_train_epochs, REAL, "3", 0, 1e6, "passes over the training rows"),
    NUMBER(max_steps, INT, "-1", -1, MANY,
        "updates of the weights in the whole run; -1: as many as num_train_epochs takes"),
    ARM(learning_rate, REAL, "2e-5", 0, 100, "the highest learning rate of the run"),
    ARM_ONE_OF(lr_scheduler_type, "\"linear\"", schedule_name, "how the learning rate changes over the run"),
    KEY(lr_scheduler_kwargs, JSON, FOR_CONFIG | FOR_ARM, "null", 0, 0, NULL,
        "an object with the settings of lr_scheduler_type, as transformers names them"),
    ARM(warmup_steps, STEPS, "0", 0, MANY,
        "updates in which the learning rate rises from 0; below 1 (in all ..._steps): a part of all updates"),
    ARM_ONE_OF(optim, "\"adamw_torch\"", optim_name, "the optimizer; adamw_torch_fused and adamw mean adamw_torch"),
    ARM(adam_beta1, REAL, "0.9", 0, 0.9999999, "AdamW: decay of the running mean of the gradient"),
    ARM(adam_beta2, REAL, "0.999", 0, 0.9999999, "AdamW: decay of the running mean of the squared gradient"),
    ARM(adam_epsilon, REAL, "1e-8", 0, 1, "AdamW: added to the denominator of the update"),
    ARM(weight_decay, REAL, "0", 0, 100,
        "how strongly each update pulls the matrices towards 0; norms are not changed by it"),
    ARM(max_grad_norm, REAL, "1", 0, 1e9,
        "a gradient with a larger norm is scaled down to this one (clipping); 0: never"),
    FLAG(activation_checkpointing, "false", "save memory: the backward pass computes each layer again"),
    KEY(seed, INT, FOR_CONFIG | FOR_GENERATE, "42", 0, 9e15, NULL,
        "seed of the order of rows, of model_init and of sampling"),
    ONE_OF(train_sampling_strategy, "\"random\"", sampling,
        "a new random order of the rows in each epoch, or the order of the file"),
    NUMBER(logging_steps, STEPS, "10", 1, MANY, "updates between two lines of log.jsonl"),
    FLAG(logging_first_step, "false", "log the first update too"),
    ONE_OF(eval_strategy, "null", strategy, "when to evaluate, besides the end; null: as eval_steps says; no: never"),
    NUMBER(eval_steps, STEPS, "null", 1, MANY,
        "updates between two evaluations; null: only at start and end, or logging_steps if eval_strategy=steps"),
    FLAG(eval_on_start, "null", "evaluate before the first update; null: yes, unless eval_strategy is no"),
    ONE_OF(save_strategy, "null", strategy, "when to write a checkpoint; null: as save_steps says; no: never"),
    NUMBER(save_steps, STEPS, "null", 1, MANY,
        "updates between two checkpoints; null: no checkpoints, or 500 if save_strategy=steps"),
    NUMBER(save_total_limit, INT, "null", 1, MANY, "keep only this many newest checkpoints; null: all"),
    FLAG(load_best_model_at_end, "false",
        "write a checkpoint at each best evaluation so far; the last of these is the result"),
    ONE_OF(metric_for_best_model, "\"eval_assistant_loss\"", eval_metric,
        "the metric that says which evaluation is best"),
    FLAG(greater_is_better, "null", "is the greatest value the best? null: false for a loss, true for other metrics"),
    TEXT(output_dir, "null", "the folder for the model, the logs, the report and train_config.json"),
    ONE_OF(report_to, "\"none\"", viewer, "tensorboard: write event files too, in output_dir/runs"),
    FLAG(overwrite_output_dir, "false", "write into output_dir even if it holds a model, checkpoints or a comparison"),
    TEXT(resume_from_checkpoint, "null",
        "continue a run: the path of a checkpoint, or latest (or true) for the newest one in output_dir"),
    KEY(arms, LIST, FOR_CONFIG, "null", 0, 0, NULL,
        "for compare: a list of objects, each with a name and the keys that differ; inspect and eval pass over it"),
    KEY(n_threads, INT, FOR_CONFIG | FOR_GENERATE, "null", 1, 4096, NULL,
        "threads to compute with; null: one for each core"),
    KEY(rows, INT, FOR_INSPECT, "null", 1, MANY, NULL, "show the first N rows"),
    KEY(row, INT, FOR_INSPECT, "null", 0, MANY, NULL, "show row I, counted from 0"),
    KEY(html, STRING, FOR_INSPECT, "null", 0, 0, NULL, "write the rows as a page to this file"),
    KEY(hide, STRING, FOR_INSPECT, "null", 0, 0, NULL, "hide these tokens of the row from attention, as in 3,5-7"),
    KEY(json, BOOL, FOR_INSPECT | FOR_EVAL, "false", 0, 1, NULL, "print JSON, for other programs"),
    KEY(gradients, BOOL, FOR_EVAL, "false", 0, 1, NULL, "say of each role which part of the gradient it makes"),
    KEY(seeds, INT, FOR_COMPARE, "1", 1, 1000, NULL,
        "number of seeds: each arm is trained once with each of seed, seed + 1, ..."),
    KEY(prompt_loss_weights, STRING, FOR_COMPARE, "null", 0, 0, NULL,
        "the arms: the values of prompt_loss_weight to compare; null: the config's arms, or else 0,1"),
    KEY(prompt, STRING, FOR_GENERATE, "null", 0, 0, NULL,
        "sample: the beginning of the text; chat: what the user says"),
    KEY(system, STRING, FOR_GENERATE, "null", 0, 0, NULL, "chat: the system message"),
    KEY(temperature, REAL, FOR_GENERATE, "1", 0, 100, NULL,
        "how random the choice of a token is; 0: always the most likely one"),
    KEY(top_p, REAL, FOR_GENERATE, "0.9", 0, 1, NULL,
        "choose among the most likely tokens whose probabilities add up to this; 1: among all"),
    KEY(max_new_tokens, INT, FOR_GENERATE, "256", 1, MANY, NULL, "the most tokens to generate"),
    KEY(outtype, CHOICE, FOR_EXPORT, "null", 0, 0, number_type, "the type of the numbers in a .gguf; null: f16"),
};
enum { N_OPTIONS = sizeof table / sizeof *table };
_Static_assert(sizeof table / sizeof *table <= MAX_OPTIONS, "Options.named");

// ---- TRL's other keys ---------------------------------------------------------------------------------------------

// A name in the lines of a kind: what follows it (= or a blank, or the line's end), or NULL. *why: the last such line.
static const char *trl_name(const char *kind, const char *name, const char **why)
{
    size_t n_kind = strlen(kind), n = strlen(name);
    for (const char *line = trl_keys_txt, *end; *line; line = end + 1) {
        end = strchr(line, '\n');
        if (strncmp(line, "why ", 4) == 0) *why = line + 4;
        if (strncmp(line, kind, n_kind) != 0 || line[n_kind] != ' ') continue;
        for (const char *at = line + n_kind; at < end; at += strcspn(at, " \n")) {
            at += *at == ' ';
            if (strncmp(at, name, n) == 0 && strchr("= \n", at[n])) return at + n;
        }
    }
    return NULL;
}

// What stands behind NAME= in the table's lines of this kind ("older", "hint", "value"); false if there is none.
typedef char TrlWord[64];
static bool trl_find(const char *kind, const char *name, TrlWord value)
{
    const char *why = "", *at = trl_name(kind, name, &why);
    if (at) snprintf(value, sizeof(TrlWord), "%.*s", (int)strcspn(at + 1, " \n"), at + 1);
    return at;
}

// A key of TRL's that has no effect here. FOREIGN_REFUSED: this value would need one. The error says why there is none;
// for FOREIGN_ACCEPTED only where any value will do, and else it is empty.
typedef enum { FOREIGN_UNKNOWN, FOREIGN_ACCEPTED, FOREIGN_REFUSED } Foreign;
static Foreign trl_foreign(const char *key, const cJSON *value, Err *e)
{
    const char *why = "", *at = trl_name("key", key, &why);
    if (!at) return FOREIGN_UNKNOWN;
    int n_why = (int)strcspn(why, "\n"), n = (int)strcspn(at, " \n") - 1;
    snprintf(e->text, sizeof e->text, "%.*s", *at == '=' ? 0 : n_why, why);
    if (*at != '=' || cJSON_IsNull(value)) return FOREIGN_ACCEPTED;
    char *text = cJSON_IsString(value) ? mem_strdup(value->valuestring) : cJSON_PrintUnformatted(value);
    bool good = false;
    for (const char *v = at; !good && strchr("=|", *v); v += 1 + strcspn(v + 1, "| \n"))
        good = strcspn(v + 1, "| \n") == strlen(text) && strncmp(v + 1, text, strlen(text)) == 0;
    if (!good) fail(e, "%s: expected %.*s, found %.80s: %.*s", key, n ? n : 4, n ? at + 1 : "null", text, n_why, why);
    cJSON_free(text);
    return good ? FOREIGN_ACCEPTED : FOREIGN_REFUSED;
}

// ---- values -------------------------------------------------------------------------------------------------------

static void *field(const Options *o, const Option *option) { return (char *)o + option->offset; }
static bool is_text(const Option *o) { return o->type == STRING || o->type == CHOICE; }
static bool is_json(const Option *o) { return o->type == JSON || o->type >= LIST; }
static bool is_number(const Option *o) { return o->type == INT || o->type == REAL || o->type == STEPS; }
// max_length has a default and a null.
static bool can_be_null(const Option *o)
{
    return strcmp(o->initial, "null") == 0 || o->offset == offsetof(Options, max_length);
}

static void add_choices(Buf *out, const Option *o)
{
    for (size_t i = 0; o->choice(i); i++) buf_addf(out, "%s%s", i ? "|" : "", o->choice(i));
}

// "expected 0 to 1", and so on.
static bool fail_expected(Err *e, const Option *o, const char *found)
{
    static const char *const kinds[] = {[STRING] = "a string", [BOOL] = "true or false", [JSON] = "an object",
                                        [LIST] = "a list of objects", [NAMES] = "a list of names",
                                        [CHOICE] = "one of ", [INT] = "a whole number",
                                        [REAL] = "a number", [STEPS] = "a whole number or a part of 1"};
    Buf expected = {0};
    buf_adds(&expected, kinds[o->type]);
    if (o->type == CHOICE) add_choices(&expected, o);
    else if (is_number(o) && o->max >= MANY) buf_addf(&expected, ", %g or more", o->min);
    else if (is_number(o)) buf_addf(&expected, ", %g to %.16g", o->min, o->max);
    if (o->type != CHOICE && can_be_null(o)) buf_adds(&expected, " or null");
    fail(e, "%s: expected %s, found %s", o->key, expected.data, found);
    buf_free(&expected);
    return false;
}

static bool is_choice(const Option *o, const char *value)
{
    for (size_t i = 0; o->choice(i); i++)
        if (strcmp(o->choice(i), value) == 0) return true;
    return false;
}

static void set_null(Options *o, const Option *option)
{
    void *at = field(o, option);
    if (option->type == INT || option->type == BOOL) *(int64_t *)at = (int64_t)option->min - 1;
    else if (is_number(option)) *(double *)at = 0;
    else if (is_json(option)) cJSON_Delete(*(cJSON **)at), *(cJSON **)at = NULL;
    else free(*(char **)at), *(char **)at = NULL;
}

static bool set_value(Options *o, const Option *option, const cJSON *v, Err *e);

static bool set_default(Options *o, const Option *option, Err *e)
{
    cJSON *v = cJSON_Parse(option->initial);
    bool ok = set_value(o, option, v, e);
    cJSON_Delete(v);
    return ok;
}

// Sets a text, under its name in the table; true, false and lists are other names of some. An empty text is null; only
// a prompt or a system message may be empty.
static bool set_text(Options *o, const Option *option, const cJSON *v, const char *found, Err *e)
{
    char name[64], *text = cJSON_PrintUnformatted(v);
    const char *value = cJSON_IsString(v) ? v->valuestring : text;
    TrlWord other;
    snprintf(name, sizeof name, "%s.%.30s", option->key, value);
    cJSON_free(text);
    if (!cJSON_IsNumber(v) && trl_find("value", name, other)) value = other;
    else if (!cJSON_IsString(v)) return fail_expected(e, option, found);
    if (!*value && option->uses != FOR_GENERATE) return set_default(o, option, e);
    if (option->type == CHOICE && !is_choice(option, value)) return fail_expected(e, option, value);
    free(*(char **)field(o, option));
    *(char **)field(o, option) = mem_strdup(value);
    return true;
}

static bool set_value(Options *o, const Option *option, const cJSON *v, Err *e)
{
    void *at = field(o, option);
    double number = cJSON_IsNumber(v) ? v->valuedouble : NAN;
    bool part = option->type == STEPS && number > 0 && number < 1;
    bool in_range = number >= option->min && number <= option->max;
    bool good = part || (in_range && (option->type == REAL || number == floor(number)));
    char room[32];
    const char *found = json_found(v, room);
    if (cJSON_IsNull(v)) return can_be_null(option) ? (set_null(o, option), true) : set_default(o, option, e);
    if (is_text(option)) return set_text(o, option, v, found, e);
    if (option->type == NAMES && cJSON_IsString(v)) {      // one name
        set_null(o, option);
        return cJSON_AddItemToArray(*(cJSON **)at = cJSON_CreateArray(), cJSON_Duplicate(v, true));
    }
    if (option->type == BOOL) good = cJSON_IsBool(v);
    if (is_json(option)) good = option->type == JSON ? cJSON_IsObject(v) : cJSON_IsArray(v);
    if (!good) return fail_expected(e, option, found);
    if (option->type == INT) *(int64_t *)at = (int64_t)number;
    else if (option->type == BOOL) *(int64_t *)at = cJSON_IsTrue(v);
    else if (is_number(option)) *(double *)at = number;
    else cJSON_Delete(*(cJSON **)at), *(cJSON **)at = cJSON_Duplicate(v, true);
    return true;
}

// ---- keys ---------------------------------------------------------------------------------------------------------

static const Option *find_option(const char *key, unsigned uses)
{
    for (size_t i = 0; i < N_OPTIONS; i++)
        if ((table[i].uses & uses) && strcmp(key, table[i].key) == 0) return &table[i];
    return NULL;
}

// The message suggests the key that is probably meant: the key has another name, or is cut short or misspelt.
static bool fail_unknown(Err *e, const char *key, unsigned uses)
{
    TrlWord hint;
    const char *names[N_OPTIONS], *meant = uses & (FOR_CONFIG | FOR_ARM) && trl_find("hint", key, hint) ? hint : NULL;
    size_t n = 0, n_begun = 0, length = strlen(key);
    const Option *other = find_option(key, ~0u), *begun = NULL;
    if (other && uses == FOR_ARM)
        return fail(e, "%s: expected a key that may differ between arms: they begin with the same model, see the same "
                       "rows in the same order, and are evaluated in the same way", key);
    if (other)
        return fail(e, "unknown key \"%s\": it is a key of %s", key,
                    other->uses & FOR_CONFIG ? "a config" : other->uses & FOR_INSPECT ? "inspect" :
                    other->uses & FOR_COMPARE ? "compare" : "chat and sample");
    for (size_t i = 0; i < N_OPTIONS; i++) {
        if (!(table[i].uses & uses)) continue;
        names[n++] = table[i].key;
        if (strncmp(key, table[i].key, length) == 0 && table[i].key[length] == '_') begun = &table[i], n_begun++;
    }
    if (!meant) meant = n_begun == 1 ? begun->key : nearest_name(key, names, n, sizeof *names);
    return fail(e, "unknown key \"%s\"%s%s%s", key, meant ? ": did you mean \"" : "", meant ? meant : "",
                meant ? "\"?" : "");
}

void options_init(Options *o)
{
    *o = (Options){0};
    for (size_t i = 0; i < N_OPTIONS; i++) {
        Err e;
        if (!set_default(o, &table[i], &e)) abort();       // a wrong table, not a wrong user
    }
}

void options_free(Options *o)
{
    for (size_t i = 0; i < N_OPTIONS; i++) set_null(o, &table[i]);
}

void options_copy(Options *to, const Options *from)
{
    *to = *from;
    for (size_t i = 0; i < N_OPTIONS; i++) {
        void *at = field(to, &table[i]);
        if (is_text(&table[i]) && *(char **)at) *(char **)at = mem_strdup(*(char **)at);
        if (is_json(&table[i])) *(cJSON **)at = cJSON_Duplicate(*(cJSON **)at, true);
    }
}

static cJSON *option_json(const Options *o, const Option *option)
{
    const void *at = field(o, option);
    cJSON *json = NULL;
    if (is_text(option) && *(char *const *)at) json = cJSON_CreateString(*(char *const *)at);
    if (is_json(option)) json = cJSON_Duplicate(*(cJSON *const *)at, true);
    if (option->type == BOOL && *(const int64_t *)at >= 0) json = cJSON_CreateBool((int)*(const int64_t *)at);
    if (is_number(option)) {
        double x = option->type == INT ? (double)*(const int64_t *)at : *(const double *)at;
        bool null = can_be_null(option) && (option->type == INT ? x < option->min : x == 0);
        json = null ? NULL : cJSON_CreateNumber(x);
    }
    return json ? json : cJSON_CreateNull();
}

// Sets one key, under its name in the table or an older name. A key of TRL that has no effect here sets nothing.
static bool set_key(Options *o, const char *key, const cJSON *v, unsigned uses, Err *e)
{
    const Option *option = find_option(key, uses);
    if (!option) {
        TrlWord now;
        Foreign foreign = uses & FOR_CONFIG ? trl_foreign(key, v, e) : FOREIGN_UNKNOWN;
        if (foreign != FOREIGN_UNKNOWN) return foreign == FOREIGN_ACCEPTED;
        if (!(uses & FOR_CONFIG) || !trl_find("older", key, now)) return fail_unknown(e, key, uses);
        fprintf(stderr, "train: %s is the older name of %s\n", key, now);
        return set_key(o, now, v, uses, e) || fail_prefix(e, "%s, the older name of ", key);
    }
    o->named[option - table] = !cJSON_IsNull(v);
    return set_value(o, option, v, e);
}

static void add_problem(Buf *all, const Err *e) { buf_addf(all, "%s%s", all->len ? "; " : "", e->text); }

// Older names come last. They count only if the new name is absent or has its default value.
bool options_load(Options *o, const char *path, Err *e)
{
    cJSON *json = json_load(path, e);
    if (!json) return false;
    if (e->text[0]) fprintf(stderr, "train: warning: %s: %s: the last one counts\n", path, e->text);
    bool ok = cJSON_IsObject(json) || fail(e, "%s: expected an object, found %s", path, json_kind(json));
    TrlWord now;
    Buf wrong = {0};
    for (int older = 0; ok && older < 2; older++)
        for (const cJSON *v = json->child; v; v = v->next) {
            bool is_older = trl_find("older", v->string, now);
            if (is_older != older || (is_older && (cJSON_IsNull(v) || options_given(o, now)))) continue;
            if (!set_key(o, v->string, v, FOR_CONFIG, e)) add_problem(&wrong, e);
        }
    if (wrong.len) ok = fail(e, "%s: %s", path, wrong.data);
    buf_free(&wrong);
    cJSON_Delete(json);
    return ok;
}

// The value of an argument as JSON: strings need no quotes, all else is JSON already, or Python's True, False and None.
// An empty value is null.
static cJSON *argument_value(const Option *option, const char *text)
{
    TrlWord json;
    if ((!option || option->uses != FOR_GENERATE) && trl_find("python", text, json)) text = json;
    bool takes_text = option && is_text(option);
    if (!*text && !takes_text) return cJSON_CreateNull();
    cJSON *v = takes_text && strcmp(text, "null") != 0 ? NULL : cJSON_ParseWithOpts(text, NULL, true);
    return v ? v : cJSON_CreateString(text);               // which set_value may refuse
}

bool options_set(Options *o, const char *argument, unsigned uses, Err *e)
{
    const char *equals = strchr(argument, '=');
    if (strncmp(argument, "--", 2) != 0) return fail(e, "expected --key=value, found \"%s\"", argument);
    char *key = equals ? mem_strndup(argument + 2, (size_t)(equals - argument - 2)) : mem_strdup(argument + 2);
    TrlWord now;
    const Option *option = find_option(trl_find("older", key, now) ? now : key, uses);
    cJSON *v = equals ? argument_value(option, equals + 1) : cJSON_CreateTrue();       // --json alone
    bool ok = (equals || !option || option->type == BOOL) || fail(e, "%s: expected --%s=value", key, key);
    if (!option && uses & FOR_CONFIG && trl_foreign(key, v, e) == FOREIGN_ACCEPTED && *e->text)
        fprintf(stderr, "train: %s has no effect: %s\n", key, e->text);
    ok = ok && set_key(o, key, v, uses, e);
    if (!ok && option && equals && cJSON_IsString(v) && !is_text(option) && option->type != NAMES) {
        char found[80];
        snprintf(found, sizeof found, "\"%.60s\"", v->valuestring);
        fail_expected(e, option, found);
    }
    cJSON_Delete(v);
    free(key);
    return ok;
}

bool options_read(Options *o, const char *path, char **arguments, int n, unsigned uses, Err *e)
{
    Buf wrong = {0};
    if (path && !options_load(o, path, e)) add_problem(&wrong, e);
    for (int i = 0; i < n; i++)
        if (!options_set(o, arguments[i], uses, e)) add_problem(&wrong, e);
    bool ok = !wrong.len || fail(e, "%s", wrong.data);
    buf_free(&wrong);
    return ok;
}

bool options_set_arm(Options *o, const cJSON *keys, Err *e)
{
    bool ok = true;
    Schedule unused;
    for (const cJSON *v = keys->child; v && ok; v = v->next) ok = set_key(o, v->string, v, FOR_ARM, e);
    cJSON_Delete(o->arms);
    o->arms = NULL;
    return ok && options_check(o, e) &&
           schedule_init(&unused, o->lr_scheduler_type, o->lr_scheduler_kwargs, o->learning_rate, 0, 0, e);
}

bool options_check(const Options *o, Err *e)
{
    if (o->split_turns && o->assistant_only_loss == 0)
        return fail(e, "split_turns: a row's own turn alone is learned: assistant_only_loss=false contradicts it");
    return o->label_smoothing_factor == 0 || strcmp(o->loss_type, "nll") == 0 ||
           fail(e, "label_smoothing_factor: has no effect with loss_type dft: delete one of the two");
}

bool options_given(const Options *o, const char *key)
{
    const Option *option = find_option(key, ~0u);
    cJSON *now = option ? option_json(o, option) : NULL, *initial = option ? cJSON_Parse(option->initial) : NULL;
    bool given = option && !cJSON_Compare(now, initial, true);
    cJSON_Delete(now);
    cJSON_Delete(initial);
    return given;
}

bool options_named(const Options *o, const char *key) { return o->named[find_option(key, ~0u) - table]; }

cJSON *options_json(const Options *o)
{
    cJSON *json = cJSON_CreateObject();
    for (size_t i = 0; i < N_OPTIONS; i++)
        if (table[i].uses & FOR_CONFIG) cJSON_AddItemToObject(json, table[i].key, option_json(o, &table[i]));
    return json;
}

void options_help(FILE *out, unsigned uses)
{
    for (size_t i = 0; i < N_OPTIONS; i++) {
        const Option *o = &table[i];
        if (!(o->uses & uses)) continue;
        Buf help = {0};
        buf_addf(&help, "%s%s", o->help, o->type == CHOICE ? ": " : "");
        if (o->type == CHOICE) add_choices(&help, o);
        fprintf(out, "  %-28s %s [%s]\n", o->key, help.data, o->initial);
        buf_free(&help);
    }
}
