// What real users' model folders hold: declared tokens, odd config.json files, links that lead nowhere, files of
// another kind. Every folder is made here, of model/tiny. The ids and losses are those of transformers 5.23
// (tests/oracle/files.py).
#include "small_run.h"

#include "../model/checkpoint.h"
#include "../tokenizer/tokenizer.h"

// ---- folders ------------------------------------------------------------------------------------------------------

static void must(bool ok, const Err *e)
{
    if (ok) return;
    fprintf(stderr, "%s\n", e->text);
    temp_end();
    exit(1);
}

static const char *in_folder(const char *name) { return in_output("m", name); }

// A copy of model/tiny, in the folder m, without what an earlier test left there.
static void fresh_folder(void)
{
    static const char *const names[] = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
                                        "tokenizer_config.json", "chat_template.jinja"};
    Err e;
    remove_tree(temp_path("m"));
    must(dir_make(temp_path("m"), &e), &e);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *from = path_join("model/tiny", names[i]);
        must(file_copy(from, in_folder(names[i]), &e), &e);
        free(from);
    }
}

static void put(const char *name, const char *text)
{
    Err e;
    must(file_put(in_folder(name), text, strlen(text), &e), &e);
}

// The members of `keys` (JSON with ' for ") replace those of one of the folder's files; "absent" takes one out.
static void change(const char *name, const char *keys)
{
    Err e;
    cJSON *json = json_load(in_folder(name), &e), *given = cJSON_Parse(quoted(keys));
    must(json && CHECK_MSG(given, "%s", keys), &e);
    for (cJSON *v = given->child; v; v = v->next) {
        cJSON_DeleteItemFromObjectCaseSensitive(json, v->string);
        if (cJSON_IsString(v) && strcmp(v->valuestring, "absent") == 0) continue;
        cJSON_AddItemToObject(json, v->string, cJSON_Duplicate(v, true));
    }
    must(json_save(json, in_folder(name), &e), &e);
    cJSON_Delete(json);
    cJSON_Delete(given);
}

// The row of tests/oracle/files.py, and a config that reads it with the folder.
static void write_row(void)
{
    Buf config = {0};
    temp_text("row.jsonl", quoted("{'input_ids': [0, 2, 83, 639, 277, 572, 579, 63, 506, 767, 300, 978, 836, 523, 264,"
                                  " 382, 117, 4, 3, 423, 4]}"));
    buf_addf(&config, "{\"dataset_name\": \"%s/row.jsonl\", \"model_name_or_path\": \"%s/m\"}", temp_dir, temp_dir);
    temp_text("config.json", config.data);
    buf_free(&config);
}

static bool output_has(const char *text)
{
    return CHECK_MSG(strstr(output, text), "\"%s\" is not in: %s", text, output);
}

// The command must fail with exit status 1, and say these words (each NULL: none).
static void refused(const char *arguments, const char *a, const char *b, const char *c)
{
    const char *words[] = {a, b, c};
    bool ok = CHECK_MSG(run("%s", arguments) == 1, "%s: %s", arguments, output);
    for (size_t i = 0; i < 3; i++)
        if (words[i]) ok &= output_has(words[i]);
    if (ok) n_refused++;
}

static const char *command(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static const char *command(const char *fmt, ...)
{
    static char text[2048];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return text;
}

// ---- config.json and weights --------------------------------------------------------------------------------------

static void check_loss(const char *what, double want)
{
    CHECK_MSG(run("eval %s --json", temp_path("config.json")) == 0, "%s: %s", what, output);
    cJSON *json = cJSON_Parse(output);
    double got = json ? json_get(json, "eval_loss")->valuedouble : NAN;
    CHECK_MSG(fabs(got - want) < 2e-5, "%s: loss %.6f, wanted %.6f", what, got, want);
    cJSON_Delete(json);
}

#define LLAMA3 "'rope_type': 'llama3', 'factor': 8, 'low_freq_factor': 1, 'high_freq_factor': 4"

static void rope_settings_in_several_places(void)
{
    static const struct { const char *keys; double loss; } cases[] = {
        {"{}", 8.649992},
        {"{'rope_theta': 500, 'rope_parameters': {'rope_type': 'default'}}", 8.829882},
        {"{'rope_theta': 500, 'rope_parameters': {'rope_theta': 300}}", 8.848726},
        {"{'rope_theta': 500, 'rope_parameters': {}}", 8.829882},
        {"{'rope_theta': 'absent', 'rope_scaling': {" LLAMA3 ", 'original_max_position_embeddings': 16},"
         " 'rope_parameters': {'rope_theta': 300}}", 8.698060},
        {"{'rope_theta': 'absent', 'rope_scaling': {}, 'rope_parameters': {'rope_theta': 300}}", 8.848726},
        {"{'rope_scaling': {" LLAMA3 "}}", 8.657430},
        {"{'rope_scaling': {" LLAMA3 "}, 'original_max_position_embeddings': 16}", 8.698060},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fresh_folder();
        change("config.json", cases[i].keys);
        check_loss(cases[i].keys, cases[i].loss);
    }
    fresh_folder();
    change("config.json", "{'rope_parameters': {'full_attention': {'rope_theta': 300}}}");
    refused(command("eval %s", temp_path("config.json")), "config.json", "rope_parameters: full_attention", NULL);
    change("config.json", "{'rope_parameters': 'absent', 'rope_scaling': 'yarn'}");
    refused(command("eval %s", temp_path("config.json")), "rope_scaling: expected an object, found a string", NULL,
            NULL);
}

// Writes model.safetensors anew, with an lm_head: the embedding's rows times a factor, the last row first if reversed.
static void add_head(float factor, bool reversed)
{
    Err e;
    Model m;
    must(checkpoint_load(&m, "model/tiny", &e), &e);
    Config c = m.config;
    c.tied = false;
    Model untied;
    must(model_init(&untied, &c, &e), &e);
    size_t rows = (size_t)c.vocab_size, dim = (size_t)c.dim;
    for (TensorId id = 0; id < N_TENSORS; id++)
        for (size_t l = 0; l < tensor_count(&c, id); l++)
            if (id != CLASSIFIER)
                memcpy(model_param(&untied, id, l), model_param(&m, id, l), 4 * tensor_size(&c, id));
    float *from = model_param(&m, TOK_EMB, 0), *to = model_param(&untied, CLASSIFIER, 0);
    for (size_t i = 0; i < rows * dim; i++)
        to[i] = factor * from[reversed ? (rows - 1 - i / dim) * dim + i % dim : i];
    must(formats[FORMAT_FOLDER].save(&untied, temp_path("m"), NULL, &e), &e);
    model_free(&m);
    model_free(&untied);
    must(file_copy("model/tiny/config.json", in_folder("config.json"), &e), &e);       // it says that they are tied
}

static void a_head_of_its_own_is_used(void)
{
    fresh_folder();
    add_head(2, true);
    check_loss("another head", 23.680527);
    CHECK_MSG(run("export %s %s", temp_path("m"), temp_path("exported")) == 0, "%s", output);
    CHECK_MSG(run("eval %s --json --model_name_or_path=%s", temp_path("config.json"), temp_path("exported")) == 0, "%s",
              output);
    output_has("\"eval_loss\":23.6805");
    add_head(1, false);
    check_loss("the same head", 8.649992);
    Config c;
    Err e;
    CHECK(checkpoint_config(&c, temp_path("m"), &e) && c.tied);
}

static void a_mistral_without_a_window(void)
{
    fresh_folder();
    change("config.json", "{'model_type': 'mistral', 'architectures': ['MistralForCausalLM'],"
                          " 'max_position_embeddings': 32768}");
    refused(command("eval %s --max_length=5000", temp_path("config.json")), "max_length", "4096", "sliding_window");
    CHECK(run("eval %s --max_length=4096", temp_path("config.json")) == 0);
    change("config.json", "{'sliding_window': null}");
    CHECK(run("eval %s --max_length=5000", temp_path("config.json")) == 0 && !strstr(output, "max_length"));
    CHECK(run("eval %s --max_length=40000", temp_path("config.json")) == 0);
    output_has("max_length 40000 is cut to the model's max_position_embeddings, 32768");
    change("config.json", "{'sliding_window': 20}");       // the row has 21 tokens
    refused(command("eval %s", temp_path("config.json")), "row.jsonl:1: expected at most 20 tokens",
            "the model's sliding_window", "max_length=20 cuts such rows");
    CHECK(run("eval %s --max_length=20", temp_path("config.json")) == 0);
    CHECK(run("eval %s --max_length=21", temp_path("config.json")) == 1);
    change("config.json", "{'sliding_window': 21}");
    CHECK(run("eval %s", temp_path("config.json")) == 0);
    change("config.json", "{'sliding_window': 0}");
    refused(command("eval %s", temp_path("config.json")), "config.json: sliding_window", "found 0", NULL);
}

// As in PEFT.
static void a_smollm3_has_no_default_targets(void)
{
    static const char lora[] = "%s --model_name_or_path=tests/fixtures/families/smollm3 --use_peft=true "
                               "--tokenizer_name_or_path=model/tiny --output_dir=%s";
    refused(command(lora, temp_path("config.json"), temp_path("out")), "lora_target_modules: there is no default for ",
            "smollm3", "all-linear");
}

static void keys_of_model_init(void)
{
    static const struct { const char *keys, *words[2]; } bad[] = {
        {"'num_key_value_head': 2", {"model_init: unknown key \"num_key_value_head\"", "\"num_key_value_heads\""}},
        {"'rope_parameters': {'rope_thet': 500}", {"model_init: rope_parameters: unknown key", "\"rope_theta\""}},
        {"'zzzzzzzzzzzz': 1", {"unknown key \"zzzzzzzzzzzz\"", NULL}},
        {"'initializer_range': 0.5", {"unknown key \"initializer_range\"", NULL}},
    };
    static const char init[] = "eval %s --model_name_or_path=null --tokenizer_name_or_path=model/tiny --model_init='"
                               "{\"hidden_size\": 8, \"intermediate_size\": 8, \"num_hidden_layers\": 1, "
                               "\"num_attention_heads\": 2, %s}'";
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused(command(init, temp_path("config.json"), quoted(bad[i].keys)), bad[i].words[0], bad[i].words[1], NULL);
    const char *harmless = quoted("'use_cache': true, 'bos_token_id': 1, 'torch_dtype': 'float32'");
    CHECK_MSG(run(init, temp_path("config.json"), harmless) == 0, "%s", output);
}

// ---- files that are not what they seem ----------------------------------------------------------------------------

static void an_adapter_beside_a_model(void)
{
    fresh_folder();
    put("adapter_config.json", "{}");
    static const char why[] = "base_model_name_or_path: expected the folder or file of the adapter's base, found none";
    refused(command("eval %s", temp_path("config.json")), "m: ", why, NULL);
    refused(command("chat %s --prompt=x", temp_path("m")), "m: ", why, NULL);
    refused(command("export %s %s", temp_path("m"), temp_path("out.bin")), "m: ", why, NULL);
}

static void links_that_lead_nowhere(void)
{
    static const char *const names[] = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
                                        "chat_template.jinja", "generation_config.json", "special_tokens_map.json",
                                        "added_tokens.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        fresh_folder();
        unlink(in_folder(names[i]));
        CHECK(symlink("gone", in_folder(names[i])) == 0);
        refused(command("chat %s --prompt=x --max_new_tokens=1", temp_path("m")), names[i], "it is a link", NULL);
    }
    refused(command("eval %s --dataset_name=%s", temp_path("config.json"), in_folder("added_tokens.json")),
            "it is a link", NULL, NULL);
    unlink(in_folder("generation_config.json"));
    put("generation_config.json", "{");
    unlink(in_folder("added_tokens.json"));
    refused(command("chat %s --prompt=x", temp_path("m")), "generation_config.json", "broken JSON", NULL);
}

static void files_of_another_kind(void)
{
    static const struct { const char *begin; const char *words[2]; } kinds[] = {
        {"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", {"Git LFS pointer", "git lfs pull"}},
        {"PK\3\4 and more", {"zip archive", "safetensors"}},
        {"\x80\2\x8a\n and more", {"pickle", "safetensors"}},
        {"GGUF and more", {"GGUF file", NULL}},
        {"\n\16\n\5<unk>\25", {"SentencePiece", "tokenizer.json"}},
        {"IQ== 0\nIg== 1\n", {"tiktoken", "tokenizer.json"}},
        {"PAR1 and more", {"Parquet", ".jsonl"}},
        {"\x1f\x8b\b and more", {"gzip", "unpack"}},
    };
    static const char *const names[] = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const char *a = kinds[i].words[0], *b = kinds[i].words[1];
        for (size_t j = 0; j < sizeof names / sizeof *names; j++) {
            fresh_folder();
            put(names[j], kinds[i].begin);
            refused(command("sample %s --prompt=x", temp_path("m")), names[j], a, b);
        }
        fresh_folder();
        const char *file = temp_text("odd.bin", kinds[i].begin);
        refused(command("sample %s --prompt=x", file), "odd.bin", a, b);
        refused(command("eval %s --dataset_name=%s", temp_path("config.json"), file), "odd.bin", a, b);
    }
    fresh_folder();
    unlink(in_folder("model.safetensors"));
    put("pytorch_model.bin", "PK\3\4");
    refused(command("sample %s", temp_path("m")), "model.safetensors", "pytorch_model.bin", "convert");
    fresh_folder();
    unlink(in_folder("tokenizer.json"));
    put("tokenizer.model", "\n\16\n\5<unk>");
    refused(command("sample %s", temp_path("m")), "expected tokenizer.json", "tokenizer.model", "AutoTokenizer");
    fresh_folder();                                        // it may lie beside a tokenizer.json, and goes along
    put("tokenizer.model", "\n\16\n\5<unk>");
    CHECK_MSG(run("export %s %s", temp_path("m"), temp_path("copied")) == 0, "%s", output);
    CHECK(file_exists(in_output("copied", "tokenizer.model")));
}

static void names_of_the_hub(void)
{
    fresh_folder();
    static const char *const keys[] = {"model_name_or_path", "tokenizer_name_or_path", "dataset_name"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        refused(command("eval %s --%s=someone/some-model", temp_path("config.json"), keys[i]), "someone/some-model",
                "Nothing is downloaded", "folder");
    refused("chat someone/some-model-2.5", "someone/some-model-2.5", "Nothing is downloaded", "folder");
    refused("sample gpt2", "gpt2", "Nothing is downloaded", "folder");
    refused("export https://host/a/model.bin out", "Nothing is downloaded", NULL, NULL);
    CHECK(run("sample configs/absent.bin") == 1 && !strstr(output, "download"));
}

// ---- tokens -------------------------------------------------------------------------------------------------------

static Tokenizer *tokenizer(void)
{
    Err e;
    Tokenizer *t = tokenizer_load(temp_path("m"), &e);
    if (!CHECK_MSG(t, "%s", e.text)) exit(1);
    return t;
}

static void check_ids(const char *want)
{
    static const char text[] = "a <x>b<y> <z> c";
    Encoding enc = {0};
    Buf got = {0};
    Err e;
    Tokenizer *t = tokenizer();
    CHECK(tokenizer_encode(t, text, strlen(text), PARSE_SPECIAL | ADD_SPECIAL_TOKENS, &enc, &e));
    for (size_t i = 0; i < enc.n; i++) buf_addf(&got, "%s%d", i ? " " : "", enc.ids[i]);
    CHECK_STR(got.data, want);
    buf_free(&got);
    encoding_free(&enc);
    tokenizer_free(t);
}

#define TOKEN(text) "{'content': '" text "', 'special': true, 'normalized': false"

static void declared_tokens_are_added(void)
{
    static const struct { const char *config, *map, *added, *ids; } cases[] = {
        {"{}", NULL, NULL, "0 102 37 65 125 67 103 65 126 67 37 65 127 67 274"},
        {"{'added_tokens_decoder': {'2000': " TOKEN("<y>") "}, '1500': " TOKEN("<x>") ", 'lstrip': true}}}", NULL, NULL,
         "0 102 1024 103 1025 37 65 127 67 274"},
        {"{'extra_special_tokens': ['<z>', '<x>']}", NULL, NULL, "0 102 37 1025 103 65 126 67 37 1024 274"},
        {"{'extra_special_tokens': {'image_token': '<z>'}, 'y_token': '<y>'}", NULL, NULL,
         "0 102 37 65 125 67 103 1024 37 1025 274"},
        {"{'pad_token': '<y>', 'additional_special_tokens': ['<x>']}", NULL, NULL,
         "0 102 37 1025 103 1024 37 65 127 67 274"},
        {"{}", "{'eos_token': '<x>', 'pad_token': " TOKEN("<y>") "}}", NULL, "0 102 37 1024 103 1025 37 65 127 67 274"},
        {"{'added_tokens_decoder': {'1024': " TOKEN("<z>") "}}}", "{'pad_token': '<y>'}", NULL,
         "0 102 37 65 125 67 103 65 126 67 37 1024 274"},
        {"{}", NULL, "{'<y>': 1024, '<x>': 1025}", "0 102 37 1025 103 1024 37 65 127 67 274"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fresh_folder();
        change("tokenizer_config.json", cases[i].config);
        if (cases[i].map) put("special_tokens_map.json", quoted(cases[i].map));
        if (cases[i].added) put("added_tokens.json", quoted(cases[i].added));
        check_ids(cases[i].ids);
    }
    static const struct { const char *config, *added, *message; } bad[] = {
        {"{'added_tokens_decoder': {'1024': '<z>'}}", NULL, "added_tokens_decoder: \"1024\": expected an id"},
        {"{'added_tokens_decoder': {'x': " TOKEN("<z>") "}}}", NULL, "added_tokens_decoder: \"x\": expected an id"},
        {"{'added_tokens_decoder': {'9': {'content': '<z>', 'lstrip': 1}}}", NULL, "<z>.lstrip: expected true"},
        {"{}", "{'<z>': -1}", "added_tokens.json: \"<z>\": expected an id"},
        {"{}", "[]", "added_tokens.json: expected an object, found a list"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Err e = {""};
        fresh_folder();
        change("tokenizer_config.json", bad[i].config);
        if (bad[i].added) put("added_tokens.json", quoted(bad[i].added));
        CHECK_FAILS(tokenizer_load(temp_path("m"), &e), e, bad[i].message);
    }
}

// A token that is declared, where the model has no row for it.
static void ids_beyond_the_model(void)
{
    fresh_folder();
    change("tokenizer_config.json", "{'extra_special_tokens': ['<z>']}");
    temp_text("z.jsonl", quoted("{'text': 'a'}\n{'text': 'a<z>'}"));
    refused(command("eval %s --dataset_name=%s", temp_path("config.json"), temp_path("z.jsonl")), "z.jsonl:2", "<z>",
            "1024");
    refused(command("sample %s --prompt='<z>'", temp_path("m")), "<z>", "1024", NULL);
    refused(command("chat %s --prompt='<z>'", temp_path("m")), "<z>", "1024", NULL);
    temp_text("far.jsonl", quoted("{'input_ids': [1, 5000]}"));
    refused(command("inspect %s --dataset_name=%s --model_name_or_path=null --tokenizer_name_or_path=model/tiny",
                    temp_path("config.json"), temp_path("far.jsonl")), "far.jsonl:1", "input_ids[1]", "1023");
}

static void ids_that_no_token_has(void)
{
    Err e;
    Buf text = {0};
    Tokenizer *t = tokenizer_load("model/tiny", &e);
    int ids[] = {102, 1030, 103};
    tokenizer_pad(t, 1088);
    CHECK(tokenizer_vocab_size(t) == 1088 && !tokenizer_is_special(t, 1087) && !*tokenizer_piece(t, 1087));
    tokenizer_decode(t, ids, 3, true, &text);
    CHECK_STR(text.data, "ab");
    buf_free(&text);
    tokenizer_free(t);
    static const char init[] = "%s %s --model_name_or_path=null --tokenizer_name_or_path=model/tiny --model_init='{"
                               "\"hidden_size\": 8, \"intermediate_size\": 8, \"num_hidden_layers\": 1, "
                               "\"num_attention_heads\": 2, \"vocab_size\": 1088}' --dataset_name=%s";
    temp_text("pad.jsonl", quoted("{'input_ids': [0, 102, 1030, 4], 'labels': [-100, 102, 1030, 4]}"));
    CHECK_MSG(run(init, "inspect", temp_path("config.json"), temp_path("pad.jsonl")) == 0, "%s", output);
    output_has("1030");
    CHECK_MSG(run(init, "eval", temp_path("config.json"), temp_path("pad.jsonl")) == 0, "%s", output);
    snprintf(output, sizeof output, "%s --max_steps=1 --output_dir=%s", temp_path("pad.jsonl"), temp_path("padded"));
    char *rest = mem_strdup(output);
    CHECK_MSG(run(init, "", temp_path("config.json"), rest) == 0, "%s", output);
    free(rest);
    CHECK_MSG(run("sample %s --prompt=a --max_new_tokens=40 --temperature=9", temp_path("padded")) == 0, "%s", output);
}

// llama2.c's run takes no empty piece: an id without a token is a NUL, which it does not print.
static void a_padded_model_becomes_a_bin(void)
{
    Err e;
    Config c = {.dim = 8, .hidden_dim = 8, .n_layers = 1, .n_heads = 2, .n_kv_heads = 2, .head_dim = 4,
                .vocab_size = 300, .seq_len = 16, .tied = true, .rope_theta = 10000, .norm_eps = 1e-5f};
    Model m;
    remove_tree(temp_path("m"));
    must(dir_make(temp_path("m"), &e) && model_init(&m, &c, &e), &e);
    model_randomize(&m, 1);
    must(formats[FORMAT_FOLDER].save(&m, temp_path("m"), NULL, &e), &e);
    Tokenizer *t = tokenizer_load(temp_byte_tokenizer(), &e);
    must(t && tokenizer_export_folder(t, temp_path("m"), &e), &e);
    tokenizer_free(t);
    unlink(temp_path("tokenizer.bin"));
    CHECK_MSG(run("export %s %s", temp_path("m"), temp_path("x.bin")) == 0, "%s", output);
    CHECK_MSG(run("sample %s --prompt=a --temperature=2 --max_new_tokens=15", temp_path("x.bin")) == 0, "%s", output);
    t = tokenizer_load(temp_path("tokenizer.bin"), &e);
    CHECK(t && tokenizer_vocab_size(t) == 300 && !*tokenizer_piece(t, 299) && *tokenizer_piece(t, 259));
    tokenizer_free(t);
    CHECK_MSG(run("export %s %s", temp_path("x.bin"), temp_path("back")) == 0, "%s", output);
    CHECK(same_files(in_folder("tokenizer.json"), in_output("back", "tokenizer.json")));
    unlink(temp_path("tokenizer.bin"));
    c.vocab_size = 259;                                    // fewer rows than the tokenizer has ids
    model_free(&m);
    must(model_init(&m, &c, &e), &e);
    must(formats[FORMAT_FOLDER].save(&m, temp_path("m"), NULL, &e), &e);
    refused(command("export %s %s", temp_path("m"), temp_path("y.bin")), "259", "260", NULL);
    model_free(&m);
}

// What transformers 5 makes other ids of. With tokenizer_class PreTrainedTokenizerFast it follows the tokenizer.json.
static void a_class_that_makes_other_ids(void)
{
    static const struct { const char *keys, *warning; } cases[] = {
        {"{}", NULL},
        {"{'add_prefix_space': true}", NULL},
        {"{'tokenizer_class': 'GPT2Tokenizer'}", NULL},
        {"{'tokenizer_class': 'GPT2TokenizerFast', 'add_prefix_space': true}", "add_prefix_space of GPT2Tokenizer"},
        {"{'tokenizer_class': 'LlamaTokenizer'}", NULL},                   // the file is byte-level
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fresh_folder();
        change("tokenizer_config.json", cases[i].keys);
        Tokenizer *t = tokenizer();
        const char *got = tokenizer_warning(t), *want = cases[i].warning;
        CHECK_MSG(want ? got && strstr(got, want) && strstr(got, "the first word") : !got, "%s: %s", cases[i].keys,
                  got ? got : "no warning");
        tokenizer_free(t);
    }
    change("tokenizer_config.json", "{'tokenizer_class': 'GPT2Tokenizer', 'add_prefix_space': true}");
    CHECK(run("inspect %s --json", temp_path("config.json")) == 0);
    output_has("train: warning: ");
    CHECK(!strstr(strstr(output, "warning: ") + 1, "warning: "));

    static const struct { const char *name, *value; } metaspace[] = {
        {"normalizer", "null"},
        {"pre_tokenizer", "{'type':'Metaspace','replacement':'\u2581','prepend_scheme':'first','split':false}"}};
    Err e;
    Tokenizer *t = tokenizer_load(temp_byte_tokenizer(), &e);
    must(t && tokenizer_export_folder(t, temp_path("m"), &e), &e);
    tokenizer_free(t);
    unlink(temp_path("tokenizer.bin"));
    t = tokenizer();
    CHECK(!tokenizer_warning(t));                          // what is exported is read alike
    tokenizer_free(t);
    change("tokenizer_config.json", "{'tokenizer_class': 'LlamaTokenizer', 'legacy': true}");
    t = tokenizer();
    const char *warning = tokenizer_warning(t);
    CHECK(warning && strstr(warning, "LlamaTokenizer") && strstr(warning, "begins with a space"));
    tokenizer_free(t);
    change("config.json", "{'model_type': 'mistral'}");    // there another class is taken
    t = tokenizer();
    CHECK(!tokenizer_warning(t));
    tokenizer_free(t);
    change("config.json", "{'model_type': 'llama'}");
    change("tokenizer_config.json", "{'legacy': false}");
    for (size_t i = 0; i < 2; i++) {
        cJSON *json = json_load(in_folder("tokenizer.json"), &e);
        cJSON_ReplaceItemInObjectCaseSensitive(json, metaspace[i].name, cJSON_Parse(quoted(metaspace[i].value)));
        must(json_save(json, in_folder("tokenizer.json"), &e), &e);
        cJSON_Delete(json);
    }
    t = tokenizer();
    CHECK(!tokenizer_warning(t));                          // the file says what the class does
    tokenizer_free(t);
    change("tokenizer_config.json", "{'eos_token': 'absent', 'unk_token': null}");
    t = tokenizer();                                       // the class has a name for it; null means none
    CHECK(tokenizer_eos(t) == 2 && !json_get(tokenizer_special_tokens(t), "unk_token"));
    tokenizer_free(t);
}

static void named_templates(void)
{
    Err e;
    fresh_folder();
    unlink(in_folder("chat_template.jinja"));
    change("tokenizer_config.json", "{'chat_template': [{'name': 'tool_use', 'template': 'T'},"
                                    " {'name': 'default', 'template': 'D'}]}");
    Tokenizer *t = tokenizer();
    CHECK_STR(tokenizer_chat_template(t), "D");
    CHECK_STR(tokenizer_named_template(t, "tool_use"), "T");
    CHECK(!tokenizer_named_template(t, "rag"));
    tokenizer_free(t);
    put("chat_template.jinja", "E");                       // the files replace the list
    must(dir_make(in_folder("additional_chat_templates"), &e), &e);
    put("additional_chat_templates/rag.jinja", "R");
    put("additional_chat_templates/notes.txt", "N");
    t = tokenizer();
    CHECK_STR(tokenizer_chat_template(t), "E");
    CHECK_STR(tokenizer_named_template(t, "rag"), "R");
    CHECK(!tokenizer_named_template(t, "tool_use") && !tokenizer_named_template(t, "notes"));
    tokenizer_free(t);
    CHECK_MSG(run("export %s %s", temp_path("m"), temp_path("named")) == 0, "%s", output);
    t = tokenizer_load(temp_path("named"), &e);
    CHECK_STR(t ? tokenizer_chat_template(t) : NULL, "E");
    CHECK_STR(t ? tokenizer_named_template(t, "rag") : NULL, "R");
    tokenizer_free(t);
    put("additional_chat_templates/rag.jinja", "\xFF");
    CHECK_FAILS(tokenizer_load(temp_path("m"), &e), e, "additional_chat_templates/rag.jinja: invalid UTF-8 at byte 0");
    remove_tree(in_folder("additional_chat_templates"));
    CHECK(symlink("gone", in_folder("additional_chat_templates")) == 0);
    CHECK_FAILS(tokenizer_load(temp_path("m"), &e), e, "additional_chat_templates: cannot open");
}

// ---- where a turn ends --------------------------------------------------------------------------------------------

static void check_eos(const char *file, const char *want)
{
    Err e;
    cJSON *json = json_load(in_output("out", file), &e);
    char *text = json ? cJSON_PrintUnformatted(json_get(json, "eos_token_id")) : NULL;
    CHECK_STR(text, want);
    cJSON_free(text);
    cJSON_Delete(json);
}

// A base model whose eos is <|endoftext|> learns turns that end in <|end|>: the folder says so, and chat stops there.
static void a_chat_stops_at_the_end_of_the_turn(void)
{
    fresh_folder();
    unlink(in_folder("generation_config.json"));
    temp_text("sky.jsonl", quoted("{'messages': [{'role': 'user', 'content': 'What is the sky?'},"
                                  " {'role': 'assistant', 'content': 'It is blue.'}]}"));
    Buf train = {0};
    buf_addf(&train, "%s --dataset_name=%s --output_dir=%s --learning_rate=0.003 --max_length=64 --warmup_steps=5 "
                     "--overwrite_output_dir=true --max_steps=", temp_path("config.json"), temp_path("sky.jsonl"),
             temp_path("out"));
    CHECK_MSG(run("%s80", train.data) == 0, "%s", output);
    check_eos("config.json", "[0,4]");
    CHECK(run("chat %s --prompt='What is the sky?' --temperature=0 --max_new_tokens=40", temp_path("out")) == 0);
    CHECK_STR(output, "It is blue.\n");
    // A folder that says nothing of it, as base models do: the template tells.
    Err e;
    must(file_copy(in_folder("config.json"), in_output("out", "config.json"), &e), &e);
    CHECK(run("chat %s --prompt='What is the sky?' --temperature=0 --max_new_tokens=40", temp_path("out")) == 0);
    CHECK_STR(output, "It is blue.\n");

    static const struct { const char *template, *eos; } templates[] = {
        {"{% for m in messages %}{{ m.role + m.content + '<|end|>' }}{% endfor %}", "[0,4]"},
        {"{% for m in messages %}{{ m.role + m.content + '<|end|>\\n' }}{% endfor %}{{ eos_token }}", "[0,4]"},
        {"{% for m in messages %}{{ m.role + m.content + eos_token }}{% endfor %}", "0"},
        {"{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}", "0"},
        {"{% for m in messages %}{{ '<|' + m.role + '|>' + m.content }}{% endfor %}", "0"},    // a header is no end
        {"{% for m in messages %}{{ m.role + m.content }}{% if not loop.last %}<|end|>{% endif %}{% endfor %}", "0"},
    };
    for (size_t i = 0; i < sizeof templates / sizeof *templates; i++) {
        temp_text("t.jinja", templates[i].template);
        CHECK_MSG(run("%s0 --assistant_only_loss=false --chat_template_path=%s", train.data, temp_path("t.jinja")) == 0,
                  "%s", output);
        check_eos("config.json", templates[i].eos);
    }
    fresh_folder();
    change("generation_config.json", "{'eos_token_id': 7}");
    CHECK_MSG(run("%s0", train.data) == 0, "%s", output);
    check_eos("generation_config.json", "[7,0,4]");
    buf_free(&train);
}

int main(void)
{
    temp_begin();
    write_row();
    RUN(rope_settings_in_several_places);
    RUN(a_head_of_its_own_is_used);
    RUN(a_mistral_without_a_window);
    RUN(a_smollm3_has_no_default_targets);
    RUN(keys_of_model_init);
    RUN(an_adapter_beside_a_model);
    RUN(links_that_lead_nowhere);
    RUN(files_of_another_kind);
    RUN(names_of_the_hub);
    RUN(declared_tokens_are_added);
    RUN(ids_beyond_the_model);
    RUN(ids_that_no_token_has);
    RUN(a_padded_model_becomes_a_bin);
    RUN(a_class_that_makes_other_ids);
    RUN(named_templates);
    RUN(a_chat_stops_at_the_end_of_the_turn);
    temp_end();
    return check_report();
}
