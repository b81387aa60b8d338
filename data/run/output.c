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

// N of checkpoint-N; -1 for another name.
static int64_t step_of(const char *name)
{
    char *end;
    if (strncmp(name, "checkpoint-", 11) != 0 || !isdigit((unsigned char)name[11])) return -1;
    long long n = strtoll(name + 11, &end, 10);
    return *end ? -1 : n;
}

int64_t run_newest_checkpoint(const char *dir, int64_t below)
{
    int64_t newest = -1;
    DIR *folder = opendir(dir);
    for (struct dirent *d; folder && (d = readdir(folder));) {
        int64_t n = step_of(d->d_name);
        if (n < below && n > newest) newest = n;
    }
    if (folder) closedir(folder);
    return newest;
}

// Does it hold a model, checkpoints or a comparison?
static bool holds_model(const char *dir)
{
    static const char *const names[] = {"model.safetensors", "model.safetensors.index.json", "compare.csv",
                                        ADAPTER_CONFIG};
    bool there = run_newest_checkpoint(dir, INT64_MAX) >= 0;
    for (size_t i = 0; i < N_FORMATS; i++) there |= file_exists(path_in(dir, formats[i].model_file).text);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) there |= file_exists(path_in(dir, names[i]).text);
    return there;
}

// What a killed run left half done: files and folders under temporary names of ours. Whoever holds the lock may remove
// them.
void run_remove_unfinished(const char *dir)
{
    static const char *const names[] = {"train_config.json", "log.jsonl", "log.csv", "trainer_state.json",
                                        "report.html", "compare.csv", "model", EVENTS_FILE};
    DIR *folder = opendir(dir);
    for (struct dirent *d; folder && (d = readdir(folder));) {
        char *name = mem_strndup(d->d_name, unfinished_name_length(d->d_name));
        Path path = path_in(dir, d->d_name);
        bool ours = step_of(name) >= 0;
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) ours |= strcmp(name, names[i]) == 0;
        if (ours && unlink(path.text) != 0) dir_remove(path.text);
        free(name);
    }
    if (folder) closedir(folder);
}

bool run_claim_output(Run *r, bool can_resume, Err *e)
{
    const Options *o = &r->options;
    if (!o->output_dir) return fail(e, "output_dir: expected a path, found nothing");
    if (!dir_make(o->output_dir, e) || (r->lock = dir_lock(o->output_dir, e)) < 0)
        return fail_prefix(e, "output_dir: ");
    if (!r->events_dir) r->events_dir = path_join(o->output_dir, "runs/train");
    if (!o->overwrite_output_dir && !o->resume_from_checkpoint && holds_model(o->output_dir))
        return fail(e, "output_dir: %s holds a model, checkpoints or a comparison already: choose another folder, or "
                       "give overwrite_output_dir=true%s", o->output_dir,
                    can_resume && run_newest_checkpoint(o->output_dir, INT64_MAX) >= 0 ?
                    " or resume_from_checkpoint=latest" : "");
    if (access(o->output_dir, W_OK) != 0)
        return fail(e, "output_dir: %s: cannot write: %s", o->output_dir, strerror(errno));
    run_remove_unfinished(o->output_dir);
    return true;
}

static Path log_path(const Run *r) { return path_in(r->options.output_dir, "log.jsonl"); }

bool run_open_output(Run *r, Err *e)
{
    const Options *o = &r->options;
    cJSON *json = options_json(o);
    bool ok = json_save(json, path_in(o->output_dir, "train_config.json").text, e);
    cJSON_Delete(json);
    GgufKeys k = {0};                                      // what cannot be saved at the end is not trained
    if (ok && !r->model.adapter && run_format(r) == &formats[FORMAT_GGUF])
        ok = run_gguf_keys(r, &k, r->model.config.vocab_size, e);
    buf_free(&k.bytes);
    if (!ok || o->resume_from_checkpoint) return ok;       // resume_read has cut the logs
    unlink(path_in(o->output_dir, TRACES_FILE).text);      // of an earlier run
    return file_put(log_path(r).text, "", 0, e);
}

void run_keep_line(Run *r, const cJSON *line)
{
    if (json_get(line, "eval_loss")) r->evaluated = 1 + (int64_t)json_get(line, "step")->valuedouble;
}

bool run_write_log(Run *r, const cJSON *line, Err *e)
{
    run_keep_line(r, line);
    char *text = cJSON_PrintUnformatted(line);
    size_t n = strlen(text);
    text[n] = '\n';                                        // in place of the NUL
    bool ok = file_append(log_path(r).text, text, n + 1, e);
    cJSON_free(text);
    return ok;
}

cJSON *run_read_log(const Run *r, Err *e) { return run_read_lines(log_path(r).text, e); }

cJSON *run_read_lines(const char *path, Err *e)
{
    File f;
    if (!file_map(&f, path, e)) return NULL;
    bool ok = true;
    cJSON *lines = cJSON_CreateArray();
    const char *text = (const char *)f.data, *end = text + f.size, *next;
    for (size_t number = 1; ok && text < end; text = next, number++) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        next = newline ? newline + 1 : end;
        cJSON *line = json_parse(text, (size_t)(next - text), f.path, number, e);
        const cJSON *step = json_get(line, "step");
        ok = line && (json_is_int(step, 0, MAX_COUNT) ||
                      fail(e, "%s:%zu: step: expected a count, found %s", f.path, number, json_kind(step)));
        if (line) cJSON_AddItemToArray(lines, line);
    }
    file_unmap(&f);
    if (ok) return lines;
    cJSON_Delete(lines);
    return NULL;
}

// Files that belong together: a new folder inside `dir` to write them to, and then, if all is ok, their way into `dir`.
static bool open_stage(const char *dir, Path *stage, Err *e)
{
    snprintf(stage->text, sizeof stage->text, "%s/model.tmp.%ld", dir, (long)getpid());
    return dir_make(stage->text, e);
}

static bool publish_stage(const char *dir, const char *stage, bool ok, Err *e)
{
    DIR *folder = ok ? opendir(stage) : NULL;
    if (ok && !folder) ok = fail(e, "%s: cannot open: %s", stage, strerror(errno));
    for (struct dirent *d; ok && folder && (d = readdir(folder));) {
        Path from = path_in(stage, d->d_name), to = path_in(dir, d->d_name);
        if (d->d_name[0] != '.' && rename(from.text, to.text) != 0)
            ok = fail(e, "%s: cannot write: %s", to.text, strerror(errno));
    }
    if (folder) closedir(folder);
    ok = ok && file_sync(dir, e);
    dir_remove(stage);
    return ok;
}

// The ids that end a text; in an object that is new, the one that begins it too.
static void add_ids(cJSON *config, const Run *r)
{
    int bos = tokenizer_bos(r->tokenizer);
    if (!config->child && bos >= 0) cJSON_AddNumberToObject(config, "bos_token_id", bos);
    turn_add_ends(config, &r->recipe);
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
    Path path = path_in(dir, "chat_template.jinja");
    return given ? file_copy(given, path.text, e) : several || !own || file_put(path.text, own, strlen(own), e);
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
    Path from = path_in(folder, name);
    cJSON *json = file_exists(from.text) ? json_load(from.text, e) : cJSON_CreateObject();
    bool ok = json, is_generation = strcmp(name, "generation_config.json") == 0;
    if (ok && is_generation) add_ids(json, r);
    if (ok && !is_generation) name_class(json, r), ok = save_templates(r, json, dir, e);
    ok = ok && json_save(json, path_in(dir, name).text, e);
    cJSON_Delete(json);
    return ok;
}

bool run_copy_beside(const char *from_dir, const char *to_dir, const char *name, Err *e)
{
    Path from = path_in(from_dir, name);
    return !file_exists(from.text) || file_copy(from.text, path_in(to_dir, name).text, e);
}

// Everything that the tokenizer was read from, and the template in force. What was in a .gguf becomes files.
static bool save_tokenizer(const Run *r, const char *dir, Err *e)
{
    bool is_bin = tokenizer_is_bin(r->tokenizer), is_dir = file_is_dir(r->tokenizer_path);
    bool is_gguf = tokenizer_is_gguf(r->tokenizer);
    char *folder = is_gguf ? mem_strdup(dir) : is_dir ? mem_strdup(r->tokenizer_path) : path_dir(r->tokenizer_path);
    Path inside = path_in(folder, "tokenizer.json");
    bool ok = is_gguf ? tokenizer_export_folder(r->tokenizer, dir, e)
                      : file_copy(is_dir ? inside.text : r->tokenizer_path,
                                  path_in(dir, is_bin ? "tokenizer.bin" : "tokenizer.json").text, e);
    if (is_bin) ok = ok && save_templates(r, NULL, dir, e);
    else ok = ok && save_config(r, folder, dir, "tokenizer_config.json", e) &&
              save_config(r, folder, dir, "generation_config.json", e) &&
              run_copy_beside(folder, dir, "special_tokens_map.json", e) &&
              run_copy_beside(folder, dir, "added_tokens.json", e) &&
              run_copy_beside(folder, dir, "tokenizer.model", e);
    free(folder);
    return ok;
}

// For Format.save, owned by the caller: a folder's config.json keeps the keys that we do not write; a new one says what
// begins and ends a text.
static cJSON *config_keys(const Run *r, Err *e)
{
    const char *model = r->base_path;
    bool is_folder = model && format_of(model) == &formats[FORMAT_FOLDER];
    cJSON *json = is_folder ? json_load(path_in(model, "config.json").text, e) : cJSON_CreateObject();
    if (json) add_ids(json, r);
    return json;
}

// A .gguf has one token that ends a text, and one that ends a turn; a generation_config.json may name more.
static bool warn_of_gguf(const Run *r, int end, int end_of_turn, Err *e)
{
    static bool warned;                                    // a run saves more than once
    const Config *c = &r->model.config;
    Path path = path_in(r->base_path ? r->base_path : "", "generation_config.json");
    cJSON *json = !warned && file_exists(path.text) ? json_load(path.text, e) : cJSON_CreateObject();
    const cJSON *ids = json_get(json, "eos_token_id"), *v;
    cJSON_ArrayForEach(v, ids)
        if (v->valueint != end && v->valueint != end_of_turn)
            fprintf(stderr, "train: warning: %s: token %d ends a text too; a .gguf has no place for it\n",
                    path.text, v->valueint);
    if (c->windowed && !warned)
        fprintf(stderr, "train: warning: llama.cpp does not know the model's window: texts of more than %d tokens "
                "differ there\n", c->seq_len);
    warned = true;
    cJSON_Delete(json);
    return json;
}

bool run_gguf_keys(const Run *r, GgufKeys *k, int n_ids, Err *e)
{
    static const char *const written[] = {"general.architecture", "general.alignment", "general.file_type",
                                          "general.quantization_version"};
    const char *given = r->options.chat_template_path;
    SafeTensors g;
    File f = {0};
    if (r->base_path && gguf_is(r->base_path)) {
        if (!gguf_open(&g, r->base_path, e)) return false;
        gguf_copy(k, &g, "general.", written, 4);
        safetensors_close(&g);
    } else gguf_add_text(k, "general.type", "model");
    if (given && !file_map(&f, given, e)) return false;
    char *template = given ? mem_strndup((const char *)f.data, f.size) : NULL;
    cJSON *config = config_keys(r, e);
    const cJSON *bos = json_get(config, "bos_token_id"), *eos = json_get(config, "eos_token_id");
    if (cJSON_IsArray(eos)) eos = eos->child;
    int ids[] = {json_is_int(bos, 0, n_ids - 1) ? bos->valueint : -1,
                 json_is_int(eos, 0, n_ids - 1) ? eos->valueint : -1, turn_end(&r->recipe)};
    int end = tokenizer_eos(r->tokenizer);
    bool ok = config && warn_of_gguf(r, end < 0 ? ids[1] : end, ids[2], e) &&
              (tokenizer_export_gguf(r->tokenizer, k, n_ids, template, ids, e) ||
               fail_prefix(e, "%s: ", r->tokenizer_path));
    cJSON_Delete(config);
    file_unmap(&f);
    free(template);
    return ok;
}

// The model at a path of this format; of a .gguf that has its tokenizer too, `type` is that of its numbers.
static bool save_as(const Run *r, const Format *f, const char *path, Dtype type, Err *e)
{
    bool is_gguf = f == &formats[FORMAT_GGUF];
    GgufKeys k = {0};
    cJSON *keys = is_gguf ? NULL : config_keys(r, e);
    bool ok = is_gguf ? run_gguf_keys(r, &k, r->model.config.vocab_size, e) && gguf_save(&r->model, path, &k, type, e)
                      : keys && f->save(&r->model, path, keys, e);
    buf_free(&k.bytes);
    cJSON_Delete(keys);
    return ok;
}

bool run_write_model(const Run *r, const char *dir, Err *e)
{
    const Format *f = run_format(r);
    if (r->model.adapter) return adapter_save(&r->model, dir, r->base_path, e) && save_tokenizer(r, dir, e);
    return save_as(r, f, format_path(f, dir).text, DTYPE_F32, e) &&
           (f == &formats[FORMAT_GGUF] || save_tokenizer(r, dir, e));
}

bool run_save_model(const Run *r, const char *dir, Err *e)
{
    Path stage;
    bool ok = open_stage(dir, &stage, e) && run_write_model(r, stage.text, e);
    ok = publish_stage(dir, stage.text, ok, e);
    if (ok && !r->model.adapter) unlink(path_in(dir, ADAPTER_CONFIG).text);      // of an adapter that was here before
    return ok;
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
    if (f == &formats[FORMAT_GGUF]) return true;           // it is in the model's file
    if (f->is_folder) return from_bin ? tokenizer_export_folder(r->tokenizer, out, e) : save_tokenizer(r, out, e);
    char *dir = path_dir(out);
    Path path = path_in(dir, f->tokenizer_file);
    free(dir);
    if (!file_exists(path.text))
        return from_bin ? file_copy(r->tokenizer_path, path.text, e) : tokenizer_export_bin(r->tokenizer, path.text, e);
    fprintf(stderr, "train: %s is there already and was left as it is\n", path.text);
    return true;
}

bool run_export(Run *r, char **model_and_out, Err *e)
{
    const char *model = model_and_out[0], *out = model_and_out[1];
    const Format *f = format_for(out);
    const char *given = r->options.outtype, *type = given ? given : "f16";
    if (given && f != &formats[FORMAT_GGUF])
        return fail(e, "outtype: it is for a .gguf, and %s is none", out);
    if (f->is_folder ? holds_model(out) : file_exists(out)) return fail(e, "%s: there is a model already", out);
    r->options.model_name_or_path = mem_strdup(model);
    if (!run_find_model(r, model, e) || !run_load_model(r, &r->model, r->peft ? model : NULL, e) ||
        !run_open_tokenizer(r, model, e) || !run_check_vocabulary(r, &r->model.config, e)) return false;
    if (r->model.adapter) model_merge(&r->model);
    Err none;                                              // a template that cannot be read names no end of a turn
    if (f == &formats[FORMAT_GGUF] && run_open_template(r, &none)) r->recipe.template = r->template;
    Path stage = {""};
    bool ok = !f->is_folder || open_stage(out, &stage, e);
    const char *to = f->is_folder ? stage.text : out;
    ok = ok && export_tokenizer(r, f, to, e) &&
         save_as(r, f, to, strcmp(type, "f32") == 0 ? DTYPE_F32 : *type == 'f' ? DTYPE_F16 : DTYPE_Q8_0, e);
    if (f->is_folder) ok = publish_stage(out, stage.text, ok, e);
    if (ok) printf("%s: %zu parameters\n", out, r->model.n_params);
    return ok;
}
