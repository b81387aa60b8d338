// GGUF: files that gguf's own writer made are read to the bit, and ours have the same bytes; their tokenizers give
// the ids that llama.cpp gives; what is broken, or unknown here, is refused with its reason.
// tests/oracle/gguf_files.py makes the files of tests/fixtures/gguf.
#include "small_run.h"

#include "../model/checkpoint.h"
#include "../tokenizer/tokenizer.h"

#define FIXTURES "tests/fixtures/gguf/"
#define NO_IDS ((const int[3]){-1, -1, -1})

static void must(bool ok, const Err *e)
{
    if (ok) return;
    fprintf(stderr, "%s\n", e->text);
    temp_end();
    exit(1);
}

static File bytes_of(const char *path)
{
    File f;
    Err e;
    must(file_map_any(&f, path, &e), &e);
    return f;
}

static bool same_bytes(const char *a, const char *b)
{
    File x = bytes_of(a), y = bytes_of(b);
    size_t n = x.size < y.size ? x.size : y.size, at = 0;
    while (at < n && x.data[at] == y.data[at]) at++;
    bool same = at == n && x.size == y.size;
    if (!same) fprintf(stderr, "%s (%zu bytes) and %s (%zu) differ at byte %zu\n", a, x.size, b, y.size, at);
    file_unmap(&x);
    file_unmap(&y);
    return same;
}

// ---- reading ------------------------------------------------------------------------------------------------------

// The numbers of gguf_files.py.
static float number(TensorId id, size_t layer, size_t i)
{
    int t = (int)id + 100 * (int)layer;
    return (float)(i % 32 == 0 ? 127 : (int)(i * 37 + (size_t)t * 11) % 255 - 127) / 16;
}

static void files_of_ggufs_writer_are_read_to_the_bit(void)
{
    static const struct { const char *path; int dim, hidden, heads, kv, layers, vocab; bool tied; } files[] = {
        {FIXTURES "bpe_bf16.gguf", 32, 64, 4, 2, 1, 270, true},
        {FIXTURES "spm_f32.gguf", 8, 12, 2, 1, 2, 277, false}, {FIXTURES "spm_q8_0.gguf", 8, 12, 2, 1, 2, 277, false}};
    for (size_t f = 0; f < 3; f++) {
        Model m;
        Err e;
        must(checkpoint_load(&m, files[f].path, &e), &e);
        const Config *c = &m.config;
        CHECK(c->dim == files[f].dim && c->hidden_dim == files[f].hidden && c->n_layers == files[f].layers);
        CHECK(c->n_heads == files[f].heads && c->n_kv_heads == files[f].kv && c->vocab_size == files[f].vocab);
        CHECK(c->head_dim == c->dim / c->n_heads && c->seq_len == 64 && c->tied == files[f].tied);
        CHECK(c->rope_theta == 10000 && c->norm_eps == 1e-5f && c->rope_scaling.factor == 0 && c->family == LLAMA);
        for (TensorId id = 0; id < N_TENSORS; id++)
            for (size_t l = 0; l < tensor_count(c, id); l++)
                for (size_t i = 0; i < tensor_size(c, id); i++)
                    if (!CHECK_MSG(model_param(&m, id, l)[i] == number(id, l, i), "%s: %s[%zu][%zu]: %g", files[f].path,
                                   tensor_table[id].name, l, i, (double)model_param(&m, id, l)[i])) return;
        model_free(&m);
    }
}

// ---- writing ------------------------------------------------------------------------------------------------------

// Model and tokenizer of one file (the tokenizer by way of a folder) make the file of gguf's own writer.
static void check_bytes(const char *from, const char *to, Dtype type)
{
    Model m;
    Err e;
    GgufKeys k = {0};
    must(checkpoint_load(&m, from, &e), &e);
    Tokenizer *t = tokenizer_load(from, &e);
    must(t != NULL, &e);
    must(dir_make(temp_path("t"), &e) && tokenizer_export_folder(t, temp_path("t"), &e), &e);
    Tokenizer *again = tokenizer_load(temp_path("t"), &e);
    must(again != NULL, &e);
    gguf_add_text(&k, "general.name", "small");
    gguf_add_text(&k, "general.type", "model");
    must(tokenizer_export_gguf(again, &k, m.config.vocab_size, NULL, NO_IDS, &e), &e);
    must(gguf_save(&m, temp_path("out.gguf"), &k, type, &e), &e);
    CHECK(same_bytes(temp_path("out.gguf"), to));
    GgufKeys copied = {0};                                 // without the way by a folder
    gguf_add_text(&copied, "general.name", "small");
    gguf_add_text(&copied, "general.type", "model");
    must(tokenizer_export_gguf(t, &copied, m.config.vocab_size, NULL, NO_IDS, &e), &e);
    CHECK(copied.n == k.n && copied.bytes.len == k.bytes.len &&
          memcmp(copied.bytes.data, k.bytes.data, k.bytes.len) == 0);
    buf_free(&k.bytes);
    buf_free(&copied.bytes);
    tokenizer_free(t);
    tokenizer_free(again);
    model_free(&m);
}

static void our_files_have_the_bytes_of_ggufs_writer(void)
{
    check_bytes(FIXTURES "bpe_f32.gguf", FIXTURES "bpe_f32.gguf", DTYPE_F32);
    check_bytes(FIXTURES "bpe_f32.gguf", FIXTURES "bpe_f16.gguf", DTYPE_F16);
    check_bytes(FIXTURES "bpe_f32.gguf", FIXTURES "bpe_q8_0.gguf", DTYPE_Q8_0);
    check_bytes(FIXTURES "bpe_f16.gguf", FIXTURES "bpe_f16.gguf", DTYPE_F16);
    check_bytes(FIXTURES "spm_f32.gguf", FIXTURES "spm_f32.gguf", DTYPE_F32);
    check_bytes(FIXTURES "spm_f32.gguf", FIXTURES "spm_q8_0.gguf", DTYPE_Q8_0);
    check_bytes(FIXTURES "spm_q8_0.gguf", FIXTURES "spm_q8_0.gguf", DTYPE_Q8_0);
}

static void check_same_model(const char *path, const Model *m)
{
    Model back;
    Err e;
    must(checkpoint_load(&back, path, &e), &e);
    const Config *a = &back.config, *b = &m->config;
    CHECK(a->dim == b->dim && a->n_heads == b->n_heads && a->n_kv_heads == b->n_kv_heads && a->tied == b->tied);
    CHECK(a->head_dim == b->head_dim && a->seq_len == b->seq_len && a->vocab_size == b->vocab_size);
    CHECK(a->rope_theta == b->rope_theta && a->norm_eps == b->norm_eps && a->family == b->family);
    CHECK(a->qkv_bias == b->qkv_bias && a->o_bias == b->o_bias && a->qk_norm == b->qk_norm);
    CHECK(memcmp(&a->rope_scaling, &b->rope_scaling, sizeof a->rope_scaling) == 0);
    CHECK(memcmp(a->no_rope, b->no_rope, (size_t)b->n_layers * sizeof *b->no_rope) == 0);
    CHECK(back.n_params == m->n_params && memcmp(back.params, m->params, m->n_params * sizeof(float)) == 0);
    model_free(&back);
}

static void a_model_comes_back_to_the_bit(void)
{
    static const char *const folders[] = {"model/tiny", "tests/fixtures/families/qwen2",
                                           "tests/fixtures/families/qwen3", "tests/fixtures/families/smollm3"};
    Err e;
    Model m;
    for (size_t i = 0; i < 4; i++) {
        must(checkpoint_load(&m, folders[i], &e), &e);
        for (int l = 0; m.config.family == SMOLLM3 && l < m.config.n_layers; l++) m.config.no_rope[l] = l % 4 == 3;
        must(gguf_save(&m, temp_path("back.gguf"), NULL, DTYPE_F32, &e), &e);
        check_same_model(temp_path("back.gguf"), &m);
        model_free(&m);
    }
    Config c = {.dim = 12, .hidden_dim = 10, .n_layers = 2, .n_heads = 2, .n_kv_heads = 1, .head_dim = 8,
                .vocab_size = 11, .seq_len = 8, .rope_theta = 500, .norm_eps = 1e-6f, .qkv_bias = true, .o_bias = true,
                .rope_scaling = {.factor = 8, .low_freq_factor = 1.5f, .high_freq_factor = 4, .original_seq_len = 16}};
    must(model_init(&m, &c, &e), &e);
    model_randomize(&m, 1);
    must(gguf_save(&m, temp_path("back.gguf"), NULL, DTYPE_F32, &e), &e);
    check_same_model(temp_path("back.gguf"), &m);
    model_param(&m, WQ, 1)[3] = 70000;
    CHECK_FAILS(gguf_save(&m, temp_path("not.gguf"), NULL, DTYPE_F16, &e), e,
                "not.gguf: blk.1.attn_q.weight: the type F16 has no number 70000: --outtype=f32 has it");
    model_param(&m, WQ, 1)[3] = NAN;
    CHECK_FAILS(gguf_save(&m, temp_path("not.gguf"), NULL, DTYPE_Q8_0, &e), e, "has no number nan");
    CHECK(!file_exists(temp_path("not.gguf")));
    model_free(&m);
}

static void what_llama_cpp_has_no_key_for_is_refused(void)
{
    Config c = {.dim = 12, .hidden_dim = 10, .n_layers = 4, .n_heads = 2, .n_kv_heads = 1, .head_dim = 6,
                .vocab_size = 11, .seq_len = 8, .rope_theta = 500, .norm_eps = 1e-6f, .family = SMOLLM3};
    Err e;
    Model m;
    must(model_init(&m, &c, &e), &e);
    CHECK_FAILS(gguf_save(&m, temp_path("not.gguf"), NULL, DTYPE_F32, &e), e,
                "no_rope_layers: expected 0 for every fourth layer, found 1 for layer 3");
    m.config.family = QWEN3;
    m.config.o_bias = true;
    CHECK_FAILS(gguf_save(&m, temp_path("not.gguf"), NULL, DTYPE_F32, &e), e, "no place for attention_bias");
    model_free(&m);
}

// ---- tokenizers ---------------------------------------------------------------------------------------------------

static void check_ids(const Tokenizer *t, const cJSON *cases, const char *name)
{
    const cJSON *item;
    Encoding enc = {0};
    Err e;
    cJSON_ArrayForEach(item, cases) {
        const char *text = item->child->valuestring;
        const cJSON *want = item->child->next->child;
        must(tokenizer_encode(t, text, strlen(text), ADD_SPECIAL_TOKENS | PARSE_SPECIAL, &enc, &e), &e);
        bool same = true;
        for (size_t i = 0; i < enc.n; i++, want = want ? want->next : NULL)
            same &= want && want->valuedouble == enc.ids[i];
        CHECK_MSG(same && !want, "%s: \"%s\"", name, text);
    }
    encoding_free(&enc);
}

static void texts_get_the_ids_of_llama_cpp(void)
{
    static const char *const names[] = {"bpe", "spm"};
    Err e;
    cJSON *ids = json_load(FIXTURES "ids.json", &e);
    must(ids != NULL, &e);
    for (size_t i = 0; i < 2; i++) {
        Tokenizer *t = tokenizer_load(i ? FIXTURES "spm_f32.gguf" : FIXTURES "bpe_f32.gguf", &e);
        must(t != NULL, &e);
        CHECK(cJSON_GetArraySize(json_get(ids, names[i])) > 10);
        check_ids(t, json_get(ids, names[i]), names[i]);
        must(dir_make(temp_path("t"), &e) && tokenizer_export_folder(t, temp_path("t"), &e), &e);
        tokenizer_free(t);
        must((t = tokenizer_load(temp_path("t"), &e)) != NULL, &e);
        check_ids(t, json_get(ids, names[i]), "by way of a folder");
        tokenizer_free(t);
    }
    cJSON_Delete(ids);
    Tokenizer *t = tokenizer_load(FIXTURES "bpe_f32.gguf", &e);
    must(t != NULL, &e);
    CHECK(tokenizer_bos(t) == 266 && tokenizer_eos(t) == 267 && tokenizer_is_special(t, 267));
    CHECK(tokenizer_is_added(t, 268) && !tokenizer_is_special(t, 268) && tokenizer_vocab_size(t) == 269);
    CHECK(tokenizer_chat_template(t) && strstr(tokenizer_chat_template(t), "<|end|>"));
    tokenizer_free(t);
}

static void a_tokenizer_bin_goes_into_a_gguf(void)
{
    Err e;
    Encoding a = {0}, b = {0};
    GgufKeys k = {0};
    static const char text[] = " h\xC3\xA9 </s>";
    Tokenizer *t = tokenizer_load(temp_byte_tokenizer(), &e);
    must(t != NULL, &e);
    Config c = {.dim = 4, .hidden_dim = 4, .n_layers = 1, .n_heads = 1, .n_kv_heads = 1, .head_dim = 4,
                .vocab_size = BYTE_TOKENIZER_SIZE, .seq_len = 8, .rope_theta = 10000, .norm_eps = 1e-5f};
    Model m;
    must(model_init(&m, &c, &e), &e);
    model_randomize(&m, 1);
    CHECK_FAILS(tokenizer_export_gguf(t, &k, c.vocab_size - 1, NULL, NO_IDS, &e), e, "expected at most 259 ids");
    buf_free(&k.bytes);
    k = (GgufKeys){0};
    must(tokenizer_export_gguf(t, &k, c.vocab_size, "TEMPLATE", NO_IDS, &e), &e);
    must(gguf_save(&m, temp_path("bin.gguf"), &k, DTYPE_F16, &e), &e);
    Tokenizer *back = tokenizer_load(temp_path("bin.gguf"), &e);
    must(back != NULL, &e);
    must(tokenizer_encode(t, text, strlen(text), ADD_SPECIAL_TOKENS | PARSE_SPECIAL, &a, &e) &&
         tokenizer_encode(back, text, strlen(text), ADD_SPECIAL_TOKENS | PARSE_SPECIAL, &b, &e), &e);
    CHECK(a.n == b.n && memcmp(a.ids, b.ids, a.n * sizeof *a.ids) == 0);
    CHECK_STR(tokenizer_chat_template(back), "TEMPLATE");
    buf_free(&k.bytes);
    encoding_free(&a);
    encoding_free(&b);
    tokenizer_free(t);
    tokenizer_free(back);
    model_free(&m);
}

// ---- what is refused ----------------------------------------------------------------------------------------------

typedef struct { const char *key; GgufType type; double value; const char *text; } Change;

// The file with one key changed (NULL text and type N_GGUF_TYPES: left out). Its tensors stay as they are.
static const char *with_key(const char *from, Change change)
{
    static const char *const none[] = {"general.architecture"};
    SafeTensors g;
    Err e;
    GgufKeys k = {0};
    FileWriter w;
    const char *const others[] = {change.key, none[0]};
    must(gguf_open(&g, from, &e), &e);
    if (strcmp(change.key, none[0]) != 0) gguf_add_text(&k, none[0], "llama");
    if (change.text) gguf_add_text(&k, change.key, change.text);
    else if (change.type == GGUF_LIST) {
        gguf_add_list(&k, change.key, GGUF_U8, (size_t)change.value);
        for (int i = 0; i < (int)change.value; i++) gguf_item(&k, GGUF_U8, i);
    }
    else if (change.type != N_GGUF_TYPES) gguf_add(&k, change.key, change.type, change.value);
    gguf_copy(&k, &g, "", others, 2);
    must(gguf_create(&w, temp_path("changed.gguf"), &k, g.tensors, g.n, &e), &e);
    for (size_t i = 0; i < g.n; i++) {
        float *data = mem_alloc(g.tensors[i].count, sizeof *data);
        safetensors_read(&g, &g.tensors[i], 0, g.tensors[i].count, data);
        must(gguf_write(&w, &g.tensors[i], data, &e), &e);
        free(data);
    }
    must(file_commit(&w, &e), &e);
    buf_free(&k.bytes);
    safetensors_close(&g);
    return temp_path("changed.gguf");
}

static void unknown_keys_and_values_are_refused_by_name(void)
{
    static const struct { Change change; const char *message; } cases[] = {
        {{"general.architecture", 0, 0, "gemma3"},
         "changed.gguf: general.architecture: expected llama, qwen2, qwen3 or smollm3, found gemma3"},
        {{"general.architecture", N_GGUF_TYPES, 0, NULL}, "general.architecture: expected a string, found nothing"},
        {{"general.architecture", GGUF_U32, 1, NULL}, "general.architecture: expected a string, found 1"},
        {{"general.alignment", GGUF_U32, 24, NULL}, "general.alignment: expected a power of 2, found 24"},
        {{"general.alignment", GGUF_U32, 0, NULL}, "general.alignment: expected a whole number from 1"},
        {{"llama.block_count", N_GGUF_TYPES, 0, NULL}, "llama.block_count: expected a whole number"},
        {{"llama.block_count", GGUF_U32, 3, NULL}, "blk.2.attn_norm.weight"},
        {{"llama.block_count", GGUF_U64, 1e15, NULL}, "llama.block_count: expected a whole number from 1"},
        {{"llama.block_count", 0, 0, "2"}, "llama.block_count: expected a whole number"},
        {{"llama.context_length", GGUF_I32, -8, NULL}, "llama.context_length: expected a whole number from 1"},
        {{"llama.context_length", GGUF_U32, 1 << 30, NULL}, "seq_len: expected 1 to"},
        {{"llama.embedding_length", GGUF_U32, 16, NULL}, "expected shape"},
        {{"llama.attention.head_count", GGUF_U32, 0, NULL},
         "llama.attention.head_count: expected a whole number from 1"},
        {{"llama.attention.head_count_kv", GGUF_LIST, 2, NULL},
         "llama.attention.head_count_kv: expected a whole number"},
        {{"llama.attention.value_length", GGUF_U32, 8, NULL},
         "llama.attention.value_length: expected the size of a head, 4, found 8"},
        {{"llama.rope.dimension_count", GGUF_U32, 2, NULL},
         "llama.rope.dimension_count: expected the size of a head, 4, found 2"},
        {{"llama.attention.layer_norm_rms_epsilon", N_GGUF_TYPES, 0, NULL},
         "layer_norm_rms_epsilon: expected a number"},
        {{"llama.attention.layer_norm_rms_epsilon", GGUF_F32, NAN, NULL}, "expected a finite number, found nan"},
        {{"llama.rope.freq_base", GGUF_F32, -1, NULL}, "rope_theta: expected a positive number, found -1"},
        {{"llama.rope.scaling.type", 0, 0, "yarn"}, "llama.rope.scaling.type: yarn is not supported"},
        {{"llama.rope.scaling.factor", GGUF_F32, 4, NULL}, "llama.rope.scaling.factor: a number is not supported"},
        {{"llama.expert_count", GGUF_U32, 8, NULL}, "llama.expert_count: a number is not supported"},
        {{"llama.attention.causal", GGUF_BOOL, 0, NULL}, "llama.attention.causal: true or false is not supported"},
        {{"split.count", GGUF_U32, 2, NULL}, "split.count: expected a whole number from 0 to 1, found 2"},
        {{"llama.vocab_size", GGUF_U32, 276, NULL}, "token_embd.weight: expected shape [276,8], found [277,8]"},
    };
    Err e;
    Config c;
    Model m;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *path = with_key(FIXTURES "spm_f32.gguf", cases[i].change);
        CHECK_FAILS(checkpoint_load(&m, path, &e), e, cases[i].message);
    }
    CHECK(checkpoint_config(&c, with_key(FIXTURES "spm_f32.gguf",
                                         (Change){"llama.expert_count", GGUF_U32, 0, NULL}), &e));
    CHECK(checkpoint_config(&c, with_key(FIXTURES "spm_f32.gguf",
                                         (Change){"llama.attention.sliding_window", GGUF_U32, 16, NULL}), &e));
    CHECK(c.windowed && c.seq_len == 16 && c.max_positions > 16 && c.family == MISTRAL);
    CHECK(checkpoint_config(&c, with_key(FIXTURES "spm_f32.gguf",
                                         (Change){"llama.attention.causal", GGUF_BOOL, 1, NULL}), &e));
    // A window and what it is cut from go into a .gguf and a folder, and come back.
    Config again;
    int positions = c.seq_len * 2;
    CHECK(checkpoint_load(&m, FIXTURES "spm_f32.gguf", &e));
    m.config.seq_len = positions;
    m.config.family = MISTRAL;
    config_set_window(&m.config, 16);
    const char *gguf = temp_path("window.gguf");
    CHECK_MSG(gguf_save(&m, gguf, NULL, DTYPE_F32, &e) && checkpoint_config(&again, gguf, &e), "%s", e.text);
    CHECK(again.windowed && again.seq_len == 16 && again.max_positions == positions && again.family == MISTRAL);
    CHECK(dir_make(temp_path("window"), &e));
    cJSON *keys = cJSON_CreateObject();
    CHECK_MSG(formats[FORMAT_FOLDER].save(&m, temp_path("window"), keys, &e), "%s", e.text);
    CHECK_MSG(checkpoint_config(&again, temp_path("window"), &e), "%s", e.text);
    CHECK_MSG(again.windowed && again.seq_len == 16 && again.max_positions == positions && again.family == MISTRAL,
              "%d %d %d", again.seq_len, again.max_positions, again.family);
    cJSON_Delete(keys);
    model_free(&m);
}

static void unknown_tokenizers_are_refused_by_name(void)
{
    static const struct { bool spm; Change change; const char *message; } cases[] = {
        {false, {"tokenizer.ggml.model", 0, 0, "bert"}, "tokenizer.ggml.model: expected gpt2 or llama, found bert"},
        {false, {"tokenizer.ggml.model", N_GGUF_TYPES, 0, NULL}, "tokenizer.ggml.model: expected a string"},
        {false, {"tokenizer.ggml.pre", 0, 0, "tekken"}, "tokenizer.ggml.pre: expected gpt-2, smollm, llama-bpe"},
        {false, {"tokenizer.ggml.pre", N_GGUF_TYPES, 0, NULL}, "dbrx or qwen2, found nothing"},
        {false, {"tokenizer.ggml.merges", N_GGUF_TYPES, 0, NULL},
         "tokenizer.ggml.merges: expected a list, found nothing"},
        {false, {"tokenizer.ggml.tokens", GGUF_LIST, 0, NULL}, "tokenizer.ggml.token_type: expected 0 items"},
        {false, {"tokenizer.ggml.tokens", 0, 0, "a"}, "tokenizer.ggml.tokens: expected a list, found a string"},
        {false, {"tokenizer.ggml.token_type", GGUF_LIST, 0, NULL},
         "token_type: expected 270 items, one for each token"},
        {false, {"tokenizer.ggml.token_type", N_GGUF_TYPES, 0, NULL}, "tokenizer.ggml.token_type: expected a list"},
        {true, {"tokenizer.ggml.scores", N_GGUF_TYPES, 0, NULL},
         "tokenizer.ggml.scores: expected a list, found nothing"},
        {true, {"tokenizer.ggml.bos_token_id", GGUF_U32, 277, NULL},
         "bos_token_id: expected a whole number from 0 to 276"},
        {false, {"tokenizer.ggml.bos_token_id", N_GGUF_TYPES, 0, NULL},
         "bos_token_id: expected a token, as it is to be added"},
        {true, {"tokenizer.ggml.remove_extra_whitespaces", GGUF_BOOL, 1, NULL}, "whitespaces: true is not supported"},
        {true, {"tokenizer.ggml.add_bos_token", GGUF_U32, 1, NULL}, "add_bos_token: expected true or false"},
    };
    Err e;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *from = cases[i].spm ? FIXTURES "spm_f32.gguf" : FIXTURES "bpe_f32.gguf";
        Tokenizer *t = tokenizer_load(with_key(from, cases[i].change), &e);
        CHECK_FAILS(t != NULL, e, cases[i].message);
        tokenizer_free(t);
    }
}

// The file with these bytes in place of those that follow the first `after`.
static const char *patched(const char *from, const char *after, size_t skip, const void *bytes, size_t n)
{
    File f = bytes_of(from);
    char *copy = mem_strndup((const char *)f.data, f.size);
    const char *at = mem_find(copy, f.size, after, strlen(after));
    must(at != NULL, &(Err){"the text to patch is not there"});
    memcpy(copy + (at - copy) + strlen(after) + skip, bytes, n);
    const char *path = temp_write("patched.gguf", copy, f.size);
    free(copy);
    file_unmap(&f);
    return path;
}

static void broken_bytes_are_refused(void)
{
    static const struct { const char *after; size_t skip; uint64_t value; size_t n; const char *message; } cases[] = {
        {"GGUF", 0, 1, 4, "expected version 2 or 3 of GGUF, found 1"},
        {"GGUF", 0, 0x3000000, 4, "expected a little-endian file, found a big-endian one"},
        {"GGUF", 4, (uint64_t)1 << 62, 8, "expected at most 16384 tensors"},
        {"GGUF", 4, 16000, 8, "expected at most"},
        {"GGUF", 12, (uint64_t)1 << 62, 8, "expected at most 16384 tensors and 4096 keys"},
        {"GGUF", 12, 4000, 8, "changed"},
        {"general.architecture", 0, 13, 4, "general.architecture: expected a type from 0 to 12, found 13"},
        {"general.architecture", 4, (uint64_t)1 << 62, 8, "general.architecture: expected UTF-8 of at most"},
        {"tokenizer.ggml.tokens", 4, 9, 4, "expected a type from 0 to 12 but 9, found 9"},
        {"tokenizer.ggml.tokens", 8, (uint64_t)1 << 62, 8, "tokenizer.ggml.tokens: expected at most"},
        {"tokenizer.ggml.add_bos_token", 4, 2, 1, "tokenizer.ggml.add_bos_token: expected a boolean, 0 or 1, found"},
        {"llama.vocab_size", 0, 2, 4, ""},
        {"blk.0.attn_q.weight", 0, 0, 4, "blk.0.attn_q.weight: expected 1 to 4 dimensions, found 0"},
        {"blk.0.attn_q.weight", 0, 5, 4, "blk.0.attn_q.weight: expected 1 to 4 dimensions, found 5"},
        {"blk.0.attn_q.weight", 4, 0, 8, "blk.0.attn_q.weight: shape: expected sizes of a tensor, found 0"},
        {"blk.0.attn_q.weight", 4, (uint64_t)1 << 62, 8, "blk.0.attn_q.weight: shape"},
        {"blk.0.attn_q.weight", 4, 4, 8, "the data before it"},
        {"blk.0.attn_q.weight", 20, 12, 4, "type: expected F32, F16, BF16 or Q8_0, found Q4_K (number 12)"},
        {"blk.0.attn_q.weight", 20, 99, 4, "found another (number 99)"},
        {"blk.0.attn_q.weight", 20, 8, 4, "blk.0.attn_q.weight: expected rows of a multiple of 32 numbers for Q8_0"},
        {"blk.0.attn_q.weight", 24, (uint64_t)1 << 63, 8, "blk.0.attn_q.weight: expected an offset below"},
        {"blk.0.attn_q.weight", 24, 33, 8, "the data before it"},
        {"blk.", 0, '1', 1, "blk.1.attn_norm.weight: it is there twice"},
    };
    Err e;
    Model m = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *path = patched(FIXTURES "spm_f32.gguf", cases[i].after, cases[i].skip, &cases[i].value, cases[i].n);
        bool ok = checkpoint_load(&m, path, &e);
        CHECK_FAILS(ok, e, strcmp(cases[i].message, "changed") == 0 ? "patched.gguf: " : cases[i].message);
        if (ok) model_free(&m);
    }
}

// No beginning of a file is a file: at each length there is an error, and no crash.
static void a_file_that_is_cut_is_refused(void)
{
    File f = bytes_of(FIXTURES "spm_q8_0.gguf");
    Err e;
    Config c;                                              // 16 bytes at the end are padding
    for (size_t n = 0; n < f.size - 16; n += n < 600 || n > f.size - 100 ? 1 : 97) {
        const char *path = temp_write("cut.gguf", f.data, n);
        CHECK_FAILS(checkpoint_config(&c, path, &e), e, "cut.gguf: ");
    }
    Buf longer = {0};
    buf_add(&longer, f.data, f.size);
    for (int i = 0; i < 64; i++) buf_addc(&longer, 0);
    CHECK_FAILS(checkpoint_config(&c, temp_write("long.gguf", longer.data, longer.len), &e), e,
                "bytes from its header");
    buf_free(&longer);
    file_unmap(&f);
}

static void keys_that_are_there_twice_are_refused(void)
{
    GgufKeys k = {0};
    FileWriter w;
    Err e;
    SafeTensors g;
    gguf_add(&k, "a.key", GGUF_U32, 1);
    gguf_add(&k, "a.key", GGUF_U32, 1);
    must(gguf_create(&w, temp_path("twice.gguf"), &k, NULL, 0, &e) && file_commit(&w, &e), &e);
    CHECK_FAILS(gguf_open(&g, temp_path("twice.gguf"), &e), e, "twice.gguf: a.key: it is there twice");
    buf_free(&k.bytes);
}

// ---- the program --------------------------------------------------------------------------------------------------

// Training from a .gguf gives a model.gguf of the weights that training from the .bin gives; it resumes to the bit, and
// the result, an adapter and a comparison work as with any other model.
static void runs_begin_and_end_with_a_gguf(void)
{
    static const char train[] = "%s --output_dir=%s --model_init=null --model_name_or_path=%s --save_steps=10 %s";
    char config[256], base[256], in[256], out[256];        // temp_path forgets
    Err e;
    write_fixture();
    snprintf(config, sizeof config, "%s", temp_path("config.json"));
    snprintf(base, sizeof base, "%s", temp_path("base/model.bin"));
    snprintf(in, sizeof in, "%s", temp_path("in.gguf"));
    snprintf(out, sizeof out, "%s", temp_path("out"));
    CHECK_MSG(run("%s --output_dir=%s --max_steps=1", config, temp_path("base")) == 0, "%s", output);
    CHECK(run("export %s %s --outtype=f32", base, temp_path("folder")) == 1 && strstr(output, "outtype: "));
    CHECK_MSG(run("export %s %s --outtype=f32", base, in) == 0, "%s", output);
    CHECK(run("export %s %s", base, in) == 1 && strstr(output, "there is a model already"));
    CHECK_MSG(run(train, config, temp_path("bin"), base, "") == 0, "%s", output);
    CHECK_MSG(run(train, config, out, in, "--tokenizer_name_or_path=null") == 0, "%s", output);
    CHECK_MSG(run("export %s/model.gguf %s", out, temp_path("back.bin")) == 0, "%s", output);
    CHECK(same_files(temp_path("back.bin"), temp_path("bin/model.bin")));
    CHECK(!file_exists(temp_path("out/tokenizer.json")) && !file_exists(temp_path("out/tokenizer.bin")));
    Tokenizer *t = tokenizer_load(temp_path("out/model.gguf"), &e);
    must(t != NULL, &e);
    File f = bytes_of("configs/templates/plain.jinja");    // the run's own goes into the file
    CHECK(f.size == strlen(tokenizer_chat_template(t)) && memcmp(tokenizer_chat_template(t), f.data, f.size) == 0);
    file_unmap(&f);
    tokenizer_free(t);

    File straight = bytes_of(temp_path("out/model.gguf"));
    remove_tree(temp_path("out/checkpoint-20"));
    CHECK_MSG(run(train, config, out, in, "--tokenizer_name_or_path=null --resume_from_checkpoint=latest") == 0, "%s",
              output);
    File resumed = bytes_of(temp_path("out/model.gguf"));
    CHECK(straight.size == resumed.size && memcmp(straight.data, resumed.data, resumed.size) == 0);
    file_unmap(&straight);
    file_unmap(&resumed);
    CHECK(run(train, config, out, in, "") == 1 && strstr(output, "holds a model"));

    CHECK_MSG(run("chat %s/model.gguf --prompt=\"say a\" --temperature=0 --max_new_tokens=4", out) == 0, "%s", output);
    CHECK_MSG(run(train, config, temp_path("lora"), in, "--use_peft=true --tokenizer_name_or_path=null") == 0, "%s",
              output);
    CHECK(file_exists(temp_path("lora/tokenizer.json")));
    CHECK_MSG(run("export %s %s", temp_path("lora"), temp_path("merged.gguf")) == 0, "%s", output);
    CHECK_MSG(run("export %s %s --outtype=q8_0", temp_path("merged.gguf"), temp_path("q8.gguf")) == 0, "%s", output);
    CHECK_MSG(run("compare %s --output_dir=%s --model_init=null --model_name_or_path=%s --max_steps=2", config,
                  temp_path("arms"), in) == 0, "%s", output);
    CHECK(file_exists(temp_path("arms/weight-1/seed-42/model.gguf")));

    // what could not be saved at the end is refused before the first step
    must(dir_make(temp_path("other"), &e), &e);
    Buf json = {0};                                        // it has letters, but no way to spell other bytes
    buf_adds(&json, quoted("{'added_tokens': [{'id': 0, 'content': '</s>', 'special': true}], 'model': {'merges': [],"
                           " 'vocab': {'\\n': 1"));
    for (int c = ' '; c <= '~'; c++) buf_addf(&json, ", \"%s%c\": %d", c == '"' || c == '\\' ? "\\" : "", c, c);
    buf_adds(&json, "}}}");
    temp_text("other/tokenizer.json", json.data);
    temp_text("other/tokenizer_config.json", "{\"eos_token\": \"</s>\"}");
    buf_free(&json);
    CHECK(run("%s --output_dir=%s --model_init=null --model_name_or_path=%s --tokenizer_name_or_path=%s", config,
              temp_path("none"), in, temp_path("other/tokenizer.json")) == 1);
    CHECK_MSG(strstr(output, "this tokenizer cannot go into a GGUF file"), "%s", output);
    CHECK(!file_exists(temp_path("none/model.gguf")));
}

int main(void)
{
    temp_begin();
    RUN(files_of_ggufs_writer_are_read_to_the_bit);
    RUN(our_files_have_the_bytes_of_ggufs_writer);
    RUN(a_model_comes_back_to_the_bit);
    RUN(what_llama_cpp_has_no_key_for_is_refused);
    RUN(texts_get_the_ids_of_llama_cpp);
    RUN(a_tokenizer_bin_goes_into_a_gguf);
    RUN(unknown_keys_and_values_are_refused_by_name);
    RUN(unknown_tokenizers_are_refused_by_name);
    RUN(broken_bytes_are_refused);
    RUN(a_file_that_is_cut_is_refused);
    RUN(keys_that_are_there_twice_are_refused);
    RUN(runs_begin_and_end_with_a_gguf);
    temp_end();
    return check_report();
}
