// Commands and configs as people type them: keys of TRL's, older names, slips, signals, and what a run says of itself.
#include "small_run.h"

#include "../data/run/progress.h"
#include "../model/optim.h"
#include "../model/sample.h"

#include <signal.h>

static const char *config(void) { return temp_path("config.json"); }
static bool says(const char *text) { return CHECK_MSG(strstr(output, text), "no \"%s\" in: %s", text, output); }
static bool silent_on(const char *text) { return CHECK_MSG(!strstr(output, text), "\"%s\" in: %s", text, output); }

// Lines of log.jsonl that have the key.
static int count_lines(const char *dir, const char *key)
{
    char line[4096], quoted_key[64];
    int n = 0;
    FILE *f = fopen(in_output(dir, "log.jsonl"), "r");
    snprintf(quoted_key, sizeof quoted_key, "\"%s\":", key);
    while (f && fgets(line, sizeof line, f)) n += strstr(line, quoted_key) != NULL;
    if (f) fclose(f);
    return n;
}

static bool has_checkpoint(const char *dir, int step)
{
    char name[32];
    snprintf(name, sizeof name, "checkpoint-%d", step);
    return file_exists(in_output(dir, name));
}

// ---- keys of TRL's ------------------------------------------------------------------------------------------------

// tests/oracle/trl_keys.py made it: every key of SFTConfig, ModelConfig and ScriptArguments with its default, and steps
// as transformers counts them.
static cJSON *load_fixture(void)
{
    Err e;
    cJSON *json = json_load("tests/fixtures/trl_keys.json", &e);
    CHECK_MSG(json, "%s", e.text);
    return json;
}

// A config that names every key at its default runs.
static void test_trl_defaults(void)
{
    Err e;
    cJSON *fixture = load_fixture(), *own = json_load(config(), &e);
    cJSON *all = cJSON_Duplicate(json_get(fixture, "defaults"), true);
    for (const cJSON *v = own ? own->child : NULL; v; v = v->next) {
        cJSON_DeleteItemFromObjectCaseSensitive(all, v->string);
        cJSON_AddItemToObject(all, v->string, cJSON_Duplicate(v, true));
    }
    CHECK(json_save(all, temp_path("all.json"), &e));
    CHECK_MSG(run("%s --max_steps=2 --output_dir=%s", temp_path("all.json"), temp_path("all")) == 0, "%s", output);
    says("gradient_checkpointing is the older name of activation_checkpointing");
    silent_on("has no effect");
    CHECK(count_lines("all", "eval_loss") == 0);           // eval_strategy "no"
    cJSON_Delete(all);
    cJSON_Delete(own);
    cJSON_Delete(fixture);
    remove_tree(temp_path("all"));
}

static cJSON *another_value(const cJSON *v)
{
    if (cJSON_IsBool(v)) return cJSON_CreateBool(!cJSON_IsTrue(v));
    if (cJSON_IsNumber(v)) return cJSON_CreateNumber(v->valuedouble + 1);
    return cJSON_CreateString("other");
}

// Every key at another value is taken, accepted since it changes nothing here, or refused with its name and a reason.
static void test_trl_values(void)
{
    cJSON *fixture = load_fixture();
    int taken = 0, accepted = 0, refused = 0;
    for (const cJSON *v = json_get(json_get(fixture, "defaults"), "output_dir"); v; v = v->next) {
        Options o;
        Err e = {""};
        cJSON *one = cJSON_CreateObject();
        cJSON_AddItemToObject(one, v->string, another_value(v));
        CHECK(json_save(one, temp_path("one.json"), &e));
        options_init(&o);
        if (options_load(&o, temp_path("one.json"), &e)) {
            bool ours = false;
            cJSON *now = options_json(&o);
            for (const cJSON *w = now->child; w; w = w->next) ours |= options_given(&o, w->string);
            taken += ours;
            accepted += !ours;
            cJSON_Delete(now);
        } else {
            refused++;
            char key[80];
            snprintf(key, sizeof key, "one.json: %s", v->string);
            const char *at = strstr(e.text, key);
            CHECK_MSG(at && strstr(e.text, ": expected ") && !strstr(e.text, "unknown"), "%s: %s", v->string, e.text);
        }
        options_free(&o);
        cJSON_Delete(one);
    }
    printf("     keys of TRL at another value: %d taken, %d without effect, %d refused\n", taken, accepted, refused);
    CHECK(taken + accepted + refused == 160);
    cJSON_Delete(fixture);
}

static void test_trl_reasons(void)
{
    static const struct { const char *argument, *message; } cases[] = {
        {"--bf16=true", "bf16: expected false, found true: all is computed in fp32 here"},
        {"--fp16", "fp16: expected false, found true: all is computed in fp32"},
        {"--dtype=bfloat16", "dtype: expected float32|auto|fp32, found bfloat16"},
        {"--torch_dtype=float16", "torch_dtype, the older name of dtype: expected float32"},
        {"--packing=true", "packing: expected false, found true: rows never touch each other here"},
        {"--use_dora=true", "use_dora: expected false, found true: only plain LoRA"},
        {"--lora_r=8", "lora_r: it describes an adapter, and use_peft is not true"},
        {"--report_to=wandb", "report_to: expected one of none|tensorboard, found wandb"},
        {"--report_to='[\"wandb\"]'", "report_to: expected one of none|tensorboard, found [\"wandb\"]"},
        {"--deepspeed=ds.json", "deepspeed: expected null, found ds.json"},
        {"--optim=adafactor", "optim: expected one of adamw_torch|sgd, found adafactor"},
        {"--eval_strategy=sometimes", "eval_strategy: expected one of no|steps|epoch"},
        {"--lr_scheduler_kwargs='{\"power\": 2}'", "lr_scheduler_kwargs: linear has no setting \"power\""},
        {"--lr_scheduler_type=reduce_lr_on_plateau", "lr_scheduler_type: expected one of linear|cosine|"},
        {"--loss_type=chunked_nll", "loss_type: expected one of nll|dft, found chunked_nll"},
        {"--loss_type=dft --label_smoothing_factor=0.1", "label_smoothing_factor: has no effect with loss_type dft"},
        {"--label_smoothing_factor=2", "label_smoothing_factor: expected a number, 0 to 1, found 2"},
        {"--neftune_noise_alpha=-1", "neftune_noise_alpha: expected a number"},
        {"--eos_token='<nothing>'", "eos_token: expected a token of"},
        {"--metric_for_best_model=bleu", "metric_for_best_model: expected one of eval_loss|"},
        {"--logging_steps=0", "logging_steps: expected a whole number or a part of 1, 1 or more, found 0"},
        {"--warmup_steps=1.5", "warmup_steps: expected a whole number or a part of 1, 0 or more, found 1.5"},
        {"--shuffle=maybe", "shuffle, the older name of train_sampling_strategy: expected one of random|sequential"},
        {"--load_best_model_at_end=true --eval_split=0", "load_best_model_at_end: expected held-out rows"},
        {"--load_best_model_at_end=true --eval_strategy=no", "load_best_model_at_end: expected held-out rows"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK(run("%s --output_dir=%s %s", config(), temp_path("bad"), cases[i].argument) == 1);
        n_refused += says(cases[i].message);
    }
    static const char *const good[] = {
        "--bf16=false --packing=false --report_to=none --optim=adamw_torch", "--optim=adamw_torch_fused --fp16=null",
        "--optim=adamw --report_to='[]' --fsdp= --eos_token='<EOS_TOKEN>' --lr_scheduler_kwargs={}",
        "--shuffle=false --eos_token='<s>'",
        "--train_sampling_strategy=sequential --max_length=null", "--no_cuda=true --per_gpu_train_batch_size=4",
        "--metric_for_best_model=loss --torch_dtype=float32",
        "--packing=False --activation_checkpointing=True --fp16=None",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        CHECK_MSG(run("%s --output_dir=%s --max_steps=1 %s", config(), temp_path("good"), good[i]) == 0, "%s", output);
        remove_tree(temp_path("good"));
    }
    CHECK(run("%s --output_dir=%s --max_steps=1 --dataset_num_proc=4", config(), temp_path("good")) == 0);
    says("dataset_num_proc has no effect: it changes speed or memory only");
    remove_tree(temp_path("good"));
}

// An older name is used like the new one, and a line says so. Where both are there, the new one counts.
static void test_older_names(void)
{
    Options o;
    Err e;
    temp_text("older.json",
              quoted("{'max_seq_length': 7, 'warmup_ratio': 0.5, 'warmup_steps': 0, 'shuffle': false, "
                     "'evaluation_strategy': 'epoch', 'gradient_checkpointing': true, 'eval_steps': null}"));
    options_init(&o);
    CHECK_MSG(options_load(&o, temp_path("older.json"), &e), "%s", e.text);
    CHECK(o.max_length == 7 && o.warmup_steps == 0.5 && o.activation_checkpointing == 1);
    CHECK_STR(o.train_sampling_strategy, "sequential");
    CHECK_STR(o.eval_strategy, "epoch");
    options_free(&o);
    temp_text("older.json", quoted("{'max_length': 9, 'max_seq_length': 7, 'activation_checkpointing': null, "
                                   "'gradient_checkpointing': true, 'warmup_ratio': 0.1, 'warmup_steps': 3}"));
    options_init(&o);
    CHECK_MSG(options_load(&o, temp_path("older.json"), &e), "%s", e.text);
    CHECK(o.max_length == 9 && o.activation_checkpointing == 1 && o.warmup_steps == 3);
    CHECK(options_set(&o, "--warmup_ratio=0.25", FOR_CONFIG, &e) && o.warmup_steps == 0.25);
    options_free(&o);
    CHECK(run("%s --output_dir=%s --max_steps=1 --max_seq_length=60", config(), temp_path("good")) == 0);
    says("train: max_seq_length is the older name of max_length\n");
    remove_tree(temp_path("good"));
}

// Parts of all steps, and the learning rates of a warm-up that is one, as transformers counts them.
static void test_parts_of_steps(void)
{
    cJSON *fixture = load_fixture();
    const cJSON *c;
    cJSON_ArrayForEach(c, json_get(fixture, "steps")) {
        static const char *const keys[] = {"logging", "eval", "save", "warmup"};
        Options o;
        Err e;
        char argument[64];
        int64_t total = (int64_t)json_get(c, "total")->valuedouble;
        options_init(&o);
        for (int i = 0; i < 4; i++) {
            snprintf(argument, sizeof argument, "--%s_steps=%.16g", keys[i], json_get(c, "part")->valuedouble);
            CHECK_MSG(options_set(&o, argument, FOR_CONFIG, &e), "%s", e.text);
        }
        o.max_steps = total;
        Plan p = plan_run(&o, 100);
        const int64_t got[] = {p.logging, p.eval, p.save, p.warmup};
        for (int i = 0; i < 4; i++)
            CHECK_MSG((double)got[i] == json_get(c, keys[i])->valuedouble, "%s of %lld: %lld", argument,
                      (long long)total, (long long)got[i]);
        int64_t step = 0;
        const cJSON *factor;
        Schedule s;
        CHECK(schedule_init(&s, "linear", NULL, 1, p.warmup, total, &e));
        cJSON_ArrayForEach(factor, json_get(c, "factors"))
            CHECK(fabs(schedule_factor(&s, step++) - factor->valuedouble) < 1e-12);
        options_free(&o);
    }
    cJSON_Delete(fixture);
}

// ---- slips --------------------------------------------------------------------------------------------------------

// eos_token ends plain texts, and is the template's variable.
static void test_eos_token(void)
{
    temp_text("texts.jsonl", quoted("{'text': 'hi'}\n"));
    CHECK(run("inspect %s --dataset_name=%s --eval_split=0 --json", config(), temp_path("texts.jsonl")) == 0);
    says(quoted("'text':'hi</s>'"));
    CHECK(run("inspect %s --dataset_name=%s --eval_split=0 --json --eos_token='<s>'", config(),
              temp_path("texts.jsonl")) == 0);
    says(quoted("'text':'hi<s>'"));
    CHECK(run("inspect %s --json --eos_token='<s>'", config()) == 0 && says("Assistant: aaa<s>"));
}

static void test_unknown_keys(void)
{
    temp_text("wrong.json", quoted("{'learning_rat': 1, 'batch_size': 4, 'max_seq_len': 8, 'rank_of_adapter': 8, "
                                   "'bf16': true, 'learning_rate': 'fast', 'tokenizer_name_or': 'x'}"));
    CHECK(run("%s --model_name=x --eval_stepz=5 --seeds=2", temp_path("wrong.json")) == 1);
    static const char *const parts[] = {"\"learning_rat\": did you mean \"learning_rate\"?",
                                        "\"batch_size\": did you mean \"per_device_train_batch_size\"?",
                                        "\"max_seq_len\": did you mean \"max_length\"?",
                                        "unknown key \"rank_of_adapter\";",
                                        "bf16: expected false",
                                        "learning_rate: expected a number",
                                        "\"tokenizer_name_or\": did you mean \"tokenizer_name_or_path\"?",
                                        "\"model_name\": did you mean \"model_name_or_path\"?",
                                        "\"eval_stepz\": did you mean \"eval_steps\"?",
                                        "unknown key \"seeds\": it is a key of compare"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) n_refused += says(parts[i]);
    CHECK(strchr(output, '\n') == output + strlen(output) - 1);
    // No hint is better than a wrong one.
    static const char *const far[] = {"--foo=1",         "--log_folder=x", "--eval_now=1",
                                      "--use_adapter=1", "--trainer=x",    "--steps=3"};
    for (size_t i = 0; i < sizeof far / sizeof *far; i++) {
        CHECK(run("%s %s", config(), far[i]) == 1);
        silent_on("did you mean");
    }
}

// null, and an empty value, mean that a key is not given.
static void test_null(void)
{
    Options fresh, o;
    Err e;
    Buf text = {0};
    options_init(&fresh);
    cJSON *defaults = options_json(&fresh);
    for (const cJSON *v = defaults->child; v; v = v->next)
        buf_addf(&text, "%s\"%s\": null", text.len ? ", " : "{", v->string);
    buf_adds(&text, "}");
    temp_text("null.json", text.data);
    options_init(&o);
    CHECK_MSG(options_load(&o, temp_path("null.json"), &e), "%s", e.text);
    CHECK(o.max_length == 0);                              // no limit but the model's, as in TRL
    o.max_length = fresh.max_length;
    cJSON *now = options_json(&o);
    CHECK(cJSON_Compare(now, defaults, true));
    for (const cJSON *v = defaults->child; v; v = v->next) {
        char argument[64];
        snprintf(argument, sizeof argument, "--%s=", v->string);
        CHECK_MSG(options_set(&o, argument, FOR_CONFIG, &e), "%s", e.text);
    }
    CHECK(options_set(&o, "--learning_rate=1", FOR_CONFIG, &e) && options_given(&o, "learning_rate"));
    CHECK(options_set(&o, "--learning_rate=null", FOR_CONFIG, &e) && !options_given(&o, "learning_rate"));
    CHECK(o.learning_rate == 2e-5);
    CHECK(options_set(&o, "--system=", FOR_GENERATE, &e));
    CHECK_STR(o.system, "");                               // an empty system message is one
    CHECK(run("%s --output_dir=%s --max_steps=1 --eval_split=0 --eval_dataset_name= --resume_from_checkpoint=false",
              config(), temp_path("good")) == 0);
    remove_tree(temp_path("good"));
    cJSON_Delete(now);
    cJSON_Delete(defaults);
    options_free(&o);
    options_free(&fresh);
    buf_free(&text);
}

static void test_slips(void)
{
    CHECK(run("help") == 0 && says("usage: ./train CONFIG.json"));
    CHECK(run("inspect --help") == 0 && says("usage: "));
    CHECK(run(" ") == 2 && says("train: a path is missing: expected CONFIG.json [--key=value ...]\nusage: "));
    CHECK(run("export model/tiny") == 2 &&
          says("a path is missing: expected MODEL OUT [--outtype=f32|f16|q8_0]\nusage: "));
    CHECK(run("inpsect %s", config()) == 1 && says("neither a command nor a config file") &&
          says("did you mean \"inspect\"?"));
    CHECK(run("chat %s --prompt=hi", config()) == 1 && says("config.json: expected a model") && says("found JSON"));
    CHECK(run("sample %s", temp_path("rows.jsonl")) == 1 && says("expected a model"));
    CHECK(run("export %s %s", config(), temp_path("x.bin")) == 1 && says("expected a model"));
    CHECK(run("%s", temp_dir) == 1 && says("expected a config, a JSON file, found a folder"));
    CHECK(run("eval %s", temp_path("tokenizer.bin")) == 1 && says("expected a config, a JSON file, found binary data"));
    CHECK(run("train %s --output_dir=%s --max_steps=1", config(), temp_path("good")) == 0);
    remove_tree(temp_path("good"));
}

// ---- for other programs --------------------------------------------------------------------------------------------

// log.csv, the event file and trainer_state.json say what log.jsonl says; so do those of a run that stopped between two
// checkpoints and went on, and of one that was asked for the event file only then.
static void test_records(void)
{
    static const char *const keys[] = {"epoch", "global_step", "max_steps", "num_train_epochs", "train_batch_size",
                                       "logging_steps", "eval_steps", "save_steps", "best_metric", "best_global_step"};
    static const double values[] = {10.0 / 3, 10, 20, 7, 2, 3, 4, 5, NAN, 8};
    static const char options[] = "--logging_steps=3 --eval_steps=4 --save_steps=5 --load_best_model_at_end=true";
    Err e;
    uint32_t known = (0xE3069283u >> 15 | 0xE3069283u << 17) + 0xA282EAD8u;
    CHECK(masked_crc32c((const unsigned char *)"123456789", 9) == known);
    CHECK(run("%s --output_dir=%s %s --report_to='[\"tensorboard\"]'", config(), temp_path("straight"), options) == 0);
    CHECK(file_exists(in_output("straight", "runs/train/events.out.tfevents.0")));
    check_records(temp_path("straight"));
    cJSON *state = json_load(in_output("straight", "checkpoint-10/trainer_state.json"), &e);
    if (CHECK_MSG(state, "%s", e.text)) {
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
            const cJSON *v = json_get(state, keys[i]);
            double off = cJSON_IsNumber(v) ? v->valuedouble - values[i] : INFINITY;
            CHECK_MSG(isnan(values[i]) ? isnan(off) : fabs(off) < 1e-12, "%s", keys[i]);
        }
        CHECK_STR(json_string(state, "best_model_checkpoint"), in_output("straight", "checkpoint-8"));
        CHECK(cJSON_GetArraySize(json_get(state, "log_history")) == 6);        // steps 0, 3, 4, 6, 8 and 9
    }
    cJSON_Delete(state);
    CHECK(run("%s --output_dir=%s %s --report_to=none", config(), temp_path("again"), options) == 0);
    CHECK(!file_exists(in_output("again", "runs")));
    CHECK_MSG(run("%s --output_dir=%s %s --report_to=tensorboard --resume_from_checkpoint=%s", config(),
                  temp_path("again"), options, in_output("again", "checkpoint-5")) == 0, "%s", output);
    CHECK(file_exists(in_output("again", "runs/train/events.out.tfevents.0")));
    check_same_run("straight", "again");
    CHECK(run("%s --output_dir=%s --overwrite_output_dir=true --max_steps=2", config(), temp_path("again")) == 0);
    check_records(temp_path("again"));
    CHECK(!file_exists(in_output("again", "runs/train/events.out.tfevents.0")));           // it would be the old run's
    remove_tree(temp_path("straight"));
    remove_tree(temp_path("again"));
}

// The runs of a comparison lie side by side.
static void test_records_of_arms(void)
{
    static const char *const arms[][2] = {{"weight-0", "masked"}, {"weight-1", "unmasked"}};
    CHECK(run("compare %s --output_dir=%s --max_steps=4 --logging_steps=1 --seeds=2 --report_to=tensorboard", config(),
              temp_path("arms")) == 0);
    for (int i = 0; i < 4; i++) {
        char folder[64], log[80], events[96];
        snprintf(folder, sizeof folder, "arms/%s/seed-%d", arms[i / 2][0], 42 + i % 2);
        snprintf(log, sizeof log, "%s/log.jsonl", folder);
        snprintf(events, sizeof events, "arms/runs/%s-seed-%d/events.out.tfevents.0", arms[i / 2][1], 42 + i % 2);
        cJSON *lines = read_lines(temp_path(log));
        CHECK(cJSON_GetArraySize(lines) == 7);
        check_events(temp_path(events), lines);
        check_records(temp_path(folder));
        cJSON_Delete(lines);
    }
    remove_tree(temp_path("arms"));
}

static void put_in_folder(const char *name, const char *text)
{
    char path[64];
    snprintf(path, sizeof path, "source/%s", name);
    temp_text(path, quoted(text));
}

// A folder names a class of transformers that follows tokenizer.json, whatever class it came with. Its template is a
// file of its own; several are a list.
static void test_folder_for_transformers(void)
{
    static const char *const copied[] = {"config.json", "model.safetensors", "tokenizer.json"};
    Err e;
    CHECK(dir_make(temp_path("source"), &e));
    for (size_t i = 0; i < 3; i++) {
        char from[64], to[64];
        snprintf(from, sizeof from, "model/tiny/%s", copied[i]);
        snprintf(to, sizeof to, "source/%s", copied[i]);
        CHECK(file_copy(from, temp_path(to), &e));
    }
    for (int several = 0; several < 3; several++) {        // one template, two, and no tokenizer_config.json
        put_in_folder("tokenizer_config.json", several
                          ? "{'tokenizer_class': 'GPT2Tokenizer', 'bos_token': '<|endoftext|>', 'chat_template': "
                            "[{'name': 'default', 'template': '{{ 1 }}'}, {'name': 'rag', 'template': '{{ 2 }}'}]}"
                          : "{'tokenizer_class': 'LlamaTokenizer', 'legacy': false, 'bos_token': '<|endoftext|>', "
                            "'model_input_names': ['input_ids'], 'chat_template': '{{ 1 }}'}");
        if (several == 2) CHECK(unlink(temp_path("source/tokenizer_config.json")) == 0);
        CHECK_MSG(run("export %s %s", temp_path("source"), temp_path("folder")) == 0, "%s", output);
        cJSON *config = json_load(in_output("folder", "tokenizer_config.json"), &e);
        cJSON *generation = json_load(in_output("folder", "generation_config.json"), &e);
        CHECK_STR(json_string(config, "tokenizer_class"), "PreTrainedTokenizerFast");
        CHECK(cJSON_GetArraySize(json_get(config, "model_input_names")) == 1 + (several > 0));
        CHECK(cJSON_GetArraySize(json_get(config, "chat_template")) == (several == 1 ? 2 : 0));
        CHECK(cJSON_IsFalse(json_get(config, "legacy")) == !several);
        CHECK(file_exists(in_output("folder", "chat_template.jinja")) == !several);
        CHECK(several == 2 || json_is_int(json_get(generation, "bos_token_id"), 0, 0));
        cJSON_Delete(config);
        cJSON_Delete(generation);
        remove_tree(temp_path("folder"));
    }
    remove_tree(temp_path("source"));
}

// ---- what a run says ----------------------------------------------------------------------------------------------

static void test_losses_are_printed(void)
{
    CHECK(run("%s --output_dir=%s --eval_split=0 --logging_steps=8", config(), temp_path("printed")) == 0);
    says("\nstep 8 of 20: loss ");
    says("\nstep 20 of 20: loss ");                        // what is left at the end too
    remove_tree(temp_path("printed"));
    CHECK(run("%s --output_dir=%s --eval_split=0 --learning_rate=100", config(), temp_path("printed")) == 0);
    says("warning: the loss ended at ");
    remove_tree(temp_path("printed"));
    CHECK(run("%s --output_dir=%s --learning_rate=100", config(), temp_path("printed")) == 0);
    says("Warning: the loss ended at ");
    File page = {0};
    Err e;
    if (CHECK(file_map(&page, in_output("printed", "report.html"), &e)))
        CHECK(mem_find(page.data, page.size, "<li>Warning: the loss ended at ", 31));
    file_unmap(&page);
    remove_tree(temp_path("printed"));
}

static void test_held_out_rows(void)
{
    CHECK(symlink(temp_path("rows.jsonl"), temp_path("link.jsonl")) == 0);
    CHECK(run("%s --output_dir=%s --max_steps=1 --eval_split=0 --eval_dataset_name=%s", config(), temp_path("held"),
              temp_path("link.jsonl")) == 0);
    says("warning: eval_dataset_name is the training file");
    remove_tree(temp_path("held"));
    CHECK(run("%s --output_dir=%s --max_steps=1", config(), temp_path("held")) == 0);
    says("warning: 2 of 2 held-out rows are equal to rows that are trained on");
    remove_tree(temp_path("held"));
    temp_text("other.jsonl",
              quoted("{'messages': [{'role': 'user', 'content': 'say z'}, {'role': 'assistant', 'content': 'zz'}]}\n"));
    CHECK(run("%s --output_dir=%s --max_steps=1 --eval_split=0 --eval_dataset_name=%s", config(), temp_path("held"),
              temp_path("other.jsonl")) == 0);
    silent_on("warning");
    // eval says what it cuts and leaves out.
    CHECK(run("eval %s --max_length=30", config()) == 0 && says("2 rows, 0 dropped (nothing to learn), 2 truncated"));
    CHECK(run("eval %s --max_length=30 --json", config()) == 0 &&
          says("\"eval_rows\":2,\"eval_truncated\":2,\"eval_dropped\":0"));
    remove_tree(temp_path("held"));
}

static void test_strategies(void)
{
    static const struct {
        const char *arguments;
        int evaluations, logs;
    } cases[] = {
        // 6 rows, 2 a batch: 3 steps an epoch
        {"--eval_steps=null", 2, 4},
        {"--eval_strategy=epoch --save_strategy=epoch", 2 + 6, 4},
        {"--eval_strategy=no", 0, 4},
        {"--eval_strategy=no --eval_on_start=true", 1, 4},
        {"--eval_on_start=false", 2, 4},
        {"--eval_strategy=steps --eval_steps=null", 1 + 4, 4},
        {"--eval_steps=0.2 --logging_first_step=true", 1 + 5, 5},
        {"--logging_steps=0.1 --save_strategy=no --save_steps=5", 3, 10},
        {"--save_strategy=steps --save_steps=0.5", 3, 4},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK_MSG(run("%s --output_dir=%s %s", config(), temp_path("when"), cases[i].arguments) == 0, "%s", output);
        int evaluations = count_lines("when", "eval_loss"), logs = count_lines("when", "grad_norm");
        CHECK_MSG(evaluations == cases[i].evaluations && logs == cases[i].logs, "%s: %d, %d", cases[i].arguments,
                  evaluations, logs);
        CHECK(has_checkpoint("when", 3) == (i == 1) && has_checkpoint("when", 18) == (i == 1));
        CHECK(has_checkpoint("when", 10) == (i == 8) && !has_checkpoint("when", 5));
        remove_tree(temp_path("when"));
    }
}

// The greatest loss is the first one, so the model of step 5 is the result, and its checkpoint outlives the limit.
static void test_best_model(void)
{
    static const char BEST[] =
        "%s --output_dir=%s --load_best_model_at_end=true --greater_is_better=true --eval_steps=5 "
        "--save_steps=5 --save_total_limit=1 --resume_from_checkpoint=%s";
    CHECK_MSG(run(BEST, config(), temp_path("best"), "") == 0, "%s", output);
    says("the best model is the one of step 5: eval_assistant_loss ");
    CHECK(has_checkpoint("best", 5) && has_checkpoint("best", 20) && !has_checkpoint("best", 10) &&
          !has_checkpoint("best", 15));
    CHECK(same_files(in_output("best", "model.bin"), in_output("best", "checkpoint-5/model.bin")));
    CHECK(!same_files(in_output("best", "model.bin"), in_output("best", "checkpoint-20/model.bin")));
    CHECK(run(BEST, config(), temp_path("best"), "latest") == 0 && says("the best model is the one of step 5"));
    CHECK(same_files(in_output("best", "model.bin"), in_output("best", "checkpoint-5/model.bin")));
    remove_tree(in_output("best", "checkpoint-5"));
    CHECK(run(BEST, config(), temp_path("best"), "latest") == 1);
    n_refused += says("the best checkpoint") && says("is not there");
    remove_tree(temp_path("best"));
    // The least loss is the last one: nothing to fetch. The name without eval_ is TRL's.
    CHECK(run("%s --output_dir=%s --load_best_model_at_end=true --metric_for_best_model=loss", config(),
              temp_path("best")) == 0);
    silent_on("the best model is that of");
    remove_tree(temp_path("best"));
}

// ---- signals ------------------------------------------------------------------------------------------------------

static const char LONG[] = "exec %s %s --output_dir=%s --eval_steps=null --logging_steps=1 --max_steps=%d %s";

static pid_t start(const char *dir, int steps, const char *more, int ignored)
{
    char command[1024];
    snprintf(command, sizeof command, LONG, program(), config(), temp_path(dir), steps, more);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        if (ignored) signal(ignored, SIG_IGN);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    return pid;
}

static int ended(pid_t pid)
{
    int status;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static bool wait_for_lines(const char *dir, int n)
{
    for (int i = 0; i < 2000; i++, nap())
        if (count_lines(dir, "grad_norm") >= n) return true;
    return CHECK_MSG(false, "no log in %s", dir);
}

// Each saves the model and a checkpoint, though save_steps is null. A run that goes on from it ends as one that never
// stopped, bit for bit.
static void test_signals(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    enum { STEPS = 600 };
    CHECK(ended(start("straight", STEPS, ">/dev/null", 0)) == 0);
    for (int i = 0; i < 3; i++) {
        pid_t pid = start("stopped", STEPS, ">/dev/null", 0);
        if (!wait_for_lines("stopped", 3)) return;
        kill(pid, signals[i]);
        if (signals[i] == SIGHUP) kill(pid, SIGHUP);       // as a shell passes it on
        int status = ended(pid);
        CHECK_MSG(status == 128 + signals[i], "status %d", status);
        CHECK(file_exists(in_output("stopped", "model.bin")) && count_lines("stopped", "train_runtime") == 1);
        CHECK(run("%s --output_dir=%s", config(), temp_path("stopped")) == 1 &&
              says("or resume_from_checkpoint=latest"));
        CHECK(ended(start("stopped", STEPS, "--resume_from_checkpoint=true >/dev/null", 0)) == 0);
        check_same_run("straight", "stopped");
        remove_tree(temp_path("stopped"));
    }
    // Only a checkpoint is offered that is there; the message of a folder without one says "latest".
    CHECK(run("%s --output_dir=%s", config(), temp_path("straight")) == 1 && says("give overwrite_output_dir=true\n"));
    CHECK(run("%s --output_dir=%s --resume_from_checkpoint=true", config(), temp_path("straight")) == 1);
    n_refused += says("resume_from_checkpoint=latest: expected a checkpoint in");
    static const char *const not_of_arms[] = {"--resume_from_checkpoint=true", "--load_best_model_at_end=true",
                                              "--eval_strategy=no"};
    for (int i = 0; i < 3; i++) {
        CHECK(run("compare %s --output_dir=%s %s", config(), temp_path("arms"), not_of_arms[i]) == 1);
        n_refused += says("takes neither resume_from_checkpoint");
    }
    remove_tree(temp_path("straight"));
    remove_tree(temp_path("arms"));
}

// The noise of NEFTune follows from the seed and the step: the same with other batches, threads and after a resume.
static void test_noise(void)
{
    static const struct { const char *name, *arguments; bool same; } runs[] = {
        {"none", "--neftune_noise_alpha=0", false},
        {"weak", "--neftune_noise_alpha=1", false},
        {"two", "--n_threads=2", true},
        {"first", "--save_steps=10", true},
        {"first", "--save_steps=10 --resume_from_checkpoint=latest", true},
    };
    const char *const noisy = "%s --output_dir=%s --neftune_noise_alpha=5 --save_steps=10 %s";
    CHECK_MSG(run(noisy, config(), temp_path("noisy"), "") == 0, "%s", output);
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        if (strstr(runs[i].arguments, "resume")) remove_tree(in_output("first", "checkpoint-20"));
        CHECK_MSG(run(noisy, config(), temp_path(runs[i].name), runs[i].arguments) == 0, "%s", output);
        CHECK_MSG(same_files(in_output("noisy", "model.bin"), in_output(runs[i].name, "model.bin")) == runs[i].same,
                  "%s", runs[i].arguments);
    }
}

// What the shell has set to ignored stays ignored: nohup, and SIGINT of a script's background job.
static void test_ignored_signals(void)
{
    static const int signals[] = {SIGHUP, SIGINT, SIGPIPE};
    for (int i = 0; i < 3; i++) {
        pid_t pid = start("stopped", 100000000, ">/dev/null", signals[i]);
        if (!wait_for_lines("stopped", 2)) return;
        kill(pid, signals[i]);
        int before = count_lines("stopped", "grad_norm");
        if (wait_for_lines("stopped", before + 3)) CHECK(waitpid(pid, NULL, WNOHANG) == 0);
        kill(pid, SIGTERM);
        CHECK(ended(pid) == 128 + SIGTERM);
        remove_tree(temp_path("stopped"));
    }
}

// The reader of the output goes away, as head does.
static void test_closed_pipe(void)
{
    CHECK(system(NULL));
    char command[1024];
    snprintf(command, sizeof command, "{ sh -c '");
    size_t n = strlen(command);
    snprintf(command + n, sizeof command - n, LONG, program(), config(), temp_path("stopped"), 100000000,
             "2>/dev/null'; echo $? >");
    n = strlen(command);
    snprintf(command + n, sizeof command - n, "%s; } | head -n 3 >/dev/null", temp_path("status"));
    CHECK(system(command) == 0);
    File status = {0};
    Err e;
    if (CHECK(file_map(&status, temp_path("status"), &e)))
        CHECK_MSG(memcmp(status.data, "141\n", 4) == 0, "%.4s", status.data);
    file_unmap(&status);
    CHECK(file_exists(in_output("stopped", "model.bin")));
    CHECK(run("%s --output_dir=%s", config(), temp_path("stopped")) == 1 && says("resume_from_checkpoint=latest"));
    remove_tree(temp_path("stopped"));
}

// ---- threads and memory -------------------------------------------------------------------------------------------

static int threads_under(const char *environment)
{
    char arguments[512];
    snprintf(arguments, sizeof arguments, "%s --output_dir=%s --max_steps=1", config(), temp_path("threads"));
    CHECK_MSG(run_with(environment, arguments) == 0, "%s", output);
    remove_tree(temp_path("threads"));
    const char *at = strstr(output, " threads\n");
    while (at && at > output && at[-1] != ' ') at--;
    return at ? atoi(at) : -1;
}

static void test_threads(void)
{
    static const char CLEAN[] = "env -u OMP_NUM_THREADS -u OMP_PROC_BIND -u OMP_PLACES -u OMP_THREAD_LIMIT";
    char bound[160];
    int all = threads_under(CLEAN);
    silent_on("leaves one thread");
    snprintf(bound, sizeof bound, "%s OMP_PROC_BIND=true", CLEAN);
    CHECK(all > 0 && threads_under(bound) == all);
    snprintf(bound, sizeof bound, "%s -u GOMP_SPINCOUNT -u KMP_BLOCKTIME -u OMP_WAIT_POLICY OMP_PROC_BIND=true", CLEAN);
    CHECK(threads_under(bound) == all);                    // here the program starts itself again
    if (all < 2) SKIP("there is one processor only");
    snprintf(bound, sizeof bound, "%s OMP_NUM_THREADS=1", CLEAN);
    CHECK(threads_under(bound) == 1 && says("warning: OMP_NUM_THREADS=1 leaves one thread"));
    snprintf(bound, sizeof bound, "%s OMP_THREAD_LIMIT=1", CLEAN);
    CHECK(threads_under(bound) == 1 && says("warning: OMP_THREAD_LIMIT=1 leaves one thread"));
}

// A cache that grows while it is used holds what one of full size holds.
static void test_growing_cache(void)
{
    Config c = {.dim = 16,
                .hidden_dim = 32,
                .n_layers = 2,
                .n_heads = 4,
                .n_kv_heads = 2,
                .head_dim = 4,
                .vocab_size = 50,
                .seq_len = 64,
                .tied = true,
                .norm_eps = 1e-5f,
                .rope_theta = 10000};
    Model m;
    Sampler whole, growing;
    Err e;
    if (!CHECK_MSG(model_init(&m, &c, &e), "%s", e.text)) return;
    model_randomize(&m, 3);
    if (!CHECK(sampler_init(&whole, &m, 64, &e)) || !CHECK(sampler_init(&growing, &m, 1, &e))) return;
    for (size_t i = 0; i < 64; i++) {
        CHECK(sampler_reserve(&growing, i + 1, &e) && growing.capacity == i + 1);
        sampler_feed(&whole, (int)(i * 7 % 50));
        sampler_feed(&growing, (int)(i * 7 % 50));
        CHECK(memcmp(whole.logits, growing.logits, 50 * sizeof(float)) == 0);
    }
    CHECK(sampler_reserve(&growing, 8, &e) && growing.capacity == 64);
    sampler_free(&whole);
    sampler_free(&growing);
    model_free(&m);
}

int main(void)
{
    temp_begin();
    write_fixture();
    RUN(test_trl_defaults);
    RUN(test_trl_values);
    RUN(test_trl_reasons);
    RUN(test_older_names);
    RUN(test_parts_of_steps);
    RUN(test_eos_token);
    RUN(test_unknown_keys);
    RUN(test_null);
    RUN(test_slips);
    RUN(test_records);
    RUN(test_records_of_arms);
    RUN(test_folder_for_transformers);
    RUN(test_losses_are_printed);
    RUN(test_held_out_rows);
    RUN(test_strategies);
    RUN(test_best_model);
    RUN(test_signals);
    RUN(test_noise);
    RUN(test_ignored_signals);
    RUN(test_closed_pipe);
    RUN(test_threads);
    RUN(test_growing_cache);
    temp_end();
    return check_report();
}
