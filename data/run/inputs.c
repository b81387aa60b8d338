// inputs: see inputs.h.
#include "inputs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool run_check_kind(const char *path, bool config, Err *e)
{
    File f = {0};
    Err ignored;
    bool folder = file_is_dir(path);
    if (!folder && !file_map(&f, path, &ignored)) return true;         // whoever reads it says why
    bool binary = folder || memchr(f.data, 0, f.size);
    bool json = !binary && memchr(f.data, '{', f.size < 64 ? f.size : 64);
    file_unmap(&f);
    if (config && binary)
        return fail(e, "%s: expected a config, a JSON file, found %s: a config names the model, as model_name_or_path",
                    path, folder ? "a folder" : "binary data");
    return config || !json ||
           fail(e, "%s: expected a model, a .bin, a .gguf or a Hugging Face folder, found JSON: of a config this "
                   "command takes the model that it names, or its output_dir", path);
}

void run_free(Run *r)
{
    if (r->lock > 0) close(r->lock);
    optim_free(&r->optim);
    room_free(&r->room);
    model_free(&r->model);
    dataset_free(&r->data);
    dataset_free(&r->eval_data);
    template_free(r->template);
    template_free(r->tool_template);
    tokenizer_free(r->tokenizer);
    free(r->base_path);
    cJSON_Delete(r->peft);
    free(r->tokenizer_path);
    free(r->events_dir);
    options_free(&r->options);
}

// Beside the model: a folder has its tokenizer in it. An adapter's folder may have one; else it is its base's.
static char *default_tokenizer(const Run *r, const char *model)
{
    for (size_t i = 0; r->peft && i < N_FORMATS; i++)
        if (file_exists(path_in(model, formats[i].tokenizer_file).text))
            return i == FORMAT_BIN ? path_join(model, formats[i].tokenizer_file) : mem_strdup(model);
    if (r->base_path) model = r->base_path;
    const Format *f = format_of(model);
    if (f != &formats[FORMAT_BIN]) return mem_strdup(model);
    char *dir = path_dir(model), *path = path_join(dir, f->tokenizer_file);
    free(dir);
    return path;
}

bool run_open_tokenizer(Run *r, const char *model, Err *e)
{
    const char *given = r->options.tokenizer_name_or_path;
    if (!given && !model) return fail(e, "tokenizer_name_or_path: expected a path, found nothing");
    r->tokenizer_path = given ? mem_strdup(given) : default_tokenizer(r, model);
    r->recipe.tokenizer = r->tokenizer = tokenizer_load(r->tokenizer_path, e);
    if (!r->tokenizer && !given)
        fail_prefix(e, "the tokenizer is looked for beside the model (or give tokenizer_name_or_path): ");
    static bool warned;                                    // a comparison opens it for each of its runs
    const char *warning = r->tokenizer && !warned ? tokenizer_warning(r->tokenizer) : NULL;
    if (warning) warned = true, fprintf(stderr, "train: warning: %s\n", warning);
    return r->tokenizer != NULL;
}

bool run_open_template(Run *r, Err *e)
{
    const char *path = r->options.chat_template_path, *own = tokenizer_chat_template(r->tokenizer);
    const char *for_tools = path ? NULL : tokenizer_named_template(r->tokenizer, "tool_use");
    File f = {0};
    if (path && !file_map(&f, path, e)) return false;
    const char *text = path ? (const char *)f.data : own;
    if (text) r->template = template_parse(text, path ? f.size : strlen(text), path ? path : "chat template", e);
    if (for_tools) r->tool_template = template_parse(for_tools, strlen(for_tools), "chat template tool_use", e);
    file_unmap(&f);
    return (!text || r->template) && (!for_tools || r->tool_template);
}

// The shape of the model to train: of the file, or model_init's.
static bool model_shape(Run *r, Config *c, Err *e)
{
    const Options *o = &r->options;
    if (!o->model_init) return checkpoint_config(c, r->base_path, e);
    if (!config_check_keys(o->model_init, "model_init", e)) return false;
    cJSON *json = cJSON_Duplicate(o->model_init, true);
    if (!json_get(json, "vocab_size")) cJSON_AddNumberToObject(json, "vocab_size", tokenizer_vocab_size(r->tokenizer));
    if (!json_get(json, "rms_norm_eps")) cJSON_AddNumberToObject(json, "rms_norm_eps", 1e-5);      // llama2.c's
    bool ok = config_from_json(c, json, "model_init", e);
    cJSON_Delete(json);
    return ok;
}

bool run_check_vocabulary(const Run *r, const Config *c, Err *e)
{
    int n = tokenizer_vocab_size(r->tokenizer);
    if (!tokenizer_is_bin(r->tokenizer)) tokenizer_pad(r->tokenizer, c->vocab_size);
    return !tokenizer_is_bin(r->tokenizer) || n == c->vocab_size ||
           fail(e, "%s: expected a tokenizer of %d pieces, the model's vocab_size, found %d", r->tokenizer_path,
                c->vocab_size, n);
}

// What rows become. `c` NULL: no model, so no limits from it.
static bool make_recipe(Run *r, const Config *c, Err *e)
{
    const Options *o = &r->options;
    if (!options_check(o, e)) return false;
    long long limit = c ? c->seq_len : INT64_MAX, length = o->max_length ? o->max_length : limit;
    bool above = c && length > limit && options_given(o, "max_length");
    if (above && c->windowed)
        return fail(e, "max_length: expected at most the model's sliding_window, %lld, found %lld", limit, length);
    if (above)
        fprintf(stderr, "train: max_length %lld is cut to the model's max_position_embeddings, %lld\n", length, limit);
    if (o->eos_token && tokenizer_id(r->tokenizer, o->eos_token) < 0)
        return fail(e, "eos_token: expected a token of %s, found \"%s\"", r->tokenizer_path, o->eos_token);
    r->recipe = (Recipe){
        .tokenizer = r->tokenizer, .template = r->template, .tool_template = r->tool_template,
        .template_kwargs = o->chat_template_kwargs, .text_field = o->dataset_text_field, .eos_token = o->eos_token,
        .assistant_only_loss = (int)o->assistant_only_loss, .completion_only_loss = (int)o->completion_only_loss,
        .prompt_loss_weight = (float)o->prompt_loss_weight, .max_length = (size_t)(length < limit ? length : limit),
        .warn_on_prefix_mismatch = strcmp(o->on_prefix_mismatch, "warn") == 0, .split_turns = o->split_turns,
        .vocab_size = c ? c->vocab_size : tokenizer_vocab_size(r->tokenizer),
    };
    return true;
}

// The training rows, and the held-out ones from a file of their own or from the end of the same one.
static bool open_data(Run *r, Err *e)
{
    const Options *o = &r->options;
    if (!o->dataset_name) return fail(e, "dataset_name: expected a path, found nothing");
    if (o->eval_dataset_name && o->eval_split > 0)
        return fail(e, "eval_split and eval_dataset_name: expected one of the two, found both");
    if (!dataset_open(&r->data, o->dataset_name, e) || !dataset_build(&r->data, &r->recipe, e)) return false;
    r->n_train = r->data.n;
    if (o->eval_dataset_name) {
        if (!dataset_open(&r->eval_data, o->eval_dataset_name, e) || !dataset_build(&r->eval_data, &r->recipe, e))
            return false;
        r->eval = r->eval_data.examples;
        r->n_eval = r->eval_data.n;
    } else if (o->eval_split > 0) {
        size_t n = r->data.rows[r->data.n - 1].row + 1, held_out = (size_t)ceil(o->eval_split * (double)n);
        if (held_out >= n)
            return fail(e, "eval_split: expected to leave rows to train on, found %zu of %zu held out", held_out, n);
        r->n_train = dataset_find(&r->data, n - held_out);             // all turns of a row are on the same side
        r->n_eval = r->data.n - r->n_train;
        r->eval = r->data.examples + r->n_train;
    }
    return true;
}

// Attention here is full: a row that is longer than the model's window is not cut in silence.
static bool check_window(const Run *r, const Config *c, Err *e)
{
    const Dataset *sets[] = {&r->data, &r->eval_data};
    if (!c->windowed || (r->options.max_length && r->options.max_length <= c->seq_len)) return true;
    for (size_t i = 0; i < 2; i++)
        for (const Example *ex = sets[i]->examples; ex < sets[i]->examples + sets[i]->n; ex++)
            if (ex->truncated)
                return fail(e, "%s:%zu: expected at most %d tokens, the model's sliding_window, found more: "
                               "max_length=%d cuts such rows", sets[i]->file.path, ex->line, c->seq_len, c->seq_len);
    return true;
}

bool run_open_inputs(Run *r, bool need_model, Config *c, Err *e)
{
    const Options *o = &r->options;
    ops_init((int)o->n_threads);
    if (o->model_init && o->model_name_or_path)
        return fail(e, "model_init and model_name_or_path: expected one of the two, found both");
    if (need_model && !o->model_init && !o->model_name_or_path)
        return fail(e, "model_name_or_path: expected a path, found nothing");
    bool has_model = o->model_init || (o->model_name_or_path && (need_model || file_exists(o->model_name_or_path)));
    if (has_model && !run_find_model(r, o->model_name_or_path, e)) return false;
    if (need_model && !o->model_init && !checkpoint_config(c, r->base_path, e)) return false;
    if (!run_open_tokenizer(r, o->model_name_or_path, e) || !run_open_template(r, e)) return false;
    if (has_model && (!model_shape(r, c, e) || !run_check_vocabulary(r, c, e))) return false;
    return make_recipe(r, has_model ? c : NULL, e) && (!has_model || run_open_adapter(r, c, e)) && open_data(r, e) &&
           (!has_model || check_window(r, c, e));
}

// ---- the model ----------------------------------------------------------------------------------------------------

const Format *run_format(const Run *r)
{
    const char *model = r->base_path;
    return model ? format_of(model) : &formats[tokenizer_is_bin(r->tokenizer) ? FORMAT_BIN : FORMAT_FOLDER];
}

// Not only as many parameters: the rows were made for this vocab_size and seq_len.
static bool same_shape(const Config *a, const Config *b)
{
    Shape x = config_shape(a), y = config_shape(b);
    return memcmp(&x, &y, sizeof x) == 0 && a->seq_len == b->seq_len && params_count(a) == params_count(b) &&
           a->family == b->family && a->tied == b->tied && memcmp(a->no_rope, b->no_rope, sizeof a->no_rope) == 0;
}

bool run_open_model(const Run *r, Model *m, const Config *c, const char *checkpoint, Err *e)
{
    const Options *o = &r->options;
    const char *adapter = checkpoint ? checkpoint : o->model_name_or_path;
    if (r->peft && adapter_is(adapter)) return run_load_model(r, m, adapter, e);
    if (r->peft && checkpoint) return fail(e, "%s: expected an adapter, found none", checkpoint);
    if (checkpoint) {
        return run_format(r)->read(&(Config){0}, m, format_path(run_format(r), checkpoint).text, e) &&
               (same_shape(&m->config, c) ||
                fail(e, "%s: expected a model of %zu parameters and seq_len %d, found %zu and %d%s", checkpoint,
                     params_count(c), c->seq_len, m->n_params, m->config.seq_len,
                     m->n_params == params_count(c) ? ", of another shape" : ""));
    }
    if (r->peft) {
        if (!run_load_model(r, m, NULL, e)) return false;
        Adapter *a = adapter_plan(c, r->peft, "use_peft", e);
        if (!a || !model_adapt(m, a, e)) return false;
        adapter_randomize(m, (uint64_t)o->seed);
        return true;
    }
    if (!o->model_init) return run_load_model(r, m, NULL, e);
    if (run_format(r)->fits && !run_format(r)->fits(c, e)) return fail_prefix(e, "model_init: ");
    if (!model_init(m, c, e)) return false;
    model_randomize(m, (uint64_t)o->seed);
    return true;
}

static BatchSize size_max(BatchSize a, BatchSize b)
{
    return (BatchSize){a.tokens > b.tokens ? a.tokens : b.tokens, a.row > b.row ? a.row : b.row,
                       a.rows > b.rows ? a.rows : b.rows, a.targets > b.targets ? a.targets : b.targets};
}

BatchSize run_batch_size(const Run *r, const Example *const *rows, size_t n_rows)
{
    size_t batch = (size_t)r->options.per_device_train_batch_size;
    const Example **held_out = mem_alloc(r->n_eval, sizeof *held_out);
    for (size_t i = 0; i < r->n_eval; i++) held_out[i] = &r->eval[i];
    BatchSize eval = batch_bound(held_out, r->n_eval, batch, BATCH_EVAL);
    free(held_out);
    return size_max(eval, batch_bound(rows, n_rows, batch, BATCH_TRAIN));
}
