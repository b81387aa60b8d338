// Runs that train a LoRA adapter of model/tiny: what they say, write and refuse. The numbers are test_lora's.
#include "program.h"

static const char RUN_OF[] = "%s %s --output_dir=%s --max_steps=6 --save_steps=3 --logging_steps=1 %s";

static int train_into(const char *dir, const char *more)
{
    return run(RUN_OF, "", temp_path("config.json"), temp_path(dir), more);
}

static double eval_loss(const char *model)
{
    int status = run("eval %s --json --use_peft=null --model_name_or_path=%s", temp_path("config.json"), model);
    if (!CHECK_MSG(status == 0, "%s", output)) return NAN;
    char *json = strrchr(output, '{');
    return json ? strtod(strstr(json, "eval_loss") + 11, NULL) : NAN;
}

static void says(const char *text) { CHECK_MSG(strstr(output, text), "no \"%s\" in %s", text, output); }

static const char *adapter_in(const char *dir) { return in_output(dir, "adapter_model.safetensors"); }

// ---- a run --------------------------------------------------------------------------------------------------------

// Of model/tiny's q_proj and v_proj, 4 layers with r 16: 16 * (128 + 128) + 16 * (128 + 64) numbers each, 28,672.
static void a_run_says_what_it_trains(void)
{
    if (!CHECK_MSG(train_into("out", "") == 0, "%s", output)) return;
    says("LoRA on [\"q_proj\",\"v_proj\"] of model/tiny: r 16, lora_alpha 32, scale 2, dropout 0.05, 0 trained tokens");
    says("trainable params: 28,672 || all params: 750,720 || trainable%: 3.8193\n");
    CHECK(!strstr(output, "1e-4 to 2e-4"));
    says("warning: the token that ends a turn, <|end|>, has a loss of ");
    says("lora_trainable_tokens=template");
    CHECK(file_exists(adapter_in("out")) && file_exists(in_output("out", "tokenizer.json")) &&
          file_exists(in_output("out", "chat_template.jinja")) && !file_exists(in_output("out", "model.safetensors")) &&
          !file_exists(in_output("out", "config.json")));
    CHECK(file_exists(in_output("out", "checkpoint-3/adapter_model.safetensors")) &&
          !file_exists(in_output("out", "checkpoint-3/model.safetensors")));
}

// The same keys in the same order as PEFT has them.
static void adapter_config_is_pefts(void)
{
    Err e;
    cJSON *ours = json_load(in_output("out", "adapter_config.json"), &e);
    cJSON *pefts = json_load("tests/fixtures/lora/qv/adapter_config.json", &e);
    const cJSON *a = ours ? ours->child : NULL, *b = pefts->child;
    for (; a && b; a = a->next, b = b->next) CHECK_STR(a->string, b->string);
    CHECK(ours && !a && !b);
    CHECK_STR(json_string(ours, "base_model_name_or_path"), "model/tiny");
    CHECK(json_get(ours, "r")->valuedouble == 16 && cJSON_IsTrue(json_get(ours, "inference_mode")));
    cJSON_Delete(ours);
    cJSON_Delete(pefts);
}

static void resume_and_threads_give_the_same_bits(void)
{
    char more[256];
    CHECK_MSG(train_into("threads", "--n_threads=1") == 0, "%s", output);
    CHECK(same_files(adapter_in("out"), adapter_in("threads")));
    snprintf(more, sizeof more, "--n_threads=2 --resume_from_checkpoint=%s", in_output("threads", "checkpoint-3"));
    CHECK_MSG(train_into("threads", more) == 0, "%s", output);
    CHECK(same_files(adapter_in("out"), adapter_in("threads")));
    CHECK(same_files(in_output("out", "checkpoint-6/optimizer.safetensors"),
                     in_output("threads", "checkpoint-6/optimizer.safetensors")));
    CHECK(train_into("threads", "--resume_from_checkpoint=latest --lora_r=4") == 1);
    says("the checkpoint is of another config: lora_r was 16 and is 4");
    CHECK_MSG(train_into("other", "--seed=43") == 0, "%s", output);
    CHECK(!same_files(adapter_in("out"), adapter_in("other")));
}

// With the rows of the chat's tokens trained, PEFT's 512 parameters more, the end of a turn is learned.
static void tokens_of_the_template_are_trained(void)
{
    if (!CHECK_MSG(train_into("tokens", "--lora_trainable_tokens=template --lora_target_modules=all-linear "
                                        "--lora_dropout=0 --max_steps=30") == 0, "%s", output)) return;
    says("trainable params: 131,584 || all params: 853,632 ||");
    CHECK(!strstr(output, "warning: the token that ends a turn"));
    CHECK(run("chat %s --prompt='Name the kind: any long trip' --temperature=0 --max_new_tokens=20",
              temp_path("tokens")) == 0);
    CHECK_MSG(strlen(output) < 20, "%s", output);          // one word, and then it stops
}

// ---- an adapter's folder stands where a model does ----------------------------------------------------------------

static void an_exported_adapter_is_the_same_model(void)
{
    char merged[160];
    snprintf(merged, sizeof merged, "%s", temp_path("merged"));
    double unmerged = eval_loss(temp_path("tokens"));
    CHECK_MSG(run("export %s %s", temp_path("tokens"), merged) == 0, "%s", output);
    CHECK(!file_exists(in_output("merged", "adapter_config.json")));
    CHECK_MSG(fabs(eval_loss(merged) - unmerged) < 1e-6 * unmerged, "%g", unmerged);
    CHECK(fabs(eval_loss("model/tiny") - unmerged) > 1);
    CHECK_MSG(run("sample %s --prompt='the act of' --max_new_tokens=4", temp_path("tokens")) == 0, "%s", output);
    CHECK_MSG(run("inspect %s --use_peft=null --model_name_or_path=%s --row=1", temp_path("config.json"),
                  temp_path("tokens")) == 0, "%s", output);
}

// Training goes on with it, and what is not given is the adapter's.
static void a_run_goes_on_with_an_adapter(void)
{
    char more[512];
    double before = eval_loss(temp_path("tokens"));
    snprintf(more, sizeof more, "--use_peft=null --model_name_or_path=%s --max_steps=1 --learning_rate=0",
             temp_path("tokens"));
    if (!CHECK_MSG(train_into("further", more) == 0, "%s", output)) return;
    says("scale 2, dropout 0, 4 trained tokens\n");
    CHECK_MSG(eval_loss(temp_path("further")) == before, "%g", before);
    CHECK(same_files(adapter_in("tokens"), adapter_in("further")));
    // its record says what it was, and makes the same run again
    snprintf(more, sizeof more, "--use_peft=null --model_name_or_path=%s --max_steps=1", temp_path("out"));
    CHECK_MSG(train_into("recorded", more) == 0, "%s", output);
    const char *record = in_output("recorded", "train_config.json");
    CHECK_MSG(run("%s --output_dir=%s", record, temp_path("again")) == 0, "%s", output);
    CHECK(same_files(adapter_in("recorded"), adapter_in("again")));
}

// A model of its own in the same folder takes the adapter's place.
static void a_whole_model_replaces_an_adapter(void)
{
    CHECK(train_into("other", "--use_peft=null") == 1);
    says("holds a model, checkpoints or a comparison already");
    CHECK_MSG(train_into("other", "--use_peft=null --overwrite_output_dir=true --max_steps=1") == 0, "%s", output);
    CHECK(file_exists(in_output("other", "model.safetensors")));
    CHECK(!file_exists(in_output("other", "adapter_config.json")));
}

// ---- what is refused ----------------------------------------------------------------------------------------------

static void wrong_options(void)
{
    const struct { const char *options, *message; } cases[] = {
        {"--use_peft=false --lora_r=4", "lora_r: it describes an adapter, and use_peft is not true"},
        {"--use_peft=null --use_rslora=true", "use_rslora: it describes an adapter, and use_peft is not true"},
        {"--lora_r=0", "lora_r: expected a whole number, 1 to 65536, found 0"},
        {"--lora_target_modules=[]", "target_modules: expected a list of names"},
        {"--lora_target_modules=Wqkv", "no linear of the model is a \"Wqkv\""},
        {"--lora_target_modules='[\"q_proj\",\"lm_head\"]'", "no linear of the model is a \"lm_head\""},
        {"--lora_target_modules='(q|k)_proj'", "target_modules: expected names, found (q|k)_proj"},
        {"--lora_trainable_tokens=nothing", "lora_trainable_tokens: expected tokens or ids, or template"},
        {"--lora_trainable_tokens=[5000]", "trainable_token_indices: expected different ids from 0 to 1023"},
        {"--base_model_name_or_path=model/tiny", "base_model_name_or_path: expected an adapter's folder as model_name"},
        {"--use_peft=null --model_name_or_path=null --model_init={} --base_model_name_or_path=model/tiny",
         "base_model_name_or_path: expected an adapter's folder as model_name_or_path, found model_init"},
        {"--model_name_or_path=null --tokenizer_name_or_path=model/tiny --model_init='{\"hidden_size\": 8, "
         "\"intermediate_size\": 8, \"num_hidden_layers\": 1, \"num_attention_heads\": 2}'",
         "use_peft: expected model_name_or_path, a base"},
        {"--use_dora=true", "use_dora: expected false, found true"},
        {"--model_name_or_path=%s --use_peft=false", "use_peft: expected true, found false"},
        {"--model_name_or_path=%s --lora_r=4", "lora_r: expected 16, as the adapter"},
        {"--model_name_or_path=%s --lora_dropout=0.05", "lora_dropout: expected 0, as the adapter"},   // the default
        {"--model_name_or_path=%s --lora_target_modules=q_proj", "lora_target_modules: expected ["},
        {"--model_name_or_path=%s --lora_trainable_tokens='[3]'", "lora_trainable_tokens: expected [1,4,2,3]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char options[512];
        snprintf(options, sizeof options, cases[i].options, temp_path("tokens"));
        int status = train_into("wrong", options);
        if (!CHECK_MSG(status == 1 && strstr(output, cases[i].message), "%s: %s", options, output)) continue;
        n_refused++;
    }
}

// A base with the same shape and other numbers.
static void another_base(void)
{
    char tokens[160], other[160];
    snprintf(tokens, sizeof tokens, "%s", temp_path("tokens"));
    snprintf(other, sizeof other, "%s", temp_path("merged"));
    CHECK(run("sample %s --base_model_name_or_path=%s --max_new_tokens=1", tokens, other) == 1);
    says("it was trained on another base: expected base_sha256 ");
    CHECK(run("sample %s --base_model_name_or_path=%s --max_new_tokens=1 --on_base_mismatch=warn", tokens, other) == 0);
    says("warning: ");
    CHECK(run("sample %s --base_model_name_or_path=%s", tokens, tokens) == 1);
    says("is an adapter: export it");
}

static void the_base_is_as_it_was(void) { CHECK(same_files("model/tiny/model.safetensors", temp_path("base"))); }

int main(void)
{
    Err e;
    temp_begin();
    temp_text("config.json", quoted("{'model_name_or_path': 'model/tiny', 'use_peft': true, 'learning_rate': 0.005,"
                                    " 'dataset_name': 'data/wordnet/kinds_few.jsonl', 'logging_steps': 5}"));
    if (!file_copy("model/tiny/model.safetensors", temp_path("base"), &e)) return fprintf(stderr, "%s\n", e.text), 1;
    RUN(a_run_says_what_it_trains);
    RUN(adapter_config_is_pefts);
    RUN(resume_and_threads_give_the_same_bits);
    RUN(tokens_of_the_template_are_trained);
    RUN(an_exported_adapter_is_the_same_model);
    RUN(a_run_goes_on_with_an_adapter);
    RUN(a_whole_model_replaces_an_adapter);
    RUN(wrong_options);
    RUN(another_base);
    RUN(the_base_is_as_it_was);
    temp_end();
    return check_report();
}
