// checkpoint_gguf: the tensor table and the Config under the names of a GGUF file, as llama.cpp's loader reads them.
#include "checkpoint.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// The architecture of each family; of two families with the same, a file is of the first. halves: rows of q and k are in
// Hugging Face's order. Else they are pairs, as here.
static const struct { const char *name; bool halves; } architectures[N_FAMILIES] = {
    [LLAMA] = {"llama", false}, [MISTRAL] = {"llama", false}, [QWEN2] = {"qwen2", true}, [QWEN3] = {"qwen3", true},
    [SMOLLM3] = {"smollm3", false}};

// Modules: Hugging Face's names, and what GGUF makes of them.
static const char *const modules[][2] = {
    {"model.embed_tokens", "token_embd"}, {"model.norm", "output_norm"}, {"lm_head", "output"},
    {"input_layernorm", "attn_norm"}, {"self_attn.q_proj", "attn_q"}, {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"}, {"self_attn.o_proj", "attn_output"}, {"self_attn.q_norm", "attn_q_norm"},
    {"self_attn.k_norm", "attn_k_norm"}, {"post_attention_layernorm", "ffn_norm"}, {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"}, {"mlp.down_proj", "ffn_down"},
};
static const char rope_factors[] = "rope_freqs.weight";    // of Llama 3: what each frequency is divided by

// ---- tensors ------------------------------------------------------------------------------------------------------

// model.layers.3.mlp.up_proj.weight becomes blk.3.ffn_up.weight.
static void rename_entry(char name[128])
{
    static const char layers[] = "model.layers.";
    char *module = name, *end, layer[16] = "", old[128];
    if (strncmp(name, layers, strlen(layers)) == 0)
        snprintf(layer, sizeof layer, "blk.%ld.", strtol(name + strlen(layers), &module, 10)), module++;
    snprintf(old, sizeof old, "%s", module);
    end = strrchr(old, '.');
    for (size_t i = 0; i < sizeof modules / sizeof *modules; i++)
        if (strncmp(old, modules[i][0], (size_t)(end - old)) == 0 && !modules[i][0][end - old])
            snprintf(name, 128, "%s%s%s", layer, modules[i][1], end);
}

static Entries gguf_entries(const Config *c)
{
    Entries p = model_entries(c);
    for (Entry *part = p.items; part < p.items + p.n; part++) {
        rename_entry(part->name);
        if (!architectures[c->family].halves) part->head_dim = 0;
    }
    return p;
}

// The D/2 divisors of rope_factors; the caller frees them.
static float *scaling_factors(const Config *c)
{
    Config plain = *c;
    plain.rope_scaling.factor = 0;
    float *factors = mem_alloc((size_t)c->head_dim / 2, sizeof *factors);
    for (int i = 0; i < c->head_dim / 2; i++) factors[i] = rope_frequency(&plain, i) / rope_frequency(c, i);
    return factors;
}

// ---- keys ---------------------------------------------------------------------------------------------------------

typedef struct { char text[96]; } Key;
static Key key_of(const char *architecture, const char *name)
{
    Key key;
    snprintf(key.text, sizeof key.text, "%s.%s", architecture, name);
    return key;
}

// `keys` is an object of keys; `absent` may be JSON_REQUIRED, or NAN for a number.
static bool get_size(int *out, const cJSON *keys, const char *of, const char *name, int absent, Err *e)
{
    return json_get_int(out, keys, NULL, key_of(of, name).text, 1, INT32_MAX, absent, e);
}

static bool get_float(float *out, const cJSON *keys, const char *of, const char *name, double absent, Err *e)
{
    double value;
    bool ok = json_get_number(&value, keys, NULL, key_of(of, name).text, absent, e);
    *out = (float)value;
    return ok;
}

// A key of the architecture that is not read here must be off.
static bool check_keys(const cJSON *keys, const char *of, Err *e)
{
    static const char *const read[] = {
        "context_length", "embedding_length", "block_count", "feed_forward_length", "vocab_size",
        "attention.head_count", "attention.head_count_kv", "attention.layer_norm_rms_epsilon", "attention.key_length",
        "attention.value_length", "attention.sliding_window", "rope.freq_base", "rope.dimension_count",
        "rope.scaling.type", "rope.scaling.original_context_length", "rope.scaling.low_freq_factor",
        "rope.scaling.high_freq_factor", "rope.scaling.llama3_factor"};
    const char *scaling = json_string(keys, key_of(of, "rope.scaling.type").text);
    if (scaling && strcmp(scaling, "none") != 0)
        return fail(e, "%s.rope.scaling.type: expected none, found %s", of, scaling);
    for (const cJSON *v = keys->child; v; v = v->next) {
        size_t n = strlen(of);
        if (strncmp(v->string, of, n) != 0 || v->string[n] != '.') continue;
        bool known = cJSON_IsFalse(v) || (cJSON_IsNumber(v) && v->valuedouble == 0);
        for (size_t i = 0; i < sizeof read / sizeof *read; i++) known |= strcmp(v->string + n + 1, read[i]) == 0;
        if (!known) return fail(e, "%s is not supported", v->string);
    }
    return true;
}

// Llama 3's rope_scaling. llama.cpp takes the tensor alone, and has no keys for what made it: those that are written here
// are for this program, and else the numbers of Meta's models are tried.
static bool read_scaling(Config *c, const SafeTensors *g, const char *of, Err *e)
{
    const StTensor *t = safetensors_find(g, rope_factors);
    size_t n = (size_t)c->head_dim / 2;
    if (!t) return true;
    if (t->count != n) return fail(e, "%s: expected %zu numbers, found %zu", rope_factors, n, t->count);
    float *factors = mem_alloc(n, sizeof *factors), most = 0;
    safetensors_read(g, t, 0, n, factors);
    for (size_t i = 0; i < n; i++) most = fmaxf(most, factors[i]);
    bool ok = get_float(&c->rope_scaling.factor, g->header, of, "rope.scaling.llama3_factor", (double)most, e) &&
              get_float(&c->rope_scaling.low_freq_factor, g->header, of, "rope.scaling.low_freq_factor", 1, e) &&
              get_float(&c->rope_scaling.high_freq_factor, g->header, of, "rope.scaling.high_freq_factor", 4, e) &&
              get_float(&c->rope_scaling.original_seq_len, g->header, of, "rope.scaling.original_context_length", 8192,
                        e);
    float *ours = ok ? scaling_factors(c) : NULL;
    for (size_t i = 0; ok && i < n; i++)
        if (!(fabsf(ours[i] - factors[i]) <= 1e-5f * factors[i]))
            ok = fail(e, "%s: expected the factors of Llama 3's rope_scaling (factor %g, low_freq_factor %g, "
                      "high_freq_factor %g, original_max_position_embeddings %g), found %g for %g as number %zu",
                      rope_factors, (double)c->rope_scaling.factor, (double)c->rope_scaling.low_freq_factor,
                      (double)c->rope_scaling.high_freq_factor, (double)c->rope_scaling.original_seq_len,
                      (double)factors[i], (double)ours[i], i);
    free(factors);
    free(ours);
    return ok;
}

static bool read_config(Config *c, const SafeTensors *g, Err *e)
{
    const cJSON *k = g->header;
    const char *of;
    int window = 0, rotated, values;
    *c = (Config){0};
    if (!json_get_string(&of, k, NULL, "general.architecture", e)) return false;
    while (c->family < N_FAMILIES && strcmp(of, architectures[c->family].name) != 0) c->family++;
    if (c->family == N_FAMILIES)
        return fail(e, "general.architecture: expected llama, qwen2, qwen3 or smollm3, found %.64s", of);
    c->qk_norm = c->family == QWEN3;
    c->o_bias = safetensors_find(g, "blk.0.attn_output.bias");
    c->qkv_bias = c->o_bias || c->family == QWEN2;
    for (int l = 3; c->family == SMOLLM3 && l < MAX_LAYERS; l += 4) c->no_rope[l] = true;
    const StTensor *embedding = safetensors_find(g, "token_embd.weight");
    int n_ids = embedding && embedding->n_dims == 2 && embedding->shape[0] < INT32_MAX ? (int)embedding->shape[0] : 1;
    c->tied = !safetensors_find(g, "output.weight");
    if (!check_keys(k, of, e) || !get_size(&c->dim, k, of, "embedding_length", JSON_REQUIRED, e) ||
        !get_size(&c->hidden_dim, k, of, "feed_forward_length", JSON_REQUIRED, e) ||
        !get_size(&c->n_layers, k, of, "block_count", JSON_REQUIRED, e) ||
        !get_size(&c->n_heads, k, of, "attention.head_count", JSON_REQUIRED, e) ||
        !get_size(&c->n_kv_heads, k, of, "attention.head_count_kv", c->n_heads, e) ||
        !get_size(&c->vocab_size, k, of, "vocab_size", n_ids, e) ||
        !get_size(&c->seq_len, k, of, "context_length", JSON_REQUIRED, e) ||
        !get_size(&c->head_dim, k, of, "attention.key_length", c->dim / c->n_heads, e) ||
        !get_size(&values, k, of, "attention.value_length", c->head_dim, e) ||
        !get_size(&rotated, k, of, "rope.dimension_count", c->head_dim, e) ||
        !get_float(&c->norm_eps, k, of, "attention.layer_norm_rms_epsilon", NAN, e) ||
        !get_float(&c->rope_theta, k, of, "rope.freq_base", 10000, e) ||
        !json_get_int(&window, k, NULL, key_of(of, "attention.sliding_window").text, 0, INT32_MAX, 0, e)) return false;
    if (values != c->head_dim || rotated != c->head_dim)
        return fail(e, "%s.rope.dimension_count and attention.value_length: expected the size of a head, %d, found %d "
                    "and %d", of, c->head_dim, rotated, values);
    c->windowed = window && window < c->seq_len;
    if (c->windowed) c->seq_len = window;
    return checkpoint_check(c, e) && read_scaling(c, g, of, e);
}

static void add_model_keys(GgufKeys *k, const Config *c, Dtype type)
{
    static const int file_types[N_DTYPES] = {[DTYPE_F32] = 0, [DTYPE_F16] = 1, [DTYPE_BF16] = 32, [DTYPE_Q8_0] = 7};
    const char *of = architectures[c->family].name;
    const struct { const char *name; int value; } whole[] = {
        {"context_length", c->seq_len}, {"embedding_length", c->dim}, {"block_count", c->n_layers},
        {"feed_forward_length", c->hidden_dim}, {"attention.head_count", c->n_heads},
        {"attention.head_count_kv", c->n_kv_heads}, {"attention.key_length", c->head_dim},
        {"attention.value_length", c->head_dim}, {"rope.dimension_count", c->head_dim}, {"vocab_size", c->vocab_size}};
    const struct { const char *name; float value; } floats[] = {
        {"attention.layer_norm_rms_epsilon", c->norm_eps}, {"rope.freq_base", c->rope_theta},
        {"rope.scaling.llama3_factor", c->rope_scaling.factor},
        {"rope.scaling.low_freq_factor", c->rope_scaling.low_freq_factor},
        {"rope.scaling.high_freq_factor", c->rope_scaling.high_freq_factor},
        {"rope.scaling.original_context_length", c->rope_scaling.original_seq_len}};
    gguf_add_text(k, "general.architecture", of);
    gguf_add(k, "general.file_type", GGUF_U32, file_types[type]);
    gguf_add(k, "general.quantization_version", GGUF_U32, 2);
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        gguf_add(k, key_of(of, whole[i].name).text, GGUF_U32, whole[i].value);
    for (size_t i = 0; i < (c->rope_scaling.factor != 0 ? 6 : 2); i++)
        gguf_add(k, key_of(of, floats[i].name).text, i == 5 ? GGUF_U32 : GGUF_F32, (double)floats[i].value);
}

// What llama.cpp has no key for.
static bool gguf_fits(const Config *c, Err *e)
{
    if (c->o_bias && c->family != LLAMA && c->family != MISTRAL)
        return fail(e, "a .gguf of %s has no place for attention_bias", architectures[c->family].name);
    for (int l = 0; c->family == SMOLLM3 && l < c->n_layers; l++)
        if (c->no_rope[l] != (l % 4 == 3))
            return fail(e, "a .gguf has no place for no_rope_layers: expected every fourth layer, found %d for layer %d",
                        !c->no_rope[l], l);
    return true;
}

// ---- files --------------------------------------------------------------------------------------------------------

bool gguf_config(Config *c, const char *path, Err *e)
{
    SafeTensors g;
    if (!gguf_open(&g, path, e)) return false;
    bool ok = read_config(c, &g, e) || fail_prefix(e, "%s: ", path);
    safetensors_close(&g);
    return ok;
}

bool gguf_load(Model *m, const char *path, Err *e)
{
    Config c;
    SafeTensors g;
    Entries p = {0};
    if (!gguf_open(&g, path, e)) return false;
    Shards s = {.files = &g, .n = 1};
    bool ok = read_config(&c, &g, e) || fail_prefix(e, "%s: ", path);
    if (ok) p = gguf_entries(&c);
    ok = ok && entries_check(&s, &p, path, e) && model_init(m, &c, e);
    if (ok) entries_read(&s, &p, m->params);
    free(p.items);
    safetensors_close(&g);
    return ok;
}

bool gguf_save(const Model *m, const char *path, const GgufKeys *more, Dtype type, Err *e)
{
    const Config *c = &m->config;
    GgufKeys k = {0};
    if (!gguf_fits(c, e)) return fail_prefix(e, "%s: ", path);
    Entries p = gguf_entries(c);
    float *factors = c->rope_scaling.factor != 0 ? scaling_factors(c) : NULL;
    if (factors) {
        strcpy(entries_add(&p, 1, 1, 0, 0), rope_factors);
        p.items[p.n - 1].tensor = (StTensor){.n_dims = 1, .shape = {(size_t)c->head_dim / 2}};
    }
    StTensor *tensors = mem_alloc(p.n, sizeof *tensors);
    for (size_t i = 0; i < p.n; i++) {
        StTensor *t = &tensors[i];
        *t = p.items[i].tensor;
        t->name = p.items[i].name;
        if (t->n_dims == 2) t->dtype = type == DTYPE_Q8_0 && t->shape[1] % Q8_BLOCK ? DTYPE_F16 : type;
    }
    FileWriter w;
    add_model_keys(&k, c, type);
    buf_add(&k.bytes, more ? more->bytes.data : "", more ? more->bytes.len : 0);
    k.n += more ? more->n : 0;
    bool ok = gguf_create(&w, path, &k, tensors, p.n, e);
    for (size_t i = 0; ok && i < p.n; i++) {
        float *own = NULL;
        bool is_factors = factors && i == p.n - 1;
        ok = gguf_write(&w, &tensors[i], is_factors ? factors : entry_values(&p.items[i], m->params, &own), e);
        free(own);
    }
    free(factors);
    free(tensors);
    free(p.items);
    buf_free(&k.bytes);
    return ok && file_commit(&w, e);
}
