// output: see output.h.
#include "output.h"

#include "../rows/turn.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---- the folder ---------------------------------------------------------------------------------------------------

int64_t run_step_of(const char *name)
{
    char *end;
    if (strncmp(name, "checkpoint-", 11) != 0 || !isdigit((unsigned char)name[11])) return -1;
    long long n = strtoll(name + 11, &end, 10);
    return *end ? -1 : n;
}

static bool holds(const char *dir, const char *name)
{
    char *path = path_join(dir, name);
    bool there = file_exists(path);
    free(path);
    return there;
}

static bool holds_checkpoint(const char *dir)
{
    DIR *folder = opendir(dir);
    bool there = false;
    for (struct dirent *d; folder && (d = readdir(folder));) there |= run_step_of(d->d_name) >= 0;
    if (folder) closedir(folder);
    return there;
}

bool run_holds_model(const char *dir)
{
    static const char *const names[] = {"model.safetensors", "model.safetensors.index.json", "compare.csv"};
    for (size_t i = 0; i < N_FORMATS; i++)
        if (holds(dir, formats[i].model_file)) return true;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (holds(dir, names[i])) return true;
    return holds_checkpoint(dir);
}

// What a killed run left half done: files and folders under temporary names of ours. Whoever holds the lock may remove
// them.
void run_remove_unfinished(const char *dir)
{
    static const char *const names[] = {"train_config.json", "log.jsonl", "log.csv", "trainer_state.json",
                                        "report.html", "compare.csv", "model", EVENTS_FILE};
    DIR *folder = opendir(dir);
    for (struct dirent *d; folder && (d = readdir(folder));) {
        char *path = path_join(dir, d->d_name), *name = mem_strndup(d->d_name, unfinished_name_length(d->d_name));
        bool ours = run_step_of(name) >= 0;
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) ours |= strcmp(name, names[i]) == 0;
        if (ours && unlink(path) != 0) dir_remove(path);
        free(name);
        free(path);
    }
    if (folder) closedir(folder);
}

bool run_claim_output(Run *r, bool can_resume, Err *e)
{
    const Options *o = &r->options;
    if (!o->output_dir) return fail(e, "output_dir: expected a path, found nothing");
    if (!dir_make(o->output_dir, e)) return fail_prefix(e, "output_dir: ");
    int lock = dir_lock(o->output_dir, e);
    if (lock < 0) return fail_prefix(e, "output_dir: ");
    r->lock = lock;
    if (!r->events_dir) r->events_dir = path_join(o->output_dir, "runs/train");
    if (!o->overwrite_output_dir && !o->resume_from_checkpoint && run_holds_model(o->output_dir))
        return fail(e, "output_dir: %s holds a model, checkpoints or a comparison already: choose another folder, or "
                       "give overwrite_output_dir=true%s", o->output_dir,
                    can_resume && holds_checkpoint(o->output_dir) ? " or resume_from_checkpoint=latest" : "");
    if (access(o->output_dir, W_OK) != 0)
        return fail(e, "output_dir: %s: cannot write: %s", o->output_dir, strerror(errno));
    run_remove_unfinished(o->output_dir);
    return true;
}

char *run_log_path(const Run *r) { return path_join(r->options.output_dir, "log.jsonl"); }

bool run_open_output(Run *r, Err *e)
{
    const Options *o = &r->options;
    char *log = run_log_path(r), *config = path_join(o->output_dir, "train_config.json");
    cJSON *json = options_json(o);
    bool ok = json_save(json, config, e) &&
              (o->resume_from_checkpoint || file_put(log, "", 0, e)); // resume_read takes the old one
    cJSON_Delete(json);
    free(log);
    free(config);
    return ok;
}

bool run_write_log(const Run *r, const cJSON *line, Err *e)
{
    char *text = cJSON_PrintUnformatted(line), *path = run_log_path(r);
    Buf b = {0};
    buf_addf(&b, "%s\n", text);
    bool ok = file_append(path, b.data, b.len, e);
    buf_free(&b);
    free(path);
    cJSON_free(text);
    return ok;
}

cJSON *run_read_log(const Run *r, Err *e)
{
    File f;
    char *path = run_log_path(r);
    bool ok = file_map(&f, path, e);
    cJSON *lines = ok ? cJSON_CreateArray() : NULL;
    const char *text = ok ? (const char *)f.data : "", *end = text + (ok ? f.size : 0), *next;
    for (size_t number = 1; ok && text < end; text = next, number++) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        next = newline ? newline + 1 : end;
        cJSON *line = json_parse(text, (size_t)(next - text), path, number, e);
        const cJSON *step = json_get(line, "step");
        ok = line && (json_is_int(step, 0, (int64_t)1 << 53) ||
                      fail(e, "%s:%zu: step: expected a count, found %s", path, number, json_kind(step)));
        if (line) cJSON_AddItemToArray(lines, line);
    }
    if (lines) file_unmap(&f);
    if (!ok) cJSON_Delete(lines);
    free(path);
    return ok ? lines : NULL;
}

bool dir_stage(const char *dir, char **stage, Err *e)
{
    Buf path = {0};
    buf_addf(&path, "%s/model.tmp.%ld", dir, (long)getpid());
    *stage = path.data;
    return dir_make(path.data, e);
}

bool dir_publish(const char *dir, char *stage, bool ok, Err *e)
{
    DIR *folder = ok ? opendir(stage) : NULL;
    if (ok && !folder) ok = fail(e, "%s: cannot open: %s", stage, strerror(errno));
    for (struct dirent *d; ok && folder && (d = readdir(folder));) {
        char *from = path_join(stage, d->d_name), *to = path_join(dir, d->d_name);
        if (d->d_name[0] != '.' && rename(from, to) != 0) ok = fail(e, "%s: cannot write: %s", to, strerror(errno));
        free(from);
        free(to);
    }
    if (folder) closedir(folder);
    ok = ok && file_sync(dir, e);
    dir_remove(stage);
    free(stage);
    return ok;
}

// The ids that end a text; in an object that is new, the one that begins it too.
static void add_ids(cJSON *config, const Run *r)
{
    const cJSON *kwargs = r->options.chat_template_kwargs;
    int bos = tokenizer_bos(r->tokenizer);
    if (!config->child && bos >= 0) cJSON_AddNumberToObject(config, "bos_token_id", bos);
    turn_add_ends(config, &(Recipe){.tokenizer = r->tokenizer, .template = r->template, .template_kwargs = kwargs,
                                    .eos_token = r->options.eos_token});
}

// The template in force is a file of its own, as transformers 5 writes it. Several templates are a list in
// tokenizer_config.json (`config`; NULL: there is none).
static bool save_templates(const Run *r, cJSON *config, const char *dir, Err *e)
{
    const char *given = r->options.chat_template_path, *own = tokenizer_chat_template(r->tokenizer);
    const cJSON *all = tokenizer_templates(r->tokenizer);
    bool several = config && !given && cJSON_GetArraySize(all) > (own ? 1 : 0);
    cJSON_DeleteItemFromObjectCaseSensitive(config, "chat_template");
    cJSON *list = several ? cJSON_AddArrayToObject(config, "chat_template") : NULL;
    for (const cJSON *v = several ? all->child : NULL; v; v = v->next) {
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "name", v->string);
        cJSON_AddStringToObject(item, "template", v->valuestring);
        cJSON_AddItemToArray(list, item);
    }
    char *path = path_join(dir, "chat_template.jinja");
    bool ok = given ? file_copy(given, path, e) : several || !own || file_put(path, own, strlen(own), e);
    free(path);
    return ok;
}

// transformers 5 has classes that do not follow tokenizer.json (LlamaTokenizer, GPT2Tokenizer). This one follows it, so
// that a text has the ids that the model was trained with. In transformers 4 it would also give token_type_ids.
static void name_class(cJSON *config, const Run *r)
{
    static const char *const inputs[] = {"input_ids", "attention_mask"};
    for (const cJSON *v = tokenizer_special_tokens(r->tokenizer)->child; v; v = v->next)
        if (cJSON_IsString(v) && !json_get(config, v->string))
            cJSON_AddStringToObject(config, v->string, v->valuestring);
    cJSON_DeleteItemFromObjectCaseSensitive(config, "tokenizer_class");
    cJSON_AddStringToObject(config, "tokenizer_class", "PreTrainedTokenizerFast");
    if (!json_get(config, "model_input_names"))
        cJSON_AddItemToObject(config, "model_input_names", cJSON_CreateStringArray(inputs, 2));
}

// tokenizer_config.json or generation_config.json; what the tokenizer's folder has of it is kept.
static bool save_config(const Run *r, const char *folder, const char *dir, const char *name, Err *e)
{
    char *from = path_join(folder, name), *to = path_join(dir, name);
    cJSON *json = file_exists(from) ? json_load(from, e) : cJSON_CreateObject();
    bool ok = json, is_generation = strcmp(name, "generation_config.json") == 0;
    if (ok && is_generation) add_ids(json, r);
    if (ok && !is_generation) name_class(json, r), ok = save_templates(r, json, dir, e);
    ok = ok && json_save(json, to, e);
    cJSON_Delete(json);
    free(from);
    free(to);
    return ok;
}

bool run_copy_beside(const char *from_dir, const char *to_dir, const char *name, Err *e)
{
    char *from = path_join(from_dir, name), *to = path_join(to_dir, name);
    bool ok = !file_exists(from) || file_copy(from, to, e);
    free(from);
    free(to);
    return ok;
}

// Everything that the tokenizer was read from, and the template in force.
bool run_save_tokenizer(const Run *r, const char *dir, Err *e)
{
    bool is_bin = tokenizer_is_bin(r->tokenizer), is_dir = file_is_dir(r->tokenizer_path);
    char *folder = is_dir ? mem_strdup(r->tokenizer_path) : path_dir(r->tokenizer_path);
    char *from = is_dir ? path_join(folder, "tokenizer.json") : mem_strdup(r->tokenizer_path);
    char *to = path_join(dir, is_bin ? "tokenizer.bin" : "tokenizer.json");
    bool ok = file_copy(from, to, e);
    if (is_bin) ok = ok && save_templates(r, NULL, dir, e);
    else ok = ok && save_config(r, folder, dir, "tokenizer_config.json", e) &&
              save_config(r, folder, dir, "generation_config.json", e) &&
              run_copy_beside(folder, dir, "special_tokens_map.json", e) &&
              run_copy_beside(folder, dir, "added_tokens.json", e) &&
              run_copy_beside(folder, dir, "tokenizer.model", e);
    free(folder);
    free(from);
    free(to);
    return ok;
}

// A folder's config.json keeps the keys that we do not write; a new one says what begins and ends a text.
cJSON *run_config_keys(const Run *r, Err *e)
{
    const char *model = r->options.model_name_or_path;
    bool is_folder = model && format_of(model) == &formats[FORMAT_FOLDER];
    char *path = path_join(is_folder ? model : "", "config.json");
    cJSON *json = is_folder ? json_load(path, e) : cJSON_CreateObject();
    if (json) add_ids(json, r);
    free(path);
    return json;
}

bool run_write_model(const Run *r, const char *dir, Err *e)
{
    char *path = format_path(run_format(r), dir);
    cJSON *keys = run_config_keys(r, e);
    bool ok = keys && run_format(r)->save(&r->model, path, keys, e) && run_save_tokenizer(r, dir, e);
    cJSON_Delete(keys);
    free(path);
    return ok;
}

bool run_save_model(const Run *r, const char *dir, Err *e)
{
    char *stage;
    bool ok = dir_stage(dir, &stage, e) && run_write_model(r, stage, e);
    return dir_publish(dir, stage, ok, e);
}

// ---- another format -----------------------------------------------------------------------------------------------

// The tokenizer of an exported model: copied, or written in the other format.
static bool export_tokenizer(const Run *r, const Format *f, const char *out, Err *e)
{
    bool from_bin = tokenizer_is_bin(r->tokenizer);
    int n = tokenizer_vocab_size(r->tokenizer), n_model = r->model.config.vocab_size;
    if (!f->is_folder && n > n_model)
        return fail(e, "%s: expected a tokenizer of at most %d ids, the model's vocab_size, found %d",
                    r->tokenizer_path, n_model, n);
    if (f->is_folder) return from_bin ? tokenizer_export_folder(r->tokenizer, out, e) : run_save_tokenizer(r, out, e);
    char *dir = path_dir(out), *path = path_join(dir, f->tokenizer_file);
    bool ok = true;
    if (file_exists(path)) fprintf(stderr, "train: %s is there already and was left as it is\n", path);
    else ok = from_bin ? file_copy(r->tokenizer_path, path, e) : tokenizer_export_bin(r->tokenizer, path, e);
    free(dir);
    free(path);
    return ok;
}

bool run_export(Run *r, char **model_and_out, Err *e)
{
    const char *model = model_and_out[0], *out = model_and_out[1];
    const Format *f = format_for(out);
    if (f->is_folder ? run_holds_model(out) : file_exists(out)) return fail(e, "%s: there is a model already", out);
    r->options.model_name_or_path = mem_strdup(model);
    if (!checkpoint_load(&r->model, model, e) || !run_open_tokenizer(r, model, e) ||
        !run_check_vocabulary(r, &r->model.config, e)) return false;
    cJSON *keys = run_config_keys(r, e);
    char *stage = NULL;
    bool ok = keys && (!f->is_folder || dir_stage(out, &stage, e));
    const char *to = stage ? stage : out;
    ok = ok && export_tokenizer(r, f, to, e) && f->save(&r->model, to, keys, e);
    if (stage) ok = dir_publish(out, stage, ok, e);
    cJSON_Delete(keys);
    if (ok) printf("%s: %zu parameters\n", out, r->model.n_params);
    return ok;
}
