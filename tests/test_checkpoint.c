// Models in files: both versions of llama2.c's .bin, and Hugging Face folders. They come back to the bit, and a broken
// file is refused with its reason.
#include "fixture.h"

#include "../model/checkpoint.h"
#include "../model/safetensors.h"

// What a test needs before it can begin.
static void must(bool ok, const Err *e)
{
    if (ok) return;
    fprintf(stderr, "%s\n", e->text);
    temp_end();
    exit(1);
}

static const char *temp_folder(const char *name)
{
    Err e;
    must(dir_make(temp_path(name), &e), &e);
    return temp_path(name);
}

// ---- a small model whose every number tells where it belongs ------------------------------------------------------

static float mark(TensorId id, size_t layer, size_t i) { return (float)(id * 10000 + layer * 1000 + i); }

static Config small_config(bool tied)
{
    return (Config){.dim = 12, .hidden_dim = 10, .n_layers = 2, .n_heads = 2, .n_kv_heads = 1, .head_dim = 6,
                    .vocab_size = 11, .seq_len = 8, .tied = tied, .rope_theta = 10000, .norm_eps = 1e-5f};
}

static Model marked_model(const Config *c)
{
    Model m;
    Err e;
    must(model_init(&m, c, &e), &e);
    for (TensorId id = 0; id < N_TENSORS; id++)
        for (size_t l = 0; l < tensor_count(c, id); l++)
            for (size_t i = 0; i < tensor_size(c, id); i++) model_param(&m, id, l)[i] = mark(id, l, i);
    return m;
}

static void check_marks(const Model *m)
{
    for (TensorId id = 0; id < N_TENSORS; id++)
        for (size_t l = 0; l < tensor_count(&m->config, id); l++)
            for (size_t i = 0; i < tensor_size(&m->config, id); i++)
                if (!CHECK_MSG(model_param(m, id, l)[i] == mark(id, l, i), "%s[%zu][%zu]", tensor_table[id].name, l, i))
                    return;
}

static void check_config(const Config *got, const Config *want)
{
    CHECK(got->dim == want->dim && got->hidden_dim == want->hidden_dim && got->n_layers == want->n_layers);
    CHECK(got->n_heads == want->n_heads && got->n_kv_heads == want->n_kv_heads && got->head_dim == want->head_dim);
    CHECK(got->vocab_size == want->vocab_size && got->seq_len == want->seq_len && got->tied == want->tied);
    CHECK(got->rope_theta == want->rope_theta && got->norm_eps == want->norm_eps);
    CHECK(memcmp(&got->rope_scaling, &want->rope_scaling, sizeof got->rope_scaling) == 0);
}

static void check_same_model(const Model *got, const Model *want)
{
    check_config(&got->config, &want->config);
    CHECK(got->n_params == want->n_params && memcmp(got->params, want->params, want->n_params * sizeof(float)) == 0);
}

// Loads a model that must be there.
static Model loaded(const char *path)
{
    Model m;
    Err e;
    must(checkpoint_load(&m, path, &e), &e);
    return m;
}

// ---- llama2.c's .bin ----------------------------------------------------------------------------------------------

static void add_tensor(Buf *b, const Config *c, TensorId id)
{
    for (size_t l = 0; l < tensor_count(c, id); l++)
        for (size_t i = 0; i < tensor_size(c, id); i++) {
            float x = mark(id, l, i);
            buf_add(b, &x, sizeof x);
        }
}

static void add_int(Buf *b, int32_t value) { buf_add(b, &value, sizeof value); }

static void add_sizes(Buf *b, const Config *c, int32_t vocab)
{
    const int32_t sizes[] = {c->dim, c->hidden_dim, c->n_layers, c->n_heads, c->n_kv_heads, vocab, c->seq_len};
    buf_add(b, sizes, sizeof sizes);
}

// As llama2.c's export.py writes it: legacy_export.
static Buf bin_version_0(const Config *c)
{
    static const TensorId order[] = {TOK_EMB, ATT_NORM, WQ, WK, WV, WO, FFN_NORM, W1, W2, W3, FINAL_NORM};
    Buf b = {0};
    add_sizes(&b, c, c->tied ? c->vocab_size : -c->vocab_size);
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) add_tensor(&b, c, order[i]);
    for (int i = 0; i < c->seq_len * c->head_dim; i++) add_int(&b, -1);         // its RoPE tables, which nobody reads
    add_tensor(&b, c, CLASSIFIER);
    return b;
}

// As llama2.c's export.py writes it: version1_export.
static Buf bin_version_1(const Config *c)
{
    static const TensorId order[] = {ATT_NORM, FFN_NORM, FINAL_NORM, TOK_EMB, WQ, WK, WV, WO, W1, W2, W3, CLASSIFIER};
    Buf b = {0};
    buf_adds(&b, "24ka");
    add_int(&b, 1);
    add_sizes(&b, c, c->vocab_size);
    buf_addc(&b, c->tied);
    while (b.len < 256) buf_addc(&b, 0);
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) add_tensor(&b, c, order[i]);
    return b;
}

static Buf bin_version(int version, const Config *c) { return version ? bin_version_1(c) : bin_version_0(c); }

static void bin_files_load(void)
{
    for (int i = 0; i < 4; i++) {
        Config c = small_config(i % 2), shape;
        Err e;
        Buf b = bin_version(i / 2, &c);
        temp_write("model.bin", b.data, b.len);
        Model m = loaded(temp_path("model.bin"));
        check_config(&m.config, &c);
        check_marks(&m);
        if (CHECK(checkpoint_config(&shape, temp_path("model.bin"), &e))) check_config(&shape, &c);
        CHECK(format_of(temp_path("model.bin")) == &formats[FORMAT_BIN]);
        model_free(&m);
        buf_free(&b);
    }
}

static void bin_files_come_back_to_the_bit(void)
{
    for (int tied = 0; tied < 2; tied++) {
        Err e;
        Config c = small_config(tied);
        Model m = marked_model(&c);
        model_randomize(&m, 1);
        must(formats[FORMAT_BIN].save(&m, temp_path("saved.bin"), NULL, &e), &e);
        Model again = loaded(temp_path("saved.bin"));
        check_same_model(&again, &m);
        model_free(&again);
        model_free(&m);
    }
}

// All bytes are those of export.py, except the RoPE tables. These are cosines, then sines.
static void bin_files_are_llama2cs(void)
{
    Config c = small_config(false);
    Model m = marked_model(&c);
    Buf want = bin_version_0(&c);
    File f;
    Err e;
    must(formats[FORMAT_BIN].save(&m, temp_path("saved.bin"), NULL, &e), &e);
    must(file_map(&f, temp_path("saved.bin"), &e), &e);
    size_t classifier = 4 * tensor_size(&c, CLASSIFIER), tables = 4 * (size_t)(c.seq_len * c.head_dim);
    size_t table = want.len - classifier - tables;
    if (CHECK(f.size == want.len)) {
        CHECK(memcmp(f.data, want.data, table) == 0);
        CHECK(memcmp(f.data + want.len - classifier, want.data + want.len - classifier, classifier) == 0);
        for (int t = 0; t < c.seq_len; t++)
            for (int i = 0; i < c.head_dim / 2; i++) {
                double angle = t / pow(10000, 2.0 * i / c.head_dim);
                float x[2];
                size_t at = table + 4 * (size_t)(t * c.head_dim / 2 + i);
                memcpy(&x[0], f.data + at, 4);
                memcpy(&x[1], f.data + at + tables / 2, 4);
                CHECK(fabs(x[0] - cos(angle)) < 1e-6 && fabs(x[1] - sin(angle)) < 1e-6);
            }
    }
    file_unmap(&f);
    buf_free(&want);
    model_free(&m);
}

static void check_unsayable(int head_dim, float rope_theta, float norm_eps, float factor, const char *message)
{
    Err e;
    Config c = small_config(true);
    c.head_dim = head_dim;
    c.rope_theta = rope_theta;
    c.norm_eps = norm_eps;
    c.rope_scaling.factor = factor;
    Model m = {.config = c};
    CHECK_FAILS(formats[FORMAT_BIN].save(&m, temp_path("refused.bin"), NULL, &e), e, message);
    CHECK_FAILS(formats[FORMAT_BIN].fits(&c, &e), e, message);
    CHECK(!file_exists(temp_path("refused.bin")));
}

static void bin_files_say_no_more_than_they_can(void)
{
    Err e;
    Config c = small_config(true);
    CHECK(formats[FORMAT_BIN].fits(&c, &e));
    check_unsayable(8, 10000, 1e-5f, 0, "has no place for head_dim: expected 6");
    check_unsayable(6, 500, 1e-5f, 0, "expected 10000, null and 1e-5, found 500, null and 1e-05");
    check_unsayable(6, 10000, 1e-6f, 0, "found 10000, null and 1e-06");
    check_unsayable(6, 10000, 1e-5f, 8, "found 10000, llama3 and 1e-05");
}

// ---- Hugging Face folders -----------------------------------------------------------------------------------------

// What a .bin cannot say.
static Config rich_config(bool tied)
{
    Config c = small_config(tied);
    c.head_dim = 8;
    c.n_heads = 4;
    c.n_kv_heads = 2;
    c.rope_theta = 500000;
    c.norm_eps = 1e-6f;
    c.rope_scaling.factor = 8;
    c.rope_scaling.low_freq_factor = 1;
    c.rope_scaling.high_freq_factor = 4;
    c.rope_scaling.original_seq_len = 4;
    return c;
}

static Model saved_folder(const char *name, const Config *c)
{
    Err e;
    Model m = marked_model(c);
    must(formats[FORMAT_FOLDER].save(&m, temp_folder(name), NULL, &e), &e);
    return m;
}

static SafeTensors tensors_of(const char *name)
{
    char path[128];
    SafeTensors st;
    Err e;
    snprintf(path, sizeof path, "%s/model.safetensors", name);
    must(safetensors_open(&st, temp_path(path), &e), &e);
    return st;
}

static void folders_come_back_to_the_bit(void)
{
    for (int i = 0; i < 4; i++) {
        Config c = i < 2 ? small_config(i % 2) : rich_config(i % 2);
        Model m = saved_folder("hf", &c), again = loaded(temp_path("hf"));
        check_same_model(&again, &m);
        check_marks(&again);
        CHECK(format_of(temp_path("hf")) == &formats[FORMAT_FOLDER]);
        model_free(&again);
        model_free(&m);
    }
}

// Row 2i + j of a head, the j-th of pair i, is Hugging Face's row i + j * D/2; all other tensors are as they are.
static void folders_have_hugging_faces_row_order(void)
{
    Config c = rich_config(false);
    Model m = saved_folder("hf", &c);
    SafeTensors st = tensors_of("hf");
    const StTensor *q = safetensors_find(&st, "model.layers.1.self_attn.q_proj.weight");
    const StTensor *v = safetensors_find(&st, "model.layers.1.self_attn.v_proj.weight");
    size_t C = (size_t)c.dim, D = (size_t)c.head_dim, rows = (size_t)c.n_heads * D;
    CHECK(st.n == 2 * 9 + 3 && q && q->shape[0] == rows && q->shape[1] == C && v && v->shape[0] == rows / 2);
    for (size_t r = 0; q && r < rows; r++) {
        size_t head = r / D * D, i = r % D / 2, j = r % 2;
        float first;
        safetensors_read(&st, q, (head + i + j * D / 2) * C, 1, &first);
        CHECK(first == mark(WQ, 1, r * C));
        if (r < rows / 2) {
            safetensors_read(&st, v, r * C, 1, &first);
            CHECK(first == mark(WV, 1, r * C));
        }
    }
    safetensors_close(&st);
    model_free(&m);
}

static void a_folder_keeps_the_other_keys(void)
{
    static const char text[] = "{'eos_token_id': [7, 8], 'mine': {'a': 1}, 'torch_dtype': 'bfloat16',"
                               " 'rms_norm_eps': 1e-05, 'max_position_embeddings': 8, 'hidden_size': 999}";
    Err e;
    Config c = small_config(true);
    Model m = marked_model(&c);
    cJSON *source = cJSON_Parse(quoted(text));
    must(formats[FORMAT_FOLDER].save(&m, temp_folder("kept"), source, &e), &e);
    cJSON *json = json_load(temp_path("kept/config.json"), &e);
    must(json, &e);
    CHECK(cJSON_GetArraySize(json_get(json, "eos_token_id")) == 2 && json_get(json_get(json, "mine"), "a"));
    CHECK_STR(json_string(json, "torch_dtype"), "float32");
    CHECK(json_get(json, "hidden_size")->valueint == c.dim);
    Model again = loaded(temp_path("kept"));
    check_same_model(&again, &m);
    model_free(&again);
    model_free(&m);
    cJSON_Delete(json);
    cJSON_Delete(source);
}

// Copies the tensors that `chosen` picks into a new file, and the first one again with the name `extra`.
static void copy_tensors(const SafeTensors *st, const char *name, bool (*chosen)(size_t i), const char *extra)
{
    Err e;
    FileWriter w;
    size_t n = 0;
    const StTensor **from = mem_alloc(st->n + 1, sizeof *from);
    StTensor *entries = mem_alloc(st->n + 1, sizeof *entries);
    for (size_t i = 0; i < st->n; i++)
        if (chosen(i)) from[n++] = &st->tensors[i];
    if (extra) from[n++] = &st->tensors[0];
    for (size_t i = 0; i < n; i++) entries[i] = *from[i];
    if (extra) entries[n - 1].name = extra;
    must(safetensors_create(&w, temp_path(name), "", entries, n, &e), &e);
    for (size_t i = 0; i < n; i++) must(file_write(&w, st->file.data + from[i]->begin, 4 * from[i]->count, &e), &e);
    must(file_commit(&w, &e), &e);
    free(from);
    free(entries);
}

static bool even(size_t i) { return i % 2 == 0; }
static bool odd(size_t i) { return i % 2 == 1; }
static bool any(size_t i) { return i < SIZE_MAX; }
static bool but_two(size_t i) { return i != 3 && i != 5; }

// The folder "hf", with its tensors in two files.
static Model sharded_folder(const Config *c)
{
    static const char *const names[] = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"};
    Model m = saved_folder("hf", c);
    SafeTensors st = tensors_of("hf");
    cJSON *index = cJSON_CreateObject(), *map = cJSON_AddObjectToObject(index, "weight_map");
    Err e;
    temp_folder("sharded");
    copy_tensors(&st, "sharded/model-00001-of-00002.safetensors", even, NULL);
    copy_tensors(&st, "sharded/model-00002-of-00002.safetensors", odd, NULL);
    for (size_t i = 0; i < st.n; i++) cJSON_AddStringToObject(map, st.tensors[i].name, names[i % 2]);
    char *text = cJSON_Print(index);
    temp_text("sharded/model.safetensors.index.json", text);
    must(file_copy(temp_path("hf/config.json"), temp_path("sharded/config.json"), &e), &e);
    cJSON_free(text);
    cJSON_Delete(index);
    safetensors_close(&st);
    return m;
}

static void shards_are_put_together(void)
{
    Config c = rich_config(false);
    Model m = sharded_folder(&c), again = loaded(temp_path("sharded"));
    check_same_model(&again, &m);
    model_free(&again);
    model_free(&m);
}

// A tied model may still have a classifier in its file, and old files have RoPE frequencies: both are ignored.
static void superfluous_tensors_are_passed_over(void)
{
    Config untied = rich_config(false), tied = rich_config(true);
    Err e;
    Model m = saved_folder("hf", &untied), tied_model = saved_folder("tied", &tied);
    memcpy(model_param(&m, CLASSIFIER, 0), model_param(&m, TOK_EMB, 0), 4 * tensor_size(&untied, TOK_EMB));
    must(formats[FORMAT_FOLDER].save(&m, temp_path("hf"), NULL, &e), &e);
    must(file_copy(temp_path("hf/model.safetensors"), temp_path("tied/model.safetensors"), &e), &e);
    Model again = loaded(temp_path("tied"));
    check_same_model(&again, &tied_model);                 // the file's head is equal to the embedding
    SafeTensors st = tensors_of("hf");
    copy_tensors(&st, "tied/model.safetensors", any, "model.layers.0.self_attn.rotary_emb.inv_freq");
    safetensors_close(&st);
    model_free(&again);
    again = loaded(temp_path("tied"));
    check_same_model(&again, &tied_model);
    model_free(&again);
    model_free(&tied_model);
    model_free(&m);
}

// ---- numbers of 16 bits -------------------------------------------------------------------------------------------

// IEEE half precision by its definition.
static double half_value(uint32_t bits)
{
    int exponent = (int)(bits >> 10 & 31), fraction = (int)(bits & 1023), sign = bits >> 15 ? -1 : 1;
    if (exponent == 31) return fraction ? NAN : sign * INFINITY;
    return sign * (exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24));
}

static bool same_number(double a, double b) { return isnan(a) ? isnan(b) : a == b && signbit(a) == signbit(b); }

static void check_all_16_bits(const char *dtype)
{
    enum { ALL = 1 << 16 };
    Buf b = {0}, header = {0};
    SafeTensors st;
    Err e;
    buf_addf(&header, quoted("{'x':{'dtype':'%s','shape':[256,256],'data_offsets':[0,%d]}}"), dtype, 2 * ALL);
    uint64_t length = header.len;
    buf_add(&b, &length, 8);
    buf_add(&b, header.data, header.len);
    buf_free(&header);
    for (uint32_t bits = 0; bits < ALL; bits++) buf_add(&b, &bits, 2);          // little-endian: the lower half
    temp_write("half.safetensors", b.data, b.len);
    must(safetensors_open(&st, temp_path("half.safetensors"), &e), &e);
    float *x = mem_alloc(ALL, sizeof *x);
    safetensors_read(&st, &st.tensors[0], 0, ALL, x);
    for (uint32_t bits = 0; bits < ALL; bits++) {
        uint32_t wide = bits << 16;                        // bfloat16 is the upper half of a float
        float upper;
        memcpy(&upper, &wide, sizeof upper);
        double want = strcmp(dtype, "F16") == 0 ? half_value(bits) : (double)upper;
        CHECK_MSG(same_number(x[bits], want), "%s 0x%04X: %.9g, expected %.9g", dtype, bits, (double)x[bits], want);
    }
    free(x);
    safetensors_close(&st);
    buf_free(&b);
}

static void every_f16_and_bf16_reads_right(void)
{
    check_all_16_bits("F16");
    check_all_16_bits("BF16");
}

// ---- a real model -------------------------------------------------------------------------------------------------

// Rounded tensors: the relative L2 distance of their parameters to those of `want` is at most `tolerance`.
static void check_rounded_folder(const char *tensors, const Model *want, double tolerance)
{
    Err e;
    temp_folder("rounded");
    must(file_copy("../shared/models/stories260K_hf/config.json", temp_path("rounded/config.json"), &e), &e);
    must(file_copy(tensors, temp_path("rounded/model.safetensors"), &e), &e);
    Model m = loaded(temp_path("rounded"));
    CHECK_CLOSE(tensors, m.params, want->params, want->n_params, tolerance);
    model_free(&m);
}

static void stories260K_is_the_same_in_both_formats(void)
{
    FOLDER_OR_SKIP("../shared/models/stories260K_hf");
    Model bin = loaded("../shared/models/stories260K.bin"), hf = loaded("../shared/models/stories260K_hf");
    check_same_model(&hf, &bin);
    check_rounded_folder("../shared/models/stories260K_hf/model.f16.safetensors", &bin, 0x1p-11);
    check_rounded_folder("../shared/models/stories260K_hf/model.bf16.safetensors", &bin, 0x1p-8);
    model_free(&hf);
    model_free(&bin);
}

// ---- config.json --------------------------------------------------------------------------------------------------

static Config parsed(const char *text)
{
    Config c;
    Err e;
    cJSON *json = json_parse(quoted(text), strlen(text), "test", 0, &e);
    must(json, &e);
    must(config_from_json(&c, json, "test", &e), &e);
    cJSON_Delete(json);
    return c;
}

#define SIZES "'hidden_size': 12, 'intermediate_size': 10, 'num_hidden_layers': 2, 'num_attention_heads': 2," \
              "'vocab_size': 11"
#define LLAMA3 "'llama3', 'factor': 8, 'low_freq_factor': 1, 'high_freq_factor': 4," \
               "'original_max_position_embeddings': 64"

static void absent_keys_have_transformers_defaults(void)
{
    Config c = parsed("{" SIZES "}"), want = small_config(false);
    want.n_kv_heads = 2;
    want.seq_len = 2048;
    want.norm_eps = 1e-6f;
    check_config(&c, &want);
    c = parsed("{" SIZES ", 'num_key_value_heads': null, 'head_dim': null, 'rope_scaling': null}");
    check_config(&c, &want);
}

// transformers 4 has rope_theta and rope_scaling, 5 has rope_parameters; older files say "type".
static void rope_settings_are_read_from_either_place(void)
{
    Config four = parsed("{" SIZES ", 'rope_theta': 500, 'rope_scaling': {'type': " LLAMA3 "}}");
    Config five = parsed("{" SIZES ", 'rope_parameters': {'rope_theta': 500, 'rope_type': " LLAMA3 "}}");
    Config plain = parsed("{" SIZES "}"), off = parsed("{" SIZES ", 'rope_scaling': {'rope_type': 'default'}}");
    CHECK(four.rope_theta == 500 && four.rope_scaling.factor == 8 && four.rope_scaling.low_freq_factor == 1);
    CHECK(four.rope_scaling.high_freq_factor == 4 && four.rope_scaling.original_seq_len == 64);
    check_config(&five, &four);
    check_config(&off, &plain);
}

// Attention here is always full: the two are the same up to the window.
static void a_mistral_goes_as_far_as_its_window(void)
{
#define MISTRAL SIZES ", 'num_key_value_heads': 2, 'model_type': 'mistral'"
    CHECK(parsed("{" MISTRAL ", 'sliding_window': 100}").seq_len == 100);
    CHECK(parsed("{" MISTRAL ", 'sliding_window': null}").seq_len == 131072);
    CHECK(parsed("{" MISTRAL "}").seq_len == 4096);
    CHECK(parsed("{" SIZES ", 'model_type': 'llama', 'sliding_window': 100}").seq_len == 2048);
}

// At position 1 the angle is the frequency. (The fixture is made by tests/oracle/model.py.)
static void rope_frequencies_are_transformers(void)
{
    static const char *const names[] = {"plain", "llama3_1", "llama3_2"};
    SafeTensors f;
    Err e;
    must(safetensors_open(&f, "tests/fixtures/model_rope.safetensors", &e), &e);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        Config c = parsed(json_string(json_get(f.header, "__metadata__"), names[i]));
        const StTensor *t = safetensors_find(&f, names[i]);
        float want[64], got[64];
        Model m;
        must(model_init(&m, &c, &e), &e);
        CHECK(t && t->count == (size_t)c.head_dim / 2);
        safetensors_read(&f, t, 0, t->count, want);
        for (size_t j = 0; j < t->count; j++) {
            const float *turn = m.cos_sin + (size_t)c.head_dim + 2 * j;
            got[j] = atan2f(turn[1], turn[0]);
            CHECK_MSG(fabsf(got[j] - want[j]) <= 1e-6f * want[j], "%s[%zu]: %.9g", names[i], j, got[j]);
        }
        model_free(&m);
    }
    safetensors_close(&f);
}

// ---- bad input: .bin ----------------------------------------------------------------------------------------------

enum { DIM_AT, HIDDEN_AT, LAYERS_AT, HEADS_AT, KV_HEADS_AT, VOCAB_AT, SEQ_AT, NO_FIELD };

// One number of the header changed, or the file cut to `size` bytes, or made `longer`.
static const struct { const char *what; int version, field, value, size, longer; const char *message; } bad_bins[] = {
    {"empty",                    0, NO_FIELD, 0, 0, 0, "expected a header of 28 bytes, found 0 bytes"},
    {"half a header",            0, NO_FIELD, 0, 27, 0, "expected a header of 28 bytes, found 27 bytes"},
    {"a header alone",           0, NO_FIELD, 0, 28, 0, "expected 7852 bytes for dim 12, hidden_dim 10"},
    {"a float short",            0, NO_FIELD, 0, -1, -4, "found 7848"},
    {"a byte short",             0, NO_FIELD, 0, -1, -1, "found 7851"},
    {"a byte too long",          0, NO_FIELD, 0, -1, 1, "found 7853"},
    {"no dim",                   0, DIM_AT, 0, -1, 0, "dim: expected 1 to 65536, found 0"},
    {"negative dim",             0, DIM_AT, -12, -1, 0, "dim: expected 1 to 65536, found -12"},
    {"huge dim",                 0, DIM_AT, 1 << 30, -1, 0, "dim: expected 1 to 65536, found 1073741824"},
    {"dim and heads",            0, DIM_AT, 13, -1, 0, "expected dim to be a multiple of n_heads, found 13 and 2"},
    {"odd head size",            0, DIM_AT, 10, -1, 0, "head_dim: expected an even number, found 5"},
    {"another dim",              0, DIM_AT, 16, -1, 0, "for dim 16, hidden_dim 10"},
    {"huge hidden_dim",          0, HIDDEN_AT, INT32_MAX, -1, 0, "hidden_dim: expected 1 to 262144, found 2147483647"},
    {"no layers",                0, LAYERS_AT, 0, -1, 0, "n_layers: expected 1 to 1024, found 0"},
    {"huge n_layers",            0, LAYERS_AT, 1 << 30, -1, 0, "n_layers: expected 1 to 1024"},
    {"a layer more",             0, LAYERS_AT, 3, -1, 0, "n_layers 3"},
    {"no heads",                 0, HEADS_AT, 0, -1, 0, "expected dim to be a multiple of n_heads, found 12 and 0"},
    {"negative heads",           0, HEADS_AT, -1, -1, 0, "found 12 and -1"},
    {"no kv heads",              0, KV_HEADS_AT, 0, -1, 0, "n_kv_heads: expected 1 to 4096, found 0"},
    {"more kv heads than heads", 0, KV_HEADS_AT, 3, -1, 0, "n_heads: expected a multiple of n_kv_heads (3), found 2"},
    {"no vocabulary",            0, VOCAB_AT, 0, -1, 0, "vocab_size: expected 1 to 4194304, found 0"},
    {"least vocabulary",         0, VOCAB_AT, INT32_MIN, -1, 0, "vocab_size: expected 1 to 4194304, found -2147483648"},
    {"tied by its sign",         0, VOCAB_AT, 11, -1, 0, "vocab_size 11 (tied)"},
    {"negative seq_len",         0, SEQ_AT, -8, -1, 0, "seq_len: expected 1 to 4194304, found -8"},
    {"another seq_len",          0, SEQ_AT, 9, -1, 0, "seq_len 9"},
    {"version 1: half a header", 1, NO_FIELD, 0, 255, 0, "expected a header of 256 bytes, found 255 bytes"},
    {"version 1: a byte short",  1, NO_FIELD, 0, -1, -1, "found 7887"},
    {"version 1: too long",      1, NO_FIELD, 0, -1, 4, "found 7892"},
    {"version 1: no dim",        1, DIM_AT, 0, -1, 0, "dim: expected 1 to 65536, found 0"},
    {"version 1: vocabulary",    1, VOCAB_AT, -11, -1, 0, "vocab_size: expected 1 to 4194304, found -11"},
};

static void bad_bin_files_are_refused(void)
{
    Config c = small_config(false);
    for (size_t i = 0; i < sizeof bad_bins / sizeof *bad_bins; i++) {
        Model m;
        Err e = {""};
        Buf b = bin_version(bad_bins[i].version, &c);
        int32_t value = bad_bins[i].value;
        size_t header = bad_bins[i].version ? 8 : 0;
        if (bad_bins[i].field != NO_FIELD) memcpy(b.data + header + 4 * bad_bins[i].field, &value, sizeof value);
        for (int n = 0; n < bad_bins[i].longer; n++) buf_addc(&b, 0);
        if (bad_bins[i].longer < 0) b.len -= (size_t)-bad_bins[i].longer;
        if (bad_bins[i].size >= 0) b.len = (size_t)bad_bins[i].size;
        temp_write("bad.bin", b.data, b.len);
        if (!CHECK_FAILS(checkpoint_load(&m, temp_path("bad.bin"), &e), e, bad_bins[i].message))
            fprintf(stderr, "    (%s)\n", bad_bins[i].what);
        CHECK(strstr(e.text, "bad.bin: "));
        buf_free(&b);
    }
    Model m;
    Err e;
    Buf b = bin_version_1(&c);
    b.data[4] = 2;
    temp_write("bad.bin", b.data, b.len);
    CHECK_FAILS(checkpoint_load(&m, temp_path("bad.bin"), &e), e, "bad.bin: expected version 1, found 2");
    CHECK_FAILS(checkpoint_load(&m, temp_path("absent.bin"), &e), e, "absent.bin: cannot open: No such file");
    buf_free(&b);
}

// ---- bad input: safetensors ---------------------------------------------------------------------------------------

// A tensor's entry in a header.
#define T(name, dtype, shape, ...) \
    "'" name "':{'dtype':'" dtype "','shape':" shape ",'data_offsets':[" #__VA_ARGS__ "]}"

// A header, and the number of bytes of data. `length` is the header's length that the file gives; 0: the true one.
static const struct { const char *what, *header; size_t data; uint64_t length; const char *message;
} bad_tensors[] = {
    {"header longer than the file", "{}", 0, 3, "header length: expected at most 2, found 3"},
    {"header of 2^63 bytes", "{}", 0, 1ull << 63, "header length: expected at most 2, found 9223372036854775808"},
    {"header of all bits", "{}", 0, UINT64_MAX, "header length"},
    {"not JSON", "{'a':", 0, 0, "broken JSON"},
    {"not an object", "[]", 0, 0, "header: expected an object, found a list"},
    {"two values", "{} {}", 0, 0, "expected the end of the JSON value"},
    {"not UTF-8", "{'\xff':1}", 0, 0, "invalid UTF-8"},
    {"an entry that is a number", "{'a':1}", 0, 0, "a: dtype: expected F32, F16 or BF16, found none"},
    {"unknown dtype", "{" T("a", "F64", "[1]", 0, 8) "}", 8, 0, "a: dtype: expected F32, F16 or BF16, found F64"},
    {"integers", "{" T("a", "I32", "[1]", 0, 4) "}", 4, 0, "found I32"},
    {"shape is a number", "{" T("a", "F32", "1", 0, 4) "}", 4, 0, "a: shape: expected a list, found a number"},
    {"negative shape", "{" T("a", "F32", "[-1]", 0, 4) "}", 4, 0, "shape: expected whole numbers"},
    {"half an element", "{" T("a", "F32", "[0.5]", 0, 2) "}", 2, 0, "shape: expected whole numbers"},
    {"five dimensions", "{" T("a", "F32", "[1,1,1,1,1]", 0, 4) "}", 4, 0, "shape: expected at most 4 dimensions"},
    {"shape that overflows", "{" T("a", "F32", "[1099511627776,1099511627776]", 0, 4) "}", 4, 0, "shape: too large"},
    {"bytes that overflow", "{" T("a", "F32", "[1099511627776,4194304]", 0, 0) "}", 0, 0, "data_offsets: expected"},
    {"no offsets", "{'a':{'dtype':'F32','shape':[1]}}", 4, 0, "a: data_offsets: expected two offsets"},
    {"three offsets", "{" T("a", "F32", "[1]", 0, 4, 4) "}", 4, 0, "expected two offsets"},
    {"offset behind the file", "{" T("a", "F32", "[2]", 0, 8) "}", 4, 0, "offsets inside the file's 4 data bytes"},
    {"negative offset", "{" T("a", "F32", "[1]", -4, 0) "}", 4, 0, "expected two offsets"},
    {"offsets backwards", "{" T("a", "F32", "[1]", 4, 0) "}", 4, 0, "expected 4 bytes for F32 of shape [1], found -4"},
    {"another shape", "{" T("a", "F32", "[2,2]", 0, 12) "}", 12, 0, "16 bytes for F32 of shape [2,2], found 12"},
    {"half the size", "{" T("a", "F16", "[2]", 0, 8) "}", 8, 0, "expected 4 bytes for F16 of shape [2], found 8"},
    {"overlap", "{" T("a", "F32", "[2]", 0, 8) "," T("b", "F32", "[1]", 4, 8) "}", 8, 0, "b: data_offsets: overlaps"},
    {"the same place twice", "{" T("a", "F32", "[1]", 0, 4) "," T("b", "F32", "[1]", 0, 4) "}", 4, 0, "overlaps"},
    {"hole", "{" T("a", "F32", "[1]", 0, 4) "," T("b", "F32", "[1]", 8, 12) "}", 12, 0, "b: data_offsets: leaves"},
    {"hole at the beginning", "{" T("a", "F32", "[1]", 4, 8) "}", 8, 0, "a: data_offsets: leaves a hole"},
    {"something at the end", "{" T("a", "F32", "[1]", 0, 4) "}", 5, 0, "bytes from its header, found"},
    {"one name twice", "{" T("a", "F32", "[1]", 0, 4) "," T("a", "F32", "[1]", 4, 8) "}", 8, 0,
     "header: the key \"a\" stands twice"},
};

static void put_tensors(const char *name, const char *header, size_t data, uint64_t length)
{
    Buf b = {0};
    if (length == 0) length = strlen(header);
    buf_add(&b, &length, 8);
    buf_adds(&b, quoted(header));
    for (size_t n = 0; n < data; n++) buf_addc(&b, 0);
    temp_write(name, b.data, b.len);
    buf_free(&b);
}

static void bad_safetensors_are_refused(void)
{
    SafeTensors st;
    for (size_t i = 0; i < sizeof bad_tensors / sizeof *bad_tensors; i++) {
        Err e = {""};
        put_tensors("bad.safetensors", bad_tensors[i].header, bad_tensors[i].data, bad_tensors[i].length);
        if (!CHECK_FAILS(safetensors_open(&st, temp_path("bad.safetensors"), &e), e, bad_tensors[i].message))
            fprintf(stderr, "    (%s)\n", bad_tensors[i].what);
        CHECK(strstr(e.text, "bad.safetensors:"));
    }
    Err e;
    temp_write("bad.safetensors", "1234567", 7);
    CHECK_FAILS(safetensors_open(&st, temp_path("bad.safetensors"), &e), e, "expected at least 8 bytes, found 7");
    CHECK_FAILS(safetensors_open(&st, temp_dir, &e), e, "expected a file, found a folder");
}

// These files look odd, but the format allows them.
static void odd_safetensors_are_read(void)
{
    static const struct { const char *header; size_t data, n; } odd_ones[] = {
        {"{}", 0, 0},
        {"{'__metadata__':{'format':'pt'}}", 0, 0},
        {"{" T("empty", "F32", "[0,5]", 0, 0) "," T("scalar", "F32", "[]", 0, 4) "}      ", 4, 2},
        {"{" T("b", "F32", "[1]", 4, 8) "," T("a", "BF16", "[2,1,1,1]", 0, 4) "}", 8, 2},
    };
    for (size_t i = 0; i < sizeof odd_ones / sizeof *odd_ones; i++) {
        SafeTensors st;
        Err e;
        put_tensors("odd.safetensors", odd_ones[i].header, odd_ones[i].data, 0);
        must(safetensors_open(&st, temp_path("odd.safetensors"), &e), &e);
        CHECK(st.n == odd_ones[i].n);
        CHECK(!safetensors_find(&st, "absent"));
        for (size_t t = 0; t < st.n; t++) CHECK(safetensors_find(&st, st.tensors[t].name) == &st.tensors[t]);
        safetensors_close(&st);
    }
}

// ---- bad input: folders -------------------------------------------------------------------------------------------

// One key of a good config.json set to another value; NULL: left out.
static const struct { const char *key, *value, *message; } bad_configs[] = {
    {"architectures", "['GPT2LMHeadModel']", "SmolLM3ForCausalLM, found GPT2LMHeadModel"},
    {"model_type", "'gemma3'", "model_type: expected one of llama, mistral, qwen2, qwen3, smollm3, found gemma3"},
    {"attention_bias", "true", "tensors missing: model.layers.0.self_attn.q_proj.bias"},
    {"mlp_bias", "true", "mlp_bias is not supported"},
    {"quantization_config", "{'bits': 4}", "quantization_config is not supported"},
    {"hidden_act", "'gelu'", "hidden_act: expected 'silu', found 'gelu'"},
    {"partial_rotary_factor", "0.5", "partial_rotary_factor is not supported"},
    {"rope_scaling", "{'rope_type': 'yarn', 'factor': 2}", "expected 'llama3' or 'default', found 'yarn'"},
    {"rope_scaling", "{'type': 'linear', 'factor': 2}", "found 'linear'"},
    {"rope_scaling", "{'factor': 2}", "rope_type: expected"},
    {"rope_scaling", "{'rope_type': 'llama3', 'factor': 2}", "rope_scaling: low_freq_factor: expected a number"},
    {"rope_scaling", "{'rope_type': 'llama3', 'factor': 8, 'low_freq_factor': 4, 'high_freq_factor': 4,"
     " 'original_max_position_embeddings': 64}", "high_freq_factor > low_freq_factor"},
    {"rope_theta", "-1", "rope_theta: expected a positive number, found -1"},
    {"rope_theta", "'10000'", "rope_theta: expected a number, found a string"},
    {"rms_norm_eps", "1", "norm_eps: expected 0 to 1, found 1"},
    {"hidden_size", NULL, "hidden_size: expected a whole number from 1 to 2147483647, found nothing"},
    {"intermediate_size", NULL, "intermediate_size: expected a whole number from 1 to 2147483647, found nothing"},
    {"num_hidden_layers", NULL, "num_hidden_layers: expected a whole number from 1 to 2147483647, found nothing"},
    {"num_attention_heads", NULL, "num_attention_heads: expected a whole number from 1 to 2147483647, found nothing"},
    {"vocab_size", NULL, "vocab_size: expected a whole number from 1 to 2147483647, found nothing"},
    {"hidden_size", "12.5", "hidden_size: expected a whole number from 1 to 2147483647, found 12.5"},
    {"hidden_size", "'12'", "hidden_size: expected a whole number from 1 to 2147483647, found a string"},
    {"hidden_size", "1e30", "hidden_size: expected a whole number from 1 to 2147483647, found 1e+30"},
    {"hidden_size", "100000", "dim: expected 1 to 65536, found 100000"},
    {"num_attention_heads", "0", "num_attention_heads: expected a whole number from 1 to 2147483647, found 0"},
    {"num_key_value_heads", "3", "expected a multiple of n_kv_heads (3), found 2"},
    {"head_dim", "5", "head_dim: expected an even number, found 5"},
    {"tie_word_embeddings", "'yes'", "tie_word_embeddings: expected true or false, found a string"},
    // These do not fit the tensors.
    {"hidden_size", "14", "expected shape"},
    {"head_dim", "8", "q_proj.weight: expected shape [16,12], found [12,12]"},
    {"num_hidden_layers", "1", "tensors missing: none; unexpected: model.layers.1.input_layernorm.weight"},
    {"num_hidden_layers", "1024", " more; unexpected: none"},
    {"max_position_embeddings", "4194304", "max_position_embeddings: expected at most 2796202 for a model of "},
    {"vocab_size", "12", "model.embed_tokens.weight: expected shape [12,12], found [11,12]"},
};

static void check_bad_config(const cJSON *good, const char *key, const char *value, const char *message)
{
    Model m;
    Err e = {""};
    cJSON *json = cJSON_Duplicate(good, true);
    cJSON_DeleteItemFromObjectCaseSensitive(json, key);
    if (value) cJSON_AddItemToObject(json, key, cJSON_Parse(quoted(value)));
    char *text = cJSON_Print(json);
    temp_text("hf/config.json", text);
    CHECK_FAILS(checkpoint_load(&m, temp_path("hf"), &e), e, quoted(message));
    CHECK(strstr(e.text, temp_dir));
    cJSON_free(text);
    cJSON_Delete(json);
}

static void bad_configs_are_refused(void)
{
    static const struct { const char *text, *message; } no_configs[] = {
        {"", "config.json:1:1: broken JSON"},
        {"{\n  'hidden_size': }", "config.json:2:18: broken JSON"},
        {"[1]", "config.json: expected an object, found a list"},
        {"{} x", "config.json:1:4: expected the end of the JSON value"},
        {"{'hidden_act': '\xc3'}", "invalid UTF-8"},
    };
    Err e;
    Config c = small_config(true);
    Model m = saved_folder("hf", &c), none;
    cJSON *good = json_load(temp_path("hf/config.json"), &e);
    must(good, &e);
    for (size_t i = 0; i < sizeof bad_configs / sizeof *bad_configs; i++)
        check_bad_config(good, bad_configs[i].key, bad_configs[i].value, bad_configs[i].message);
    for (size_t i = 0; i < sizeof no_configs / sizeof *no_configs; i++) {
        temp_text("hf/config.json", quoted(no_configs[i].text));
        CHECK_FAILS(checkpoint_load(&none, temp_path("hf"), &e), e, no_configs[i].message);
    }
    cJSON_Delete(good);
    model_free(&m);
}

static void bad_tensors_are_refused(void)
{
    Err e;
    Config c = rich_config(false);
    Model m = saved_folder("hf", &c), none;
    SafeTensors st = tensors_of("hf");
    temp_folder("lacking");
    must(file_copy(temp_path("hf/config.json"), temp_path("lacking/config.json"), &e), &e);
    copy_tensors(&st, "lacking/model.safetensors", but_two, "model.layers.0.self_attn.q_proj.bias");
    CHECK_FAILS(checkpoint_load(&none, temp_path("lacking"), &e), e, "lacking: tensors missing: ");
    CHECK(strstr(e.text, "unexpected: model.layers.0.self_attn.q_proj.bias"));
    CHECK(strstr(e.text, st.tensors[3].name) && strstr(e.text, st.tensors[5].name));

    // An untied model whose file has no classifier, and a layer that the config does not know.
    Config tied = rich_config(true);
    Model other = saved_folder("tied", &tied);
    must(file_copy(temp_path("hf/config.json"), temp_path("tied/config.json"), &e), &e);
    CHECK_FAILS(checkpoint_load(&none, temp_path("tied"), &e), e, "tensors missing: lm_head.weight; unexpected: none");
    copy_tensors(&st, "lacking/model.safetensors", any, "model.layers.2.input_layernorm.weight");
    CHECK_FAILS(checkpoint_load(&none, temp_path("lacking"), &e), e,
                "tensors missing: none; unexpected: model.layers.2.input_layernorm.weight");
    safetensors_close(&st);
    model_free(&other);
    model_free(&m);
}

static void bad_indexes_are_refused(void)
{
    static const struct { const char *text, *message; } indexes[] = {
        {"{}", "weight_map: expected an object, found nothing"},
        {"{'weight_map': []}", "weight_map: expected an object, found a list"},
        {"{'weight_map': {'a': 1}}", "weight_map: a: expected a file name, found a number"},
        {"{'weight_map': {'a': ''}}", "weight_map: a: expected a file name"},
        {"{'weight_map': {'a': 'absent.safetensors'}}", "names a shard: "},
        {"{'weight_map': {'a': 'absent.safetensors'}}", "absent.safetensors: cannot open: No such file"},
        {"{'weight_map': {'a': '../hf/model.safetensors'}}", "expected a file name, found ../hf/model"},
        {"{'weight_map': {'a': '/etc/passwd'}}", "a: expected a file name, found /etc/passwd"},
        {"{'weight_map': {'a': '..'}}", "expected a file, found a folder"},
        {"{'weight_map': {'a': 'config.json'}}", "config.json: "},
        {"{'weight_map': {}}", "tensors missing: model.embed_tokens.weight, "},
        {"{'weight_map': {'a': 'model-00001-of-00002.safetensors'}}", "tensors missing: "},
        {"weight_map", "index.json:1:1: broken JSON"},
    };
    Config c = rich_config(false);
    Model m = sharded_folder(&c), none;
    for (size_t i = 0; i < sizeof indexes / sizeof *indexes; i++) {
        Err e = {""};
        temp_text("sharded/model.safetensors.index.json", quoted(indexes[i].text));
        CHECK_FAILS(checkpoint_load(&none, temp_path("sharded"), &e), e, indexes[i].message);
    }
    model_free(&m);
}

static void files_that_are_not_there(void)
{
    Config c = small_config(true), shape;
    Model m = saved_folder("parts", &c), none;
    Err e;
    temp_folder("nothing");
    CHECK_FAILS(checkpoint_load(&none, temp_path("nothing"), &e), e, "nothing/config.json: cannot open");
    CHECK_FAILS(checkpoint_config(&shape, temp_path("nothing"), &e), e, "nothing/config.json: cannot open");
    CHECK_FAILS(checkpoint_config(&shape, temp_path("nowhere"), &e), e, "nowhere: cannot open");
    must(file_copy(temp_path("parts/config.json"), temp_path("nothing/config.json"), &e), &e);
    CHECK_FAILS(checkpoint_load(&none, temp_path("nothing"), &e), e, "expected model.safetensors or model.");
    temp_folder("nothing/model.safetensors");
    CHECK_FAILS(checkpoint_load(&none, temp_path("nothing"), &e), e, "safetensors: expected a file, found a folder");
    CHECK_FAILS(formats[FORMAT_BIN].save(&m, temp_path("nowhere/model.bin"), NULL, &e), e,
                "nowhere/model.bin: cannot write");
    CHECK_FAILS(formats[FORMAT_FOLDER].save(&m, temp_path("nowhere"), NULL, &e), e,
                "nowhere/config.json: cannot write");
    model_free(&m);
}

int main(void)
{
    temp_begin();
    RUN(bin_files_load);
    RUN(bin_files_come_back_to_the_bit);
    RUN(bin_files_are_llama2cs);
    RUN(bin_files_say_no_more_than_they_can);
    RUN(folders_come_back_to_the_bit);
    RUN(folders_have_hugging_faces_row_order);
    RUN(a_folder_keeps_the_other_keys);
    RUN(shards_are_put_together);
    RUN(superfluous_tensors_are_passed_over);
    RUN(every_f16_and_bf16_reads_right);
    RUN(stories260K_is_the_same_in_both_formats);
    RUN(absent_keys_have_transformers_defaults);
    RUN(rope_settings_are_read_from_either_place);
    RUN(a_mistral_goes_as_far_as_its_window);
    RUN(rope_frequencies_are_transformers);
    RUN(bad_bin_files_are_refused);
    RUN(bad_safetensors_are_refused);
    RUN(odd_safetensors_are_read);
    RUN(bad_configs_are_refused);
    RUN(bad_tensors_are_refused);
    RUN(bad_indexes_are_refused);
    RUN(files_that_are_not_there);
    temp_end();
    return check_report();
}
