// options: see options.h.
#include "options.h"

#include "../../model/optim.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum { STRING, CHOICE, INT, REAL, BOOL, JSON } Type;

// THE table of keys: the JSON config, --key=value and --help all read it. To add a key: a field of Options, a row here,
// a line in configs/README.md (a test compares it with --help), and the place that uses it. Two questions to ask: may a
// run that is resumed have another value (may_differ in resume.c)? Do the same config and rows now come to other bits
// (PROGRAM_VERSION in resume.h)?
// Defaults are written as JSON. One that is "null" may be unset: then the field is NULL, 0 for an INT, -1 for a BOOL.
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

#define AT(field) offsetof(Options, field)
#define MANY 1e15

static const char *error_or_warn(size_t i) { return i == 0 ? "error" : i == 1 ? "warn" : NULL; }

static const Option table[] = {
    {"model_name_or_path", STRING, AT(model_name_or_path), FOR_CONFIG, "null", 0, 0, NULL,
     "the model: a llama2.c .bin, or a Hugging Face folder"},
    {"tokenizer_name_or_path", STRING, AT(tokenizer_name_or_path), FOR_CONFIG | FOR_GENERATE | FOR_EXPORT, "null", 0, 0,
     NULL, "a tokenizer.bin, a tokenizer.json or a folder; null: the model's own"},
    {"model_init", JSON, AT(model_init), FOR_CONFIG, "null", 0, 0, NULL,
     "train from scratch: an object with the names of transformers' LlamaConfig"},
    {"chat_template_path", STRING, AT(chat_template_path), FOR_CONFIG | FOR_GENERATE, "null", 0, 0, NULL,
     "a Jinja file with the chat template; null: the tokenizer's own template"},
    {"chat_template_kwargs", JSON, AT(chat_template_kwargs), FOR_CONFIG | FOR_GENERATE, "null", 0, 0, NULL,
     "an object with more variables for the chat template"},
    {"dataset_name", STRING, AT(dataset_name), FOR_CONFIG, "null", 0, 0, NULL,
     "the training rows: a .jsonl or .json file"},
    {"eval_dataset_name", STRING, AT(eval_dataset_name), FOR_CONFIG, "null", 0, 0, NULL,
     "the held-out rows: a .jsonl or .json file"},
    {"eval_split", REAL, AT(eval_split), FOR_CONFIG, "0", 0, 0.999, NULL,
     "part of the training file, cut from its end, that is held out for evaluation"},
    {"dataset_text_field", STRING, AT(dataset_text_field), FOR_CONFIG, "\"text\"", 0, 0, NULL,
     "the key under which a row of plain text has its text"},
    {"assistant_only_loss", BOOL, AT(assistant_only_loss), FOR_CONFIG, "null", 0, 1, NULL,
     "learn the assistant's tokens only; null: true for rows of messages"},
    {"completion_only_loss", BOOL, AT(completion_only_loss), FOR_CONFIG, "null", 0, 1, NULL,
     "learn the completion only; null: true for rows of prompt and completion"},
    {"prompt_loss_weight", REAL, AT(prompt_loss_weight), FOR_CONFIG, "0", 0, 1000, NULL,
     "weight in the loss of the tokens that the mask leaves out; 0: masked, 1: unmasked"},
    {"on_prefix_mismatch", CHOICE, AT(on_prefix_mismatch), FOR_CONFIG, "\"error\"", 0, 0, error_or_warn,
     "what to do where the row does not begin with the prompt's tokens"},
    {"max_length", INT, AT(max_length), FOR_CONFIG, "1024", 1, MANY, NULL,
     "a longer row is cut at its end; at most the model's own limit"},
    {"per_device_train_batch_size", INT, AT(per_device_train_batch_size), FOR_CONFIG, "8", 1, 1 << 20, NULL,
     "training rows in one batch"},
    {"gradient_accumulation_steps", INT, AT(gradient_accumulation_steps), FOR_CONFIG, "1", 1, 1 << 20, NULL,
     "batches whose gradients are added up before each update of the weights"},
    {"num_train_epochs", REAL, AT(num_train_epochs), FOR_CONFIG, "3", 0, 1e6, NULL, "passes over the training rows"},
    {"max_steps", INT, AT(max_steps), FOR_CONFIG, "-1", -1, MANY, NULL,
     "updates of the weights in the whole run; -1: as many as num_train_epochs takes"},
    {"learning_rate", REAL, AT(learning_rate), FOR_CONFIG, "2e-5", 0, 100, NULL,
     "the highest learning rate of the run"},
    {"lr_scheduler_type", CHOICE, AT(lr_scheduler_type), FOR_CONFIG, "\"linear\"", 0, 0, schedule_name,
     "how the learning rate changes over the run"},
    {"warmup_steps", INT, AT(warmup_steps), FOR_CONFIG, "0", 0, MANY, NULL,
     "updates in which the learning rate rises from 0 to its highest"},
    {"warmup_ratio", REAL, AT(warmup_ratio), FOR_CONFIG, "0", 0, 1, NULL,
     "the warm-up as a part of all updates, where warmup_steps is 0"},
    {"optim", CHOICE, AT(optim), FOR_CONFIG, "\"adamw\"", 0, 0, optim_name, "the optimizer"},
    {"adam_beta1", REAL, AT(adam_beta1), FOR_CONFIG, "0.9", 0, 0.9999999, NULL,
     "AdamW: decay of the running mean of the gradient"},
    {"adam_beta2", REAL, AT(adam_beta2), FOR_CONFIG, "0.999", 0, 0.9999999, NULL,
     "AdamW: decay of the running mean of the squared gradient"},
    {"adam_epsilon", REAL, AT(adam_epsilon), FOR_CONFIG, "1e-8", 0, 1, NULL,
     "AdamW: added to the denominator of the update"},
    {"weight_decay", REAL, AT(weight_decay), FOR_CONFIG, "0", 0, 100, NULL,
     "how strongly each update pulls the matrices towards 0; norms are left alone"},
    {"max_grad_norm", REAL, AT(max_grad_norm), FOR_CONFIG, "1", 0, 1e9, NULL,
     "a gradient with a larger norm is scaled down to this one (clipping); 0: never"},
    {"gradient_checkpointing", BOOL, AT(gradient_checkpointing), FOR_CONFIG, "false", 0, 1, NULL,
     "save memory: the backward pass computes each layer again"},
    {"seed", INT, AT(seed), FOR_CONFIG | FOR_GENERATE, "42", 0, 9e15, NULL,
     "seed of the order of rows, of model_init and of sampling"},
    {"shuffle", BOOL, AT(shuffle), FOR_CONFIG, "true", 0, 1, NULL,
     "take the training rows in a new random order in each epoch"},
    {"logging_steps", INT, AT(logging_steps), FOR_CONFIG, "10", 1, MANY, NULL,
     "updates between two lines of log.jsonl"},
    {"eval_steps", INT, AT(eval_steps), FOR_CONFIG, "null", 1, MANY, NULL,
     "updates between two evaluations; null: only before the first update and after the last"},
    {"save_steps", INT, AT(save_steps), FOR_CONFIG, "null", 1, MANY, NULL,
     "updates between two checkpoints; null: no checkpoints"},
    {"save_total_limit", INT, AT(save_total_limit), FOR_CONFIG, "null", 1, MANY, NULL,
     "how many checkpoints are kept, the newest; null: all"},
    {"output_dir", STRING, AT(output_dir), FOR_CONFIG, "null", 0, 0, NULL,
     "the folder for the model, log.jsonl, the report and train_config.json"},
    {"overwrite_output_dir", BOOL, AT(overwrite_output_dir), FOR_CONFIG, "false", 0, 1, NULL,
     "write into output_dir even if it holds a model"},
    {"resume_from_checkpoint", STRING, AT(resume_from_checkpoint), FOR_CONFIG, "null", 0, 0, NULL,
     "continue a run: a checkpoint folder, or \"latest\" of output_dir"},
    {"n_threads", INT, AT(n_threads), FOR_CONFIG | FOR_GENERATE, "null", 1, 4096, NULL,
     "threads to compute with; null: one for each core"},
    {"rows", INT, AT(rows), FOR_INSPECT, "null", 1, MANY, NULL, "show the first N rows"},
    {"row", INT, AT(row), FOR_INSPECT, "null", 0, MANY, NULL, "show row I, counted from 0"},
    {"json", BOOL, AT(json), FOR_INSPECT | FOR_EVAL, "false", 0, 1, NULL, "print JSON, for other programs"},
    {"seeds", INT, AT(seeds), FOR_COMPARE, "1", 1, 1000, NULL,
     "train each arm once for each of so many seeds: seed, seed + 1, ..."},
    {"prompt_loss_weights", STRING, AT(prompt_loss_weights), FOR_COMPARE, "\"0,1\"", 0, 0, NULL,
     "the arms: the values of prompt_loss_weight to compare"},
    {"prompt", STRING, AT(prompt), FOR_GENERATE, "null", 0, 0, NULL,
     "sample: the beginning of the text; chat: what the user says"},
    {"system", STRING, AT(system), FOR_GENERATE, "null", 0, 0, NULL, "chat: the system message"},
    {"temperature", REAL, AT(temperature), FOR_GENERATE, "1", 0, 100, NULL,
     "how random the choice of a token is; 0: always the most likely one"},
    {"top_p", REAL, AT(top_p), FOR_GENERATE, "0.9", 0, 1, NULL,
     "choose among the most likely tokens whose probabilities add up to this; 1: among all"},
    {"max_new_tokens", INT, AT(max_new_tokens), FOR_GENERATE, "256", 1, MANY, NULL, "the most tokens to generate"},
};
enum { N_OPTIONS = sizeof table / sizeof *table };
_Static_assert((int)N_OPTIONS <= (int)MAX_OPTIONS, "Options.given is too short");

static void *field(const Options *o, const Option *option) { return (char *)o + option->offset; }
static bool can_be_null(const Option *o) { return strcmp(o->initial, "null") == 0; }

static void add_choices(Buf *out, const Option *o)
{
    for (size_t i = 0; o->choice(i); i++) buf_addf(out, "%s%s", i ? "|" : "", o->choice(i));
}

// "expected 0 to 1", and so on.
static bool fail_expected(Err *e, const Option *o, const char *found)
{
    static const char *const kinds[] = {[STRING] = "a string", [BOOL] = "true or false", [JSON] = "an object"};
    const char *null = can_be_null(o) ? " or null" : "";
    if (o->type == CHOICE) {
        Buf choices = {0};
        add_choices(&choices, o);
        fail(e, "%s: expected one of %s, found %s", o->key, choices.data, found);
        buf_free(&choices);
        return false;
    }
    if (o->type == STRING || o->type == BOOL || o->type == JSON)
        return fail(e, "%s: expected %s%s, found %s", o->key, kinds[o->type], null, found);
    Buf range = {0};
    if (o->max >= MANY) buf_addf(&range, "%g or more", o->min);
    else buf_addf(&range, "%g to %.16g", o->min, o->max);
    fail(e, "%s: expected a %snumber, %s%s, found %s", o->key, o->type == INT ? "whole " : "", range.data, null, found);
    buf_free(&range);
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
    if (option->type == INT) *(int64_t *)field(o, option) = 0;
    if (option->type == BOOL) *(int64_t *)field(o, option) = -1;
    if (option->type == STRING) {
        free(*(char **)field(o, option));
        *(char **)field(o, option) = NULL;
    }
    if (option->type == JSON) {
        cJSON_Delete(*(cJSON **)field(o, option));
        *(cJSON **)field(o, option) = NULL;
    }
}

static bool set_value(Options *o, const Option *option, const cJSON *v, Err *e)
{
    double number = cJSON_IsNumber(v) ? v->valuedouble : NAN;
    char found[64];
    snprintf(found, sizeof found, "%.16g", number);
    const char *what = cJSON_IsNumber(v) ? found : json_kind(v);
    if (cJSON_IsNull(v) && can_be_null(option)) return set_null(o, option), true;
    switch (option->type) {
    case STRING:
    case CHOICE:
        if (!cJSON_IsString(v)) return fail_expected(e, option, what);
        if (option->type == CHOICE && !is_choice(option, v->valuestring))
            return fail_expected(e, option, v->valuestring);
        free(*(char **)field(o, option));
        *(char **)field(o, option) = mem_strdup(v->valuestring);
        return true;
    case INT:
        if (!(number >= option->min && number <= option->max && number == floor(number)))
            return fail_expected(e, option, what);
        *(int64_t *)field(o, option) = (int64_t)number;
        return true;
    case REAL:
        if (!(number >= option->min && number <= option->max)) return fail_expected(e, option, what);
        *(double *)field(o, option) = number;
        return true;
    case BOOL:
        if (!cJSON_IsBool(v)) return fail_expected(e, option, what);
        *(int64_t *)field(o, option) = cJSON_IsTrue(v);
        return true;
    case JSON:
        if (!cJSON_IsObject(v)) return fail_expected(e, option, what);
        cJSON_Delete(*(cJSON **)field(o, option));
        *(cJSON **)field(o, option) = cJSON_Duplicate(v, true);
        return true;
    }
    return true;
}

static const Option *find_option(const char *key, unsigned uses, Err *e)
{
    const char *names[N_OPTIONS];
    size_t n = 0;
    for (size_t i = 0; i < N_OPTIONS; i++) {
        if (!(table[i].uses & uses)) continue;
        if (strcmp(key, table[i].key) == 0) return &table[i];
        names[n++] = table[i].key;
    }
    const char *near = nearest_name(key, names, n, sizeof *names);
    fail(e, "unknown key \"%s\"%s%s%s", key, near ? ": did you mean \"" : "", near ? near : "", near ? "\"?" : "");
    return NULL;
}

void options_init(Options *o)
{
    *o = (Options){0};
    for (size_t i = 0; i < N_OPTIONS; i++) {
        Err e;
        cJSON *v = cJSON_Parse(table[i].initial);
        if (!set_value(o, &table[i], v, &e)) {             // a wrong table, not a wrong user
            fprintf(stderr, "%s\n", e.text);
            abort();
        }
        cJSON_Delete(v);
    }
}

void options_free(Options *o)
{
    for (size_t i = 0; i < N_OPTIONS; i++)
        if (table[i].type == CHOICE) {
            free(*(char **)field(o, &table[i]));
            *(char **)field(o, &table[i]) = NULL;
        } else set_null(o, &table[i]);
}

static cJSON *option_json(const Options *o, const Option *option);

void options_copy(Options *to, const Options *from)
{
    options_init(to);
    for (size_t i = 0; i < N_OPTIONS; i++) {
        Err impossible;
        cJSON *v = option_json(from, &table[i]);
        set_value(to, &table[i], v, &impossible);
        cJSON_Delete(v);
    }
    memcpy(to->given, from->given, sizeof to->given);
}

static void mark_given(Options *o, const Option *option) { o->given[option - table] = true; }

bool options_load(Options *o, const char *path, Err *e)
{
    cJSON *json = json_load(path, e);
    if (!json) return false;
    if (e->text[0]) fprintf(stderr, "train: warning: %s: %s: the last one counts\n", path, e->text);
    bool ok = cJSON_IsObject(json) || fail(e, "%s: expected an object, found %s", path, json_kind(json));
    for (const cJSON *v = ok ? json->child : NULL; v && ok; v = v->next) {
        const Option *option = find_option(v->string, FOR_CONFIG, e);
        ok = (option && set_value(o, option, v, e)) || fail_prefix(e, "%s: ", path);
        if (ok) mark_given(o, option);
    }
    cJSON_Delete(json);
    return ok;
}

// The value of an argument as JSON: strings need no quotes, the rest is JSON already.
static cJSON *argument_value(const Option *option, const char *text)
{
    bool is_text = option->type == STRING || option->type == CHOICE;
    if (is_text && !(can_be_null(option) && strcmp(text, "null") == 0)) return cJSON_CreateString(text);
    if (option->type == BOOL && !*text) return cJSON_CreateTrue();     // --json alone
    cJSON *v = cJSON_ParseWithOpts(text, NULL, true);
    return v ? v : cJSON_CreateString(text);               // which set_value then refuses
}

bool options_set(Options *o, const char *argument, unsigned uses, Err *e)
{
    const char *equals = strchr(argument, '=');
    if (strncmp(argument, "--", 2) != 0) return fail(e, "expected --key=value, found \"%s\"", argument);
    char *key = equals ? mem_strndup(argument + 2, (size_t)(equals - argument - 2)) : mem_strdup(argument + 2);
    const Option *option = find_option(key, uses, e);
    free(key);
    if (!option) return false;
    if (!equals && option->type != BOOL) return fail(e, "%s: expected --%s=value", option->key, option->key);
    cJSON *v = argument_value(option, equals ? equals + 1 : "");
    bool ok = set_value(o, option, v, e);
    if (!ok && cJSON_IsString(v) && option->type != CHOICE && option->type != STRING) {
        char found[80];
        snprintf(found, sizeof found, "\"%.60s\"", v->valuestring);
        fail_expected(e, option, found);
    }
    cJSON_Delete(v);
    if (ok) mark_given(o, option);
    return ok;
}

bool options_given(const Options *o, const char *key)
{
    for (size_t i = 0; i < N_OPTIONS; i++)
        if (strcmp(key, table[i].key) == 0) return o->given[i];
    return false;
}

static cJSON *option_json(const Options *o, const Option *option)
{
    int64_t i = option->type == INT || option->type == BOOL ? *(int64_t *)field(o, option) : 0;
    switch (option->type) {
    case STRING:
    case CHOICE: {
        const char *text = *(char **)field(o, option);
        return text ? cJSON_CreateString(text) : cJSON_CreateNull();
    }
    case INT:  return can_be_null(option) && i < option->min ? cJSON_CreateNull() : cJSON_CreateNumber((double)i);
    case REAL: return cJSON_CreateNumber(*(double *)field(o, option));
    case BOOL: return i < 0 ? cJSON_CreateNull() : cJSON_CreateBool((int)i);
    case JSON: break;
    }
    const cJSON *json = *(cJSON **)field(o, option);
    return json ? cJSON_Duplicate(json, true) : cJSON_CreateNull();
}

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
        Buf choices = {0};
        if (o->type == CHOICE) add_choices(&choices, o);
        fprintf(out, "  %-28s %s%s%s [%s]\n", o->key, o->help, choices.len ? ": " : "", choices.len ? choices.data : "",
                o->initial);
        buf_free(&choices);
    }
}
