// checkpoint: see checkpoint.h.
#include "checkpoint.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---- llama2.c .bin ------------------------------------------------------------------------------------------------

enum { BIN_MAGIC = 0x616B3432, V0_HEADER = 7 * 4, V1_HEADER = 256 };   // "ak42"

enum { BIN_TENSORS = CLASSIFIER + 1 };
static const TensorId v0_order[BIN_TENSORS] = {TOK_EMB, ATT_NORM, WQ, WK, WV, WO, FFN_NORM, W1, W2, W3,
                                             FINAL_NORM, CLASSIFIER};
static const TensorId v1_order[BIN_TENSORS] = {ATT_NORM, FFN_NORM, FINAL_NORM, TOK_EMB, WQ, WK, WV, WO,
                                             W1, W2, W3, CLASSIFIER};

typedef struct { size_t header, rope_tables; const TensorId *order; } BinLayout;

// dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, seq_len: seven int32. Version 0 says "untied" by a
// negative vocab_size and stores two RoPE tables, which we skip; version 1 has a magic number and a byte for "tied".
static bool bin_header(const File *f, Config *c, BinLayout *layout, Err *e)
{
    int32_t v[7] = {0};
    if (f->size >= V0_HEADER) memcpy(v, f->data, sizeof v);
    bool v1 = v[0] == BIN_MAGIC;
    size_t header = v1 ? V1_HEADER : V0_HEADER;
    if (f->size < header)
        return fail(e, "%s: expected a header of %zu bytes, found %zu bytes", f->path, header, f->size);
    if (v1 && v[1] != 1) return fail(e, "%s: expected version 1, found %d", f->path, v[1]);
    bool tied = v1 ? f->data[36] != 0 : v[5] > 0;
    if (v1) memcpy(v, f->data + 8, sizeof v);
    else if (v[5] < 0 && v[5] > INT32_MIN) v[5] = -v[5];
    *c = (Config){.dim = v[0], .hidden_dim = v[1], .n_layers = v[2], .n_heads = v[3], .n_kv_heads = v[4],
                  .vocab_size = v[5], .seq_len = v[6], .tied = tied, .rope_theta = 10000, .norm_eps = 1e-5f};
    if (c->n_heads < 1 || c->dim % c->n_heads)
        return fail(e, "%s: header: expected dim to be a multiple of n_heads, found %d and %d", f->path, c->dim,
                    c->n_heads);
    c->head_dim = c->dim / c->n_heads;
    if (!config_check(c, e)) return fail_prefix(e, "%s: header: ", f->path);
    *layout = (BinLayout){header, v1 ? 0 : (size_t)c->seq_len * (size_t)c->head_dim, v1 ? v1_order : v0_order};
    size_t expected = layout->header + 4 * (layout->rope_tables + params_count(c));
    if (f->size != expected)
        return fail(e, "%s: expected %zu bytes for dim %d, hidden_dim %d, n_layers %d, n_heads %d, n_kv_heads %d, "
                    "vocab_size %d (%s), seq_len %d, found %zu",
                    f->path, expected, c->dim, c->hidden_dim, c->n_layers, c->n_heads, c->n_kv_heads, c->vocab_size,
                    tied ? "tied" : "untied", c->seq_len, f->size);
    return true;
}

static bool bin_read(Config *c, Model *m, const char *path, Err *e)
{
    File f;
    BinLayout layout = {0};
    if (!file_map(&f, path, e)) return false;
    bool ok = bin_header(&f, c, &layout, e) && (!m || model_init(m, c, e));
    const unsigned char *from = f.data + (ok ? layout.header : 0);
    for (int i = 0; ok && m && i < BIN_TENSORS; i++) {
        TensorId id = layout.order[i];
        if (id == CLASSIFIER) from += 4 * layout.rope_tables;
        for (size_t l = 0, bytes = 4 * tensor_size(c, id); l < tensor_count(c, id); l++, from += bytes)
            memcpy(model_param(m, id, l), from, bytes);
    }
    file_unmap(&f);
    return ok;
}

static bool bin_fits(const Config *c, Err *e)
{
    if (c->family > MISTRAL || c->o_bias)
        return fail(e, "a .bin file can hold a Llama without biases, found %s%s: export it to a folder",
                    families[c->family].architecture, c->o_bias ? " with attention_bias" : "");
    if (c->n_heads * c->head_dim != c->dim)
        return fail(e, "a .bin file has no place for head_dim: expected %d (dim / n_heads), found %d",
                    c->dim / c->n_heads, c->head_dim);
    if (c->rope_theta != 10000 || c->rope_scaling.factor != 0 || c->norm_eps != 1e-5f)
        return fail(e, "a .bin file has no place for rope_theta, rope_scaling and rms_norm_eps: expected 10000, null "
                    "and 1e-5, found %g, %s and %g",
                    (double)c->rope_theta, c->rope_scaling.factor != 0 ? "llama3" : "null", (double)c->norm_eps);
    return true;
}

static bool bin_save(const Model *m, const char *path, const cJSON *other_keys, Err *e)
{
    (void)other_keys;                                      // a .bin has no room for them
    const Config *c = &m->config;
    int32_t header[7] = {c->dim, c->hidden_dim, c->n_layers, c->n_heads, c->n_kv_heads,
                         c->tied ? c->vocab_size : -c->vocab_size, c->seq_len};
    FileWriter w;
    if (!bin_fits(c, e)) return fail_prefix(e, "%s: ", path);
    if (!file_create(&w, path, e) || !file_write(&w, header, sizeof header, e)) return false;
    for (int i = 0; i < BIN_TENSORS; i++) {
        TensorId id = v0_order[i];
        for (int part = 0; id == CLASSIFIER && part < 2; part++)       // the tables of cosines, then of sines
            for (size_t j = 0; j < (size_t)c->seq_len * (size_t)c->head_dim / 2; j++)
                if (!file_write(&w, m->cos_sin + 2 * j + part, 4, e)) return false;
        for (size_t l = 0; l < tensor_count(c, id); l++)
            if (!file_write(&w, model_param(m, id, l), 4 * tensor_size(c, id), e)) return false;
    }
    return file_commit(&w, e);
}

// ---- config.json --------------------------------------------------------------------------------------------------

// A size; `absent` may be JSON_REQUIRED.
static bool get_size(int *out, const cJSON *json, const char *key, int absent, Err *e)
{
    return json_get_int(out, json, NULL, key, 1, INT32_MAX, absent, e);
}

static bool get_float(float *out, const cJSON *json, const char *key, double absent, Err *e)
{
    double value = 0;
    bool ok = json_get_number(&value, json, NULL, key, absent, e);
    *out = (float)value;
    return ok;
}

const Family families[N_FAMILIES] = {
    [LLAMA]   = {"llama",   "LlamaForCausalLM",   .seq_len = 2048,   .rope_theta = 1e4},
    [MISTRAL] = {"mistral", "MistralForCausalLM", .seq_len = 131072, .rope_theta = 1e4, .n_kv_heads = 8,
                 .window = 4096},
    [QWEN2]   = {"qwen2",   "Qwen2ForCausalLM",   .seq_len = 32768,  .rope_theta = 1e4, .n_kv_heads = 32,
                 .window = 4096},
    [QWEN3]   = {"qwen3",   "Qwen3ForCausalLM",   .seq_len = 32768,  .rope_theta = 1e4, .n_kv_heads = 32,
                 .window = 4096, .head_dim = 128},
    [SMOLLM3] = {"smollm3", "SmolLM3ForCausalLM", .seq_len = 32768,  .rope_theta = 2e6, .n_kv_heads = 4, .tied = true},
};

// The family that model_type names, or else architectures: that is the order of transformers.
static bool get_family(Config *c, const cJSON *json, Err *e)
{
    static const char *const keys[] = {"architectures", "model_type"};
    const cJSON *list = json_get(json, keys[0]);
    const char *names[] = {cJSON_IsArray(list) ? cJSON_GetStringValue(list->child) : NULL, json_string(json, keys[1])};
    for (size_t i = 0; i < 2; i++) {
        Buf known = {0};
        bool found = !names[i];
        for (FamilyId f = 0; !found && f < N_FAMILIES; f++) {
            const char *its = i ? families[f].model_type : families[f].architecture;
            if ((found = strcmp(its, names[i]) == 0)) c->family = f;
            buf_addf(&known, "%s%s", f ? ", " : "", its);
        }
        if (!found) fail(e, "%s: expected one of %s, found %s", keys[i], known.data, names[i]);
        buf_free(&known);
        if (!found) return false;
    }
    return true;
}

// What another value of would need code that is not here.
static bool check_fixed(const cJSON *json, Err *e)
{
    static const char *const must_be_off[] = {"mlp_bias", "quantization_config", "attention_dropout"};
    for (size_t i = 0; i < sizeof must_be_off / sizeof *must_be_off; i++) {
        const cJSON *v = json_get(json, must_be_off[i]);
        if (!json_is_absent(v) && !cJSON_IsFalse(v) && !(cJSON_IsNumber(v) && v->valuedouble == 0))
            return fail(e, "%s is not supported", must_be_off[i]);
    }
    const char *act = json_string(json, "hidden_act");
    if (act && strcmp(act, "silu") != 0) return fail(e, "hidden_act: expected \"silu\", found \"%s\"", act);
    const cJSON *partial = json_get(json, "partial_rotary_factor");
    if (cJSON_IsNumber(partial) && partial->valuedouble != 1) return fail(e, "partial_rotary_factor is not supported");
    return true;
}

// transformers 4 has rope_theta and rope_scaling; 5 has both inside rope_parameters. Where a file has all, rope_scaling
// comes before rope_parameters, and the object's own rope_theta before the one at the top.
static bool get_rope(Config *c, const cJSON *json, Err *e)
{
    const char *where = "rope_scaling", *later = "rope_parameters";
    const cJSON *rope = json_get(json, where), *v;
    if (json_is_absent(rope) || (cJSON_IsObject(rope) && !rope->child)) rope = json_get(json, where = later);
    if (!get_float(&c->rope_theta, json, "rope_theta", families[c->family].rope_theta, e)) return false;
    if (json_is_absent(rope)) return true;
    if (!cJSON_IsObject(rope)) return fail(e, "%s: expected an object, found %s", where, json_kind(rope));
    cJSON_ArrayForEach(v, rope)
        if (cJSON_IsObject(v)) return fail(e, "%s: %s: layers that differ are not supported", where, v->string);
    const cJSON *type = json_get(rope, "rope_type");
    if (json_is_absent(type)) type = json_get(rope, "type");
    const char *name = json_is_absent(type) && !json_get(rope, "factor") ? "default" : cJSON_GetStringValue(type);
    if (!name || (strcmp(name, "default") != 0 && strcmp(name, "llama3") != 0))
        return fail(e, "%s: rope_type: expected \"llama3\" or \"default\", found \"%s\"", where,
                    name ? name : json_kind(type));
    if (!get_float(&c->rope_theta, rope, "rope_theta", (double)c->rope_theta, e)) return fail_prefix(e, "%s: ", where);
    if (strcmp(name, "default") == 0) return true;
    static const char length[] = "original_max_position_embeddings";
    if (!get_float(&c->rope_scaling.factor, rope, "factor", NAN, e) ||
        !get_float(&c->rope_scaling.low_freq_factor, rope, "low_freq_factor", NAN, e) ||
        !get_float(&c->rope_scaling.high_freq_factor, rope, "high_freq_factor", NAN, e) ||
        !get_float(&c->rope_scaling.original_seq_len, rope, length, c->seq_len, e) ||
        !get_float(&c->rope_scaling.original_seq_len, json, length, (double)c->rope_scaling.original_seq_len, e))
        return fail_prefix(e, "%s: ", where);
    if (!(c->rope_scaling.factor >= 1 && c->rope_scaling.high_freq_factor > c->rope_scaling.low_freq_factor &&
          c->rope_scaling.low_freq_factor > 0))
        return fail(e, "%s: expected factor >= 1 and high_freq_factor > low_freq_factor > 0", where);
    return true;
}

// The layers without RoPE: those with a 0 in no_rope_layers, or else each no_rope_layer_interval-th.
static bool get_no_rope(Config *c, const cJSON *json, Err *e)
{
    static const char key[] = "no_rope_layers", interval_key[] = "no_rope_layer_interval";
    const cJSON *list = json_get(json, key), *v = cJSON_IsArray(list) ? list->child : NULL;
    bool listed = !json_is_absent(list);
    int n = c->n_layers, interval = 0;
    char room[32];
    if (c->family != SMOLLM3)
        return !listed || fail(e, "%s: expected none for model_type %s", key, families[c->family].model_type);
    if (!get_size(&interval, json, interval_key, 4, e)) return false;
    for (int l = 0; l < n; l++, v = v ? v->next : NULL) {
        if (listed && !json_is_int(v, 0, 1))
            return fail(e, "%s: expected 0 or 1 for each of %d layers, found %s", key, n, json_found(v, room));
        c->no_rope[l] = v ? v->valuedouble == 0 : (l + 1) % interval == 0;
    }
    return true;
}

// Attention here is always full. A model with a window is used up to it, where the two are the same.
static bool get_window(Config *c, const cJSON *json, Err *e)
{
    static const char key[] = "sliding_window";
    const cJSON *types = json_get(json, "layer_types"), *v;
    bool slides = c->family == MISTRAL, listed = !json_is_absent(types), use = false;
    int window = families[c->family].window, first = 0;
    if (!json_get_flag(&use, json, NULL, "use_sliding_window", false, e) ||
        !json_get_int(&first, json, NULL, "max_window_layers", 0, INT32_MAX, 28, e)) return false;
    cJSON_ArrayForEach(v, types) {
        const char *type = cJSON_GetStringValue(v);
        bool full = type && strcmp(type, "full_attention") == 0, part = type && strcmp(type, "sliding_attention") == 0;
        const char *what = type ? type : json_kind(v);
        if (!full && !part) return fail(e, "layer_types: expected full_attention or sliding_attention, found %s", what);
        slides |= part;
    }
    bool qwen = c->family == QWEN2 || c->family == QWEN3;
    for (int l = 0; use && !listed && l < c->n_layers; l++) slides |= qwen ? l >= first : c->no_rope[l];
    if (!slides || cJSON_IsNull(json_get(json, key))) return true;
    if (!get_size(&window, json, key, window || !listed ? window : JSON_REQUIRED, e)) return false;
    config_set_window(c, window);
    return true;
}

void config_set_window(Config *c, int window)
{
    c->windowed = window && window < c->seq_len;
    if (!c->windowed) return;
    c->max_positions = c->seq_len;
    c->seq_len = window;
}

// The RoPE table is made for seq_len positions, which no file backs: it may be as large as the weights, or 64 MB.
static bool check_seq_len(const Config *c, Err *e)
{
    size_t floats = (size_t)c->seq_len * (size_t)c->head_dim, enough = (size_t)1 << 24, weights = params_count(c);
    size_t most = (weights > enough ? weights : enough) / (size_t)c->head_dim;
    return floats <= weights || floats <= enough ||
           fail(e, "max_position_embeddings: expected at most %zu for a model of %zu weights, found %d", most, weights,
                c->seq_len);
}

bool checkpoint_check(const Config *c, Err *e) { return config_check(c, e) && check_seq_len(c, e); }

static bool parse_config(Config *c, const cJSON *json, Err *e)
{
    static const char kv_heads[] = "num_key_value_heads", head_dim[] = "head_dim";
    *c = (Config){0};
    if (!cJSON_IsObject(json)) return fail(e, "expected an object, found %s", json_kind(json));
    if (!get_family(c, json, e)) return false;
    const Family *f = &families[c->family];
    c->qk_norm = c->family == QWEN3;
    if (!json_get_flag(&c->tied, json, NULL, "tie_word_embeddings", f->tied, e) ||
        !json_get_flag(&c->o_bias, json, NULL, "attention_bias", false, e) || !check_fixed(json, e) ||
        !get_size(&c->dim, json, "hidden_size", JSON_REQUIRED, e) ||
        !get_size(&c->hidden_dim, json, "intermediate_size", JSON_REQUIRED, e) ||
        !get_size(&c->n_layers, json, "num_hidden_layers", JSON_REQUIRED, e) ||
        !get_size(&c->n_heads, json, "num_attention_heads", JSON_REQUIRED, e) ||
        !get_size(&c->n_kv_heads, json, kv_heads, f->n_kv_heads && !json_get(json, kv_heads) ? f->n_kv_heads
                                                                                             : c->n_heads, e) ||
        !get_size(&c->vocab_size, json, "vocab_size", JSON_REQUIRED, e) ||
        !get_size(&c->seq_len, json, "max_position_embeddings", f->seq_len, e) ||
        !get_float(&c->norm_eps, json, "rms_norm_eps", 1e-6, e) || !get_rope(c, json, e)) return false;
    c->qkv_bias = c->o_bias || c->family == QWEN2;
    if (json_is_absent(json_get(json, head_dim)) && !f->head_dim && c->dim % c->n_heads)
        return fail(e, "hidden_size: expected a multiple of num_attention_heads (%d), found %d", c->n_heads, c->dim);
    return get_size(&c->head_dim, json, head_dim, f->head_dim ? f->head_dim : c->dim / c->n_heads, e) &&
           config_check(c, e) && get_no_rope(c, json, e) && get_window(c, json, e) && check_seq_len(c, e);
}

bool config_from_json(Config *c, const cJSON *json, const char *where, Err *e)
{
    return parse_config(c, json, e) || fail_prefix(e, "%s: ", where);
}

bool config_check_keys(const cJSON *json, const char *where, Err *e)
{
    static const char *const known[] = {
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "head_dim", "vocab_size", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings", "hidden_act",
        "sliding_window", "rope_theta", "rope_scaling", "rope_parameters", "rope_type", "type", "factor",
        "low_freq_factor", "high_freq_factor", "original_max_position_embeddings", "partial_rotary_factor",
        "model_type", "architectures", "attention_bias", "mlp_bias", "attention_dropout", "quantization_config",
        "use_sliding_window", "max_window_layers", "layer_types", "no_rope_layers", "no_rope_layer_interval",
        // These change nothing here: the ids are the tokenizer's, and weights are F32.
        "bos_token_id", "eos_token_id", "pad_token_id", "dtype", "torch_dtype", "transformers_version", "use_cache",
    };
    for (const cJSON *v = json->child; v; v = v->next) {
        const char *near = nearest_name(v->string, known, sizeof known / sizeof *known, sizeof *known);
        if (!near || strcmp(near, v->string) != 0)
            return fail(e, "%s: unknown key \"%s\"%s%s%s", where, v->string, near ? ": did you mean \"" : "",
                        near ? near : "", near ? "\"?" : "");
        if (cJSON_IsObject(v) && !config_check_keys(v, v->string, e)) return fail_prefix(e, "%s: ", where);
    }
    return true;
}

// ---- Hugging Face folder ------------------------------------------------------------------------------------------

enum { MAX_SHARDS = 1000 };     // each tensor is looked for in each

void shards_close(Shards *s)
{
    for (size_t i = 0; i < s->n; i++) safetensors_close(&s->files[i]);
    free(s->files);
}

bool shards_add(Shards *s, const char *folder, const char *name, Err *e)
{
    ARRAY_ROOM(s->files, s->n, s->cap);
    bool ok = safetensors_open(&s->files[s->n], path_in(folder, name).text, e);
    if (ok) s->n++;
    return ok;
}

static const StTensor *shards_find(const Shards *s, const char *name, const SafeTensors **file)
{
    for (size_t i = 0; i < s->n; i++) {
        const StTensor *t = safetensors_find(&s->files[i], name);
        if (t) return *file = &s->files[i], t;
    }
    return NULL;
}

// The files that weight_map names, each once. A name must be a plain file name: nothing outside the folder is opened.
static bool shards_from_index(Shards *s, const char *folder, const char *index_path, Err *e)
{
    cJSON *index = json_load(index_path, e);
    const cJSON *map = json_get(index, "weight_map");
    bool ok = index && (cJSON_IsObject(map) ||
                        fail(e, "%s: weight_map: expected an object, found %s", index_path, json_kind(map)));
    cJSON *seen = cJSON_CreateObject();
    for (const cJSON *entry = ok ? map->child : NULL; ok && entry; entry = entry->next) {
        const char *file = cJSON_GetStringValue(entry);
        if (!file || !*file || strchr(file, '/'))
            ok = fail(e, "%s: weight_map: %s: expected a file name, found %s", index_path, entry->string,
                      file ? file : json_kind(entry));
        else if (json_get(seen, file)) continue;
        else if (s->n == MAX_SHARDS)
            ok = fail(e, "%s: weight_map: expected at most %d files, found more", index_path, MAX_SHARDS);
        else {
            cJSON_AddTrueToObject(seen, file);
            ok = shards_add(s, folder, file, e) || fail_prefix(e, "%s names a shard: ", index_path);
        }
    }
    cJSON_Delete(seen);
    cJSON_Delete(index);
    return ok;
}

static bool shards_open(Shards *s, const char *folder, Err *e)
{
    Path index = path_in(folder, "model.safetensors.index.json");
    if (file_exists(path_in(folder, "model.safetensors").text)) return shards_add(s, folder, "model.safetensors", e);
    if (file_exists(index.text)) return shards_from_index(s, folder, index.text, e);
    return fail(e, "%s: expected model.safetensors or model.safetensors.index.json, found neither. Weights in other "
                   "files (pytorch_model.bin, .pth) are not read: " CONVERT, folder);
}

// Does a folder that says "tied" hold a head that differs from the embedding? transformers 5 takes such a head, untied.
static bool has_other_head(const char *folder)
{
    Shards s = {0};
    Err why;
    const SafeTensors *f = NULL, *g = NULL;
    shards_open(&s, folder, &why);                         // where it fails, folder_read tells
    const StTensor *a = shards_find(&s, tensor_table[TOK_EMB].hf_name, &f);
    const StTensor *b = shards_find(&s, tensor_table[CLASSIFIER].hf_name, &g);
    size_t n = a ? a->end - a->begin : 0;
    bool other = a && b && (b->end - b->begin != n || memcmp(f->file.data + a->begin, g->file.data + b->begin, n) != 0);
    shards_close(&s);
    return other;
}

static bool folder_config(Config *c, const char *folder, Err *e)
{
    Path path = path_in(folder, "config.json");
    cJSON *json = json_load(path.text, e);
    bool ok = json && config_from_json(c, json, path.text, e);
    if (ok && c->tied && has_other_head(folder)) c->tied = false;
    cJSON_Delete(json);
    return ok;
}

// Interleaved row 2i + j of each head is Hugging Face's row i + j * D/2. Copies rows from one order to the other; those
// of a vector are its elements.
static void rope_reorder(float *to, const float *from, size_t rows, size_t columns, size_t head_dim, bool to_halves)
{
    for (size_t r = 0; r < rows; r++) {
        size_t head = r / head_dim * head_dim, i = r % head_dim / 2, j = r % 2, half = head + i + j * head_dim / 2;
        memcpy(to + (to_halves ? half : r) * columns, from + (to_halves ? r : half) * columns, columns * sizeof *to);
    }
}

char *entries_add(Entries *p, size_t rows, size_t columns, size_t at, size_t head_dim)
{
    ARRAY_ROOM(p->items, p->n, p->cap);
    Entry *part = &p->items[p->n++];
    *part = (Entry){.at = at, .head_dim = head_dim};
    if (rows) part->tensor = (StTensor){.n_dims = 2, .shape = {rows, columns}, .count = rows * columns};
    else part->tensor = (StTensor){.n_dims = 1, .shape = {columns}, .count = columns};
    return part->name;
}

// A name that a model's files may have besides: a tied model may carry its classifier all the same, and old files carry
// RoPE frequencies.
static bool is_ignored(const char *name)
{
    static const char frequencies[] = "rotary_emb.inv_freq";
    size_t length = strlen(name), end = strlen(frequencies);
    return strcmp(name, tensor_table[CLASSIFIER].hf_name) == 0 ||
           strcmp(name, ROPE_FACTORS) == 0 ||              // of a GGUF, where it has been compared with the Config
           (length >= end && strcmp(name + length - end, frequencies) == 0);
}

// The first eight names of a list, and how many more there are.
typedef struct { Buf text; size_t n; } NameList;

static void list_name(NameList *list, const char *name)
{
    if (list->n++ < 8) buf_addf(&list->text, "%s%s", list->n > 1 ? ", " : "", name);
}

static const char *list_end(NameList *list)
{
    if (list->n > 8) buf_addf(&list->text, " and %zu more", list->n - 8);
    return list->n ? list->text.data : "none";
}

bool entries_check(const Shards *s, const Entries *p, const char *where, Err *e)
{
    NameList missing = {0}, extra = {0};
    const SafeTensors *file = NULL;
    bool ok = true;
    for (const Entry *want = p->items; want < p->items + p->n && ok; want++) {
        char expected[96], found[96];
        const StTensor *t = shards_find(s, want->name, &file);
        if (!t) list_name(&missing, want->name);
        else if (strcmp(shape_text(&want->tensor, expected), shape_text(t, found)) != 0)
            ok = fail(e, "%s: %s: expected shape %s, found %s", file->file.path, want->name, expected, found);
    }
    for (size_t i = 0; i < s->n && ok; i++)
        for (size_t j = 0, k; j < s->files[i].n; j++) {
            const char *name = s->files[i].tensors[j].name;
            for (k = 0; k < p->n && strcmp(p->items[k].name, name) != 0;) k++;
            if (k == p->n && !(p->of_model && is_ignored(name))) list_name(&extra, name);
        }
    if (ok && (missing.n || extra.n))
        ok = fail(e, "%s: tensors missing: %s; unexpected: %s", where, list_end(&missing), list_end(&extra));
    buf_free(&missing.text);
    buf_free(&extra.text);
    return ok;
}

void entries_read(const Shards *s, const Entries *p, float *arena)
{
    for (const Entry *part = p->items; part < p->items + p->n; part++) {
        const SafeTensors *file = NULL;
        const StTensor *t = shards_find(s, part->name, &file);
        if (!t) continue;                                  // never: entries_check has found it
        float *halves = part->head_dim ? mem_alloc(t->count, sizeof *halves) : NULL;
        safetensors_read(file, t, 0, t->count, halves ? halves : arena + part->at);
        if (halves) rope_reorder(arena + part->at, halves, t->shape[0], t->count / t->shape[0], part->head_dim, false);
        free(halves);
        safetensors_forget(file, t);
    }
}

const float *entry_values(const Entry *part, const float *arena, float **own)
{
    size_t count = part->tensor.count, rows = part->tensor.shape[0];
    if (!part->head_dim) return arena + part->at;
    *own = mem_alloc(count, sizeof **own);
    rope_reorder(*own, arena + part->at, rows, count / rows, part->head_dim, true);
    return *own;
}

bool entries_save(const Entries *p, const float *arena, const char *folder, const char *name, const char *more, Err *e)
{
    StTensor *tensors = mem_alloc(p->n, sizeof *tensors);
    FileWriter w;
    for (size_t i = 0; i < p->n; i++) tensors[i] = p->items[i].tensor, tensors[i].name = p->items[i].name;
    bool ok = safetensors_create(&w, path_in(folder, name).text, more, tensors, p->n, e);
    for (const Entry *part = p->items; ok && part < p->items + p->n; part++) {
        float *own = NULL;
        ok = file_write(&w, entry_values(part, arena, &own), 4 * part->tensor.count, e);
        free(own);
    }
    free(tensors);
    return ok && file_commit(&w, e);
}

Entries model_entries(const Config *c)
{
    Entries all = {.of_model = true};
    for (TensorId id = 0; id < N_TENSORS; id++)
        for (size_t l = 0; l < tensor_count(c, id); l++) {
            const TensorInfo *t = &tensor_table[id];
            size_t rows = t->rows == SIZE_ONE ? 0 : config_size(c, t->rows), columns = config_size(c, t->columns);
            size_t head_dim = t->heads_of_pairs ? (size_t)c->head_dim : 0;
            tensor_hf_name(id, l, entries_add(&all, rows, columns, tensor_offset(c, id, l), head_dim));
        }
    return all;
}

bool entries_load(Model *m, const Config *c, const Shards *s, Entries p, const char *where, Err *e)
{
    bool ok = entries_check(s, &p, where, e) && model_init(m, c, e);
    if (ok) entries_read(s, &p, m->params);
    free(p.items);
    return ok;
}

static bool folder_read(Config *c, Model *m, const char *folder, Err *e)
{
    Shards s = {0};
    bool ok = folder_config(c, folder, e);
    if (!ok || !m) return ok;
    ok = shards_open(&s, folder, e) && entries_load(m, c, &s, model_entries(c), folder, e);
    shards_close(&s);
    return ok;
}

// ---- saving a folder ----------------------------------------------------------------------------------------------

// The shortest decimal that reads back as the same float: 1e-05, not 9.9999997473787516e-06.
static double shortest(float f)
{
    char text[32];
    for (int digits = 1; digits < 10; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)f);
        if (strtof(text, NULL) == f) break;
    }
    return strtod(text, NULL);
}

// Takes the value over.
static void add_missing(cJSON *json, const char *key, cJSON *value)
{
    if (json_get(json, key)) cJSON_Delete(value);
    else cJSON_AddItemToObject(json, key, value);
}

static void add_rope_scaling(cJSON *json, const Config *c)
{
    if (c->rope_scaling.factor == 0 || json_get(json, "rope_scaling") || json_get(json, "rope_parameters")) return;
    cJSON *scaling = cJSON_AddObjectToObject(json, "rope_scaling");
    cJSON_AddStringToObject(scaling, "rope_type", "llama3");
    cJSON_AddNumberToObject(scaling, "factor", shortest(c->rope_scaling.factor));
    cJSON_AddNumberToObject(scaling, "low_freq_factor", shortest(c->rope_scaling.low_freq_factor));
    cJSON_AddNumberToObject(scaling, "high_freq_factor", shortest(c->rope_scaling.high_freq_factor));
    cJSON_AddNumberToObject(scaling, "original_max_position_embeddings", shortest(c->rope_scaling.original_seq_len));
}

// What an absent key would leave to the family's defaults.
static void add_of_family(cJSON *json, const Config *c)
{
    const Family *f = &families[c->family];
    add_missing(json, "architectures", cJSON_CreateStringArray(&f->architecture, 1));
    add_missing(json, "model_type", cJSON_CreateString(f->model_type));
    if (c->o_bias) add_missing(json, "attention_bias", cJSON_CreateTrue());
    if (c->windowed) {
        add_missing(json, "sliding_window", cJSON_CreateNumber(c->seq_len));
        if (c->family != MISTRAL) add_missing(json, "use_sliding_window", cJSON_CreateTrue());
        if (c->family == QWEN2 || c->family == QWEN3) add_missing(json, "max_window_layers", cJSON_CreateNumber(0));
    } else if (c->family == MISTRAL) add_missing(json, "sliding_window", cJSON_CreateNull());
    if (c->family != SMOLLM3) return;
    add_missing(json, "pad_token_id", cJSON_CreateNull());             // else one that a small vocabulary does not have
    if (json_get(json, "no_rope_layer_interval")) return;
    cJSON *list = cJSON_CreateArray();
    for (int l = 0; l < c->n_layers; l++) cJSON_AddItemToArray(list, cJSON_CreateNumber(!c->no_rope[l]));
    add_missing(json, "no_rope_layers", list);
}

// What tells the weights' shapes is written anew; any other key that is there already stays as it is.
static void config_to_json(const Config *c, cJSON *json)
{
    const char *dtype = json_get(json, "dtype") ? "dtype" : "torch_dtype";
    add_of_family(json, c);
    add_missing(json, "hidden_act", cJSON_CreateString("silu"));
    add_missing(json, "max_position_embeddings", cJSON_CreateNumber(c->windowed ? c->max_positions : c->seq_len));
    add_missing(json, "rms_norm_eps", cJSON_CreateNumber(shortest(c->norm_eps)));
    if (!json_get(json, "rope_parameters"))
        add_missing(json, "rope_theta", cJSON_CreateNumber(shortest(c->rope_theta)));
    add_rope_scaling(json, c);
    json_set(json, "hidden_size", cJSON_CreateNumber(c->dim));
    json_set(json, "intermediate_size", cJSON_CreateNumber(c->hidden_dim));
    json_set(json, "num_hidden_layers", cJSON_CreateNumber(c->n_layers));
    json_set(json, "num_attention_heads", cJSON_CreateNumber(c->n_heads));
    json_set(json, "num_key_value_heads", cJSON_CreateNumber(c->n_kv_heads));
    json_set(json, "head_dim", cJSON_CreateNumber(c->head_dim));
    json_set(json, "vocab_size", cJSON_CreateNumber(c->vocab_size));
    json_set(json, dtype, cJSON_CreateString("float32"));
    json_set(json, "tie_word_embeddings", cJSON_CreateBool(c->tied));
}

static bool folder_save(const Model *m, const char *path, const cJSON *other_keys, Err *e)
{
    Entries p = model_entries(&m->config);
    cJSON *json = other_keys ? cJSON_Duplicate(other_keys, true) : cJSON_CreateObject();
    config_to_json(&m->config, json);
    bool ok = json_save(json, path_in(path, "config.json").text, e) &&
              entries_save(&p, m->params, path, "model.safetensors", "", e);
    free(p.items);
    cJSON_Delete(json);
    return ok;
}

static bool gguf_save_plain(const Model *m, const char *path, const cJSON *other_keys, Err *e)
{
    (void)other_keys;                                      // they are a config.json's
    return gguf_save(m, path, NULL, DTYPE_F32, e);
}

// ---- the table ----------------------------------------------------------------------------------------------------

const Format formats[N_FORMATS] = {
    [FORMAT_FOLDER] = {.is_folder = true, .ending = "", .model_file = "config.json", .tokenizer_file = "tokenizer.json",
                       .read = folder_read, .save = folder_save},
    [FORMAT_BIN] = {.ending = ".bin", .model_file = "model.bin", .tokenizer_file = "tokenizer.bin",
                    .read = bin_read, .fits = bin_fits, .save = bin_save},
    [FORMAT_GGUF] = {.ending = ".gguf", .model_file = "model.gguf", .tokenizer_file = "model.gguf",
                     .read = gguf_read, .save = gguf_save_plain},
};

const Format *format_of(const char *path)
{
    return &formats[file_is_dir(path) ? FORMAT_FOLDER : gguf_is(path) ? FORMAT_GGUF : FORMAT_BIN];
}

const Format *format_for(const char *path)
{
    size_t n = strlen(path);
    for (size_t i = N_FORMATS; i-- > 1;) {
        size_t end = strlen(formats[i].ending);
        if (n >= end && strcmp(path + n - end, formats[i].ending) == 0) return &formats[i];
    }
    return &formats[FORMAT_FOLDER];
}

Path format_path(const Format *f, const char *dir)
{
    Path path;
    snprintf(path.text, sizeof path.text, "%s", dir);
    return f->is_folder ? path : path_in(dir, f->model_file);
}

bool checkpoint_config(Config *c, const char *path, Err *e) { return format_of(path)->read(c, NULL, path, e); }

bool checkpoint_load(Model *m, const char *path, Err *e)
{
    *m = (Model){0};
    return format_of(path)->read(&(Config){0}, m, path, e);
}
