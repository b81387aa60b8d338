// checkpoint_gguf: the tensor table and the Config under the names of a GGUF file, as llama.cpp's loader reads them.
#include "checkpoint.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// Modules: Hugging Face's names, and what GGUF makes of them.
static const char *const modules[][2] = {
    {"model.embed_tokens", "token_embd"}, {"model.norm", "output_norm"}, {"lm_head", "output"},
    {"input_layernorm", "attn_norm"}, {"self_attn.q_proj", "attn_q"}, {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"}, {"self_attn.o_proj", "attn_output"}, {"self_attn.q_norm", "attn_q_norm"},
    {"self_attn.k_norm", "attn_k_norm"}, {"post_attention_layernorm", "ffn_norm"}, {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"}, {"mlp.down_proj", "ffn_down"},
};

// The keys of a Config, behind the architecture's name.
typedef struct { const char *name; size_t field; } Key;
static const Key whole[] = {
    {"embedding_length", offsetof(Config, dim)},          {"feed_forward_length", offsetof(Config, hidden_dim)},
    {"block_count", offsetof(Config, n_layers)},          {"context_length", offsetof(Config, seq_len)},
    {"attention.head_count", offsetof(Config, n_heads)},  {"attention.head_count_kv", offsetof(Config, n_kv_heads)},
    {"attention.key_length", offsetof(Config, head_dim)}, {"attention.value_length", offsetof(Config, head_dim)},
    {"rope.dimension_count", offsetof(Config, head_dim)}, {"vocab_size", offsetof(Config, vocab_size)}};
static const Key real[] = {
    {"attention.layer_norm_rms_epsilon", offsetof(Config, norm_eps)}, {"rope.freq_base", offsetof(Config, rope_theta)},
    // Llama 3's rope_scaling, for us: llama.cpp reads the tensor rope_freqs alone.
    {"rope.scaling.llama3_factor", offsetof(Config, rope_scaling.factor)},
    {"rope.scaling.low_freq_factor", offsetof(Config, rope_scaling.low_freq_factor)},
    {"rope.scaling.high_freq_factor", offsetof(Config, rope_scaling.high_freq_factor)},
    {"rope.scaling.original_seq_len", offsetof(Config, rope_scaling.original_seq_len)}};
enum { N_WHOLE = sizeof whole / sizeof *whole, N_REAL = sizeof real / sizeof *real, N_UNSCALED = 2 };
enum { N_NEEDED = 5, KV_HEADS = 5, KEY_LENGTH = 6, VALUE_LENGTH = 7, ROTATED = 8 };    // in `whole`

static const char *architecture(FamilyId family) { return families[family == MISTRAL ? LLAMA : family].model_type; }

// ---- tensors ------------------------------------------------------------------------------------------------------

// model.layers.3.mlp.up_proj.weight becomes blk.3.ffn_up.weight. llama.cpp has the rows of a Qwen's q and k in Hugging
// Face's order of halves, and those of others as they are here.
static Entries gguf_entries(const Config *c)
{
    static const char layers[] = "model.layers.";
    Entries p = model_entries(c);
    for (Entry *part = p.items; part < p.items + p.n; part++) {
        char *module = part->name, layer[16] = "", old[128];
        if (strncmp(module, layers, strlen(layers)) == 0)
            snprintf(layer, sizeof layer, "blk.%ld.", strtol(module + strlen(layers), &module, 10)), module++;
        snprintf(old, sizeof old, "%s", module);
        size_t n = (size_t)(strrchr(old, '.') - old);
        for (size_t i = 0; i < sizeof modules / sizeof *modules; i++)
            if (strncmp(old, modules[i][0], n) == 0 && !modules[i][0][n])
                snprintf(part->name, sizeof part->name, "%s%s%s", layer, modules[i][1], old + n);
        if (c->family != QWEN2 && c->family != QWEN3) part->head_dim = 0;
    }
    return p;
}

// What llama.cpp divides each of the D/2 frequencies by; the caller frees it.
static float *scaling_factors(const Config *c)
{
    Config plain = *c;
    plain.rope_scaling.factor = 0;
    float *factors = mem_alloc((size_t)c->head_dim / 2, sizeof *factors);
    for (int i = 0; i < c->head_dim / 2; i++) factors[i] = rope_frequency(&plain, i) / rope_frequency(c, i);
    return factors;
}

// ---- reading ------------------------------------------------------------------------------------------------------

// `own`: the keys of the architecture `of`, without its name. Those that are read are removed; others must be off.
static bool read_keys(Config *c, cJSON *own, const char *of, bool scaled, Err *e)
{
    int value = 0, window = 0;
    for (int i = 0; i < N_WHOLE; i++) {
        int *field = (int *)((char *)c + whole[i].field);
        int absent = i < N_NEEDED      ? JSON_REQUIRED
                     : i == KV_HEADS   ? c->n_heads
                     : i == KEY_LENGTH ? c->dim / c->n_heads : *field;
        if (!json_get_int(&value, own, of, whole[i].name, 1, INT32_MAX, absent, e)) return false;
        if ((i == VALUE_LENGTH || i == ROTATED) && value != *field)
            return fail(e, "%s.%s: expected the size of a head, %d, found %d", of, whole[i].name, *field, value);
        *field = value;
        cJSON_DeleteItemFromObjectCaseSensitive(own, whole[i].name);
    }
    for (int i = 0; i < (scaled ? N_REAL : N_UNSCALED); i++) {
        float *field = (float *)((char *)c + real[i].field);
        double number = 0;
        if (!json_get_number(&number, own, of, real[i].name, i ? (double)*field : NAN, e)) return false;
        *field = (float)number;
        cJSON_DeleteItemFromObjectCaseSensitive(own, real[i].name);
    }
    if (!json_get_int(&window, own, of, "attention.sliding_window", 0, INT32_MAX, 0, e)) return false;
    cJSON_DeleteItemFromObjectCaseSensitive(own, "attention.sliding_window");
    config_set_window(c, window);
    if (c->windowed && c->family == LLAMA) c->family = MISTRAL;        // a Llama with a window
    for (const cJSON *v = own->child; v; v = v->next) {
        const char *text = cJSON_GetStringValue(v);
        bool off = cJSON_IsNumber(v) ? v->valuedouble == 0 : text ? strcmp(text, "none") == 0 : cJSON_IsFalse(v);
        if (strcmp(v->string, "attention.causal") == 0) off = cJSON_IsTrue(v);
        if (!off) return fail(e, "%s.%s: %s is not supported", of, v->string, text ? text : json_kind(v));
    }
    return checkpoint_check(c, e);
}

// Are these the factors that follow from the Config? If the file has no keys for it, it is that of Meta's models.
static bool check_factors(const Config *c, const StTensor *t, const float *factors, Err *e)
{
    float *ours = scaling_factors(c);
    bool same = t->count == (size_t)c->head_dim / 2;
    for (size_t i = 0; same && i < t->count; i++) same = fabsf(ours[i] - factors[i]) <= 1e-5f * factors[i];
    free(ours);
    return same || fail(e, "%s: expected the %d numbers of a llama3 rope_scaling with factor %g, low_freq_factor %g, "
                        "high_freq_factor %g, original_max_position_embeddings %g, found others", t->name,
                        c->head_dim / 2, (double)c->rope_scaling.factor, (double)c->rope_scaling.low_freq_factor,
                        (double)c->rope_scaling.high_freq_factor, (double)c->rope_scaling.original_seq_len);
}

static bool read_config(Config *c, const SafeTensors *g, Err *e)
{
    const char *of;
    *c = (Config){.rope_theta = 10000, .tied = !safetensors_find(g, "output.weight")};
    if (!json_get_string(&of, g->header, NULL, "general.architecture", e)) return false;
    while (c->family < N_FAMILIES && strcmp(of, architecture(c->family)) != 0) c->family++;
    if (c->family == N_FAMILIES)
        return fail(e, "general.architecture: expected llama, qwen2, qwen3 or smollm3, found %.64s", of);
    const StTensor *embedding = safetensors_find(g, "token_embd.weight"), *t = safetensors_find(g, ROPE_FACTORS);
    c->vocab_size = embedding && embedding->shape[0] < INT32_MAX ? (int)embedding->shape[0] : 1;
    c->qk_norm = c->family == QWEN3;
    c->o_bias = safetensors_find(g, "blk.0.attn_output.bias");
    c->qkv_bias = c->o_bias || c->family == QWEN2;
    for (int l = 3; c->family == SMOLLM3 && l < MAX_LAYERS; l += 4) c->no_rope[l] = true;
    float *factors = t ? mem_alloc(t->count, sizeof *factors) : NULL;
    if (t) {
        safetensors_read(g, t, 0, t->count, factors);
        c->rope_scaling.low_freq_factor = 1;
        c->rope_scaling.high_freq_factor = 4;
        c->rope_scaling.original_seq_len = 8192;
        for (size_t i = 0; i < t->count; i++) c->rope_scaling.factor = fmaxf(c->rope_scaling.factor, factors[i]);
    }
    cJSON *own = cJSON_CreateObject();
    size_t n = strlen(of);
    for (const cJSON *v = g->header->child; v; v = v->next)
        if (strncmp(v->string, of, n) == 0 && v->string[n] == '.')
            cJSON_AddItemToObject(own, v->string + n + 1, cJSON_Duplicate(v, true));
    bool ok = read_keys(c, own, of, t, e) && (!t || check_factors(c, t, factors, e));
    cJSON_Delete(own);
    free(factors);
    return ok;
}

bool gguf_read(Config *c, Model *m, const char *path, Err *e)
{
    SafeTensors g;
    if (!gguf_open(&g, path, e)) return false;
    bool ok = read_config(c, &g, e) || fail_prefix(e, "%s: ", path);
    if (ok && m) ok = entries_load(m, c, &(Shards){.files = &g, .n = 1}, gguf_entries(c), path, e);
    safetensors_close(&g);
    return ok;
}

// ---- writing ------------------------------------------------------------------------------------------------------

// Has llama.cpp a place for all of it?
static bool check_fits(const Config *c, Err *e)
{
    if (c->o_bias && c->family != LLAMA && c->family != MISTRAL)
        return fail(e, "a .gguf of %s has no place for attention_bias", architecture(c->family));
    for (int l = 0; c->family == SMOLLM3 && l < c->n_layers; l++)
        if (c->no_rope[l] != (l % 4 == 3))
            return fail(e, "a .gguf has no place for no_rope_layers: expected 0 for every fourth layer, found %d for "
                        "layer %d", !c->no_rope[l], l);
    return true;
}

static void add_keys(GgufKeys *k, const Config *c, Dtype type)
{
    const char *of = architecture(c->family);
    char key[96];
    Config whole_c = *c;
    if (c->windowed) whole_c.seq_len = c->max_positions;
    gguf_add_text(k, "general.architecture", of);
    gguf_add(k, "general.file_type", GGUF_U32, type == DTYPE_F32 ? 0 : type == DTYPE_F16 ? 1 : 7);
    gguf_add(k, "general.quantization_version", GGUF_U32, 2);
    for (int i = 0; i < N_WHOLE + (c->rope_scaling.factor != 0 ? N_REAL : N_UNSCALED); i++) {
        const Key *of_c = i < N_WHOLE ? &whole[i] : &real[i - N_WHOLE];
        const void *field = (const char *)&whole_c + of_c->field;
        snprintf(key, sizeof key, "%s.%s", of, of_c->name);
        if (i < N_WHOLE) gguf_add(k, key, GGUF_U32, *(const int *)field);
        else gguf_add(k, key, GGUF_F32, (double)*(const float *)field);
    }
    snprintf(key, sizeof key, "%s.attention.sliding_window", of);
    if (c->windowed) gguf_add(k, key, GGUF_U32, c->seq_len);
}

bool gguf_save(const Model *m, const char *path, const GgufKeys *more, Dtype type, Err *e)
{
    const Config *c = &m->config;
    if (!check_fits(c, e)) return fail_prefix(e, "%s: ", path);
    FileWriter w;
    GgufKeys k = {0};
    Entries p = gguf_entries(c);
    float *factors = c->rope_scaling.factor != 0 ? scaling_factors(c) : NULL;
    if (factors) strcpy(entries_add(&p, 0, (size_t)c->head_dim / 2, 0, 0), ROPE_FACTORS);
    StTensor *tensors = mem_alloc(p.n, sizeof *tensors);
    for (size_t i = 0; i < p.n; i++) {
        StTensor *t = &tensors[i];
        *t = p.items[i].tensor;
        t->name = p.items[i].name;
        if (t->n_dims == 2) t->dtype = type == DTYPE_Q8_0 && t->shape[1] % Q8_BLOCK ? DTYPE_F16 : type;
    }
    add_keys(&k, c, type);
    if (more) buf_add(&k.bytes, more->bytes.data, more->bytes.len), k.n += more->n;
    bool ok = gguf_create(&w, path, &k, tensors, p.n, e);
    for (size_t i = 0; ok && i < p.n; i++) {
        float *own = NULL;
        const float *data = factors && i == p.n - 1 ? factors : entry_values(&p.items[i], m->params, &own);
        ok = gguf_write(&w, &tensors[i], data, e);
        free(own);
    }
    free(factors);
    free(tensors);
    free(p.items);
    buf_free(&k.bytes);
    return ok && file_commit(&w, e);
}
