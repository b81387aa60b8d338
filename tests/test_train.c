// The program as its users run it: commands, files, logs, and one clear line for everything that can be wrong.
#include "small_run.h"

static bool fails_with(const char *message)
{
    return CHECK_MSG(strncmp(output, "train: ", 7) == 0 || strstr(output, "\ntrain: "), "no error: %s", output) &&
           CHECK_MSG(strstr(output, message), "expected \"%s\" in: %s", message, output) && n_refused++ >= 0;
}

typedef struct { const char *arguments, *message; } BadCase;

// The value of `key` in the n-th line of a log that has it; NAN if there is none.
static double logged(const char *dir, const char *key, int n)
{
    double value = NAN;
    char line[4096];
    FILE *f = fopen(in_output(dir, "log.jsonl"), "r");
    while (f && fgets(line, sizeof line, f)) {
        cJSON *json = cJSON_Parse(line);
        const cJSON *v = json_get(json, key);
        if (v && n-- == 0) value = v->valuedouble;
        cJSON_Delete(json);
    }
    if (f) fclose(f);
    return value;
}

static cJSON *last_line_json(void)
{
    char *end = output + strlen(output);
    while (end > output && end[-1] == '\n') *--end = 0;
    char *line = strrchr(output, '\n');
    return cJSON_Parse(line ? line + 1 : output);
}

static double evaluated(const char *key)
{
    cJSON *json = last_line_json();
    const cJSON *v = json_get(json, key);
    double value = cJSON_IsNumber(v) ? v->valuedouble : NAN;
    cJSON_Delete(json);
    return value;
}

static void test_training(void)
{
    if (!CHECK_MSG(run("%s", temp_path("config.json")) == 0, "%s", output)) return;
    CHECK(strstr(output, "6 rows, 0 dropped (nothing to learn), 0 truncated"));
    CHECK(strstr(output, "the first row learns:  aaa</s>"));
    static const char *const keys[] = {
        "epoch", "loss", "grad_norm", "learning_rate", "num_tokens", "mean_token_accuracy", "entropy",
        "supervised_tokens", "tokens_per_second", "eval_loss", "eval_assistant_loss", "eval_prompt_loss",
        "eval_mean_token_accuracy", "train_loss", "train_runtime", "train_samples_per_second",
        "train_tokens_per_second"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        CHECK_MSG(isfinite(logged("out", keys[i], 0)), "%s", keys[i]);
    double loss_0 = logged("out", "eval_assistant_loss", 0), loss_20 = logged("out", "eval_assistant_loss", 2);
    CHECK(logged("out", "step", 1) == 5);
    CHECK(logged("out", "learning_rate", 0) == 0.01 * 16 / 20);                 // linear: update 4 of 20
    CHECK(loss_20 < 0.8 * loss_0);                         // evaluated at steps 0, 10 and 20
    CHECK(logged("out", "epoch", 1) == 1 + 2.0 / 3);
    // The saved model, read again, has the same loss. Its tokenizer was saved beside it.
    CHECK(run("eval %s --model_init=null --model_name_or_path=%s --tokenizer_name_or_path=null --json",
              temp_path("config.json"), in_output("out", "model.bin")) == 0);
    CHECK_MSG(evaluated("eval_assistant_loss") == loss_20, "%.17g", evaluated("eval_assistant_loss"));
    CHECK(evaluated("eval_assistant_tokens") == 2 * 5 && evaluated("eval_tokens") == 2 * 5);
    CHECK(file_exists(in_output("out", "train_config.json")));
}

// A second run gives the same bits, also with other numbers of threads.
static void test_same_run_same_bits(void)
{
    for (int threads = 1; threads <= 3; threads++) {
        CHECK(run("%s --output_dir=%s --n_threads=%d", temp_path("config.json"), temp_path("again"), threads) == 0);
        CHECK(same_files(in_output("out", "model.bin"), in_output("again", "model.bin")));
        remove_tree(temp_path("again"));
    }
}

// Micro-batches of one row, four at a time, are the same step as one batch of four rows.
static void test_accumulation(void)
{
    const char *config = temp_path("config.json");
    CHECK(run("%s --output_dir=%s --per_device_train_batch_size=4", config, temp_path("whole")) == 0);
    CHECK(run("%s --output_dir=%s --per_device_train_batch_size=1 --gradient_accumulation_steps=4", config,
              temp_path("parts")) == 0);
    for (int i = 0; i < 4; i++) CHECK(fabs(logged("whole", "loss", i) - logged("parts", "loss", i)) < 1e-4);
    CHECK(logged("whole", "supervised_tokens", 3) == logged("parts", "supervised_tokens", 3));
    remove_tree(temp_path("whole"));
    remove_tree(temp_path("parts"));
}

// prompt_loss_weight=1 is the unmasked run: the same numbers as assistant_only_loss=false.
static void test_unmasked(void)
{
    CHECK(run("%s --output_dir=%s --prompt_loss_weight=1", temp_path("config.json"), temp_path("weight")) == 0);
    CHECK(run("%s --output_dir=%s --assistant_only_loss=false", temp_path("config.json"), temp_path("full")) == 0);
    CHECK(same_files(in_output("weight", "model.bin"), in_output("full", "model.bin")));
    CHECK(logged("weight", "eval_assistant_loss", 2) == logged("full", "eval_assistant_loss", 2));
    CHECK(logged("full", "eval_prompt_loss", 2) < logged("out", "eval_prompt_loss", 2));
    // Before the first step all runs have the same losses, whatever their mask.
    CHECK(logged("full", "eval_prompt_loss", 0) == logged("out", "eval_prompt_loss", 0));
    CHECK(logged("full", "eval_assistant_loss", 0) == logged("out", "eval_assistant_loss", 0));
    remove_tree(temp_path("weight"));
    remove_tree(temp_path("full"));
}

static void test_other_options(void)
{
    CHECK(run("%s --output_dir=%s --optim=sgd --lr_scheduler_type=cosine --warmup_ratio=0.1 --max_steps=4"
              " --logging_steps=1 --shuffle=false --gradient_checkpointing=true", temp_path("config.json"),
              temp_path("sgd")) == 0);
    CHECK(logged("sgd", "learning_rate", 0) == 0 && logged("sgd", "learning_rate", 1) == 0.01);
    remove_tree(temp_path("sgd"));
    CHECK(run("%s --output_dir=%s --max_steps=-1 --num_train_epochs=1.5 --logging_steps=1", temp_path("config.json"),
              temp_path("epochs")) == 0);
    CHECK(logged("epochs", "epoch", 5) == 1 + 2.0 / 3 && isnan(logged("epochs", "loss", 5)));     // ceil(1.5 * 3) steps
    remove_tree(temp_path("epochs"));
}

// SIGTERM (as Ctrl-C, see test_commands): the current step is finished, the model saved, and the exit status says which
// signal it was.
static void test_interrupt(void)
{
    Buf command = {0};
    buf_addf(&command, "sh -c '%s %s --output_dir=%s --max_steps=100000000 --eval_split=0 >/dev/null 2>&1 & pid=$!; "
             "while ! [ -s %s ]; do sleep 0.05; done; kill -TERM $pid; wait $pid'",
             program(), temp_path("config.json"), temp_path("stopped"), in_output("stopped", "log.jsonl"));
    int status = system(command.data);
    CHECK_MSG(WIFEXITED(status) && WEXITSTATUS(status) == 143, "status %d", status);
    CHECK(logged("stopped", "train_runtime", 0) > 0 && logged("stopped", "step", 0) < 100000000);
    CHECK(run("sample %s --max_new_tokens=1", in_output("stopped", "model.bin")) == 0);
    remove_tree(temp_path("stopped"));
    buf_free(&command);
}

// Config, folder and more options.
static const char LONG_RUN[] = "%s --output_dir=%s --max_steps=1500 --save_steps=40 --save_total_limit=2"
                               " --logging_steps=30 --eval_steps=100 %s";

// A run that is killed again and again, and goes on each time from its latest checkpoint, ends with the weights and the
// log of one that never stopped. KILLS says how often at least (make test-crash: 50). `more`: options of the runs.
static void kill_and_go_on(const char *more)
{
    int kills = 0, wanted = getenv("KILLS") ? atoi(getenv("KILLS")) : 8, status = -1;
    Rng rng = rng_seed(7);
    if (!CHECK_MSG(run(LONG_RUN, temp_path("config.json"), temp_path("straight"), more) == 0, "%s", output)) return;
    CHECK(file_exists(in_output("straight", "checkpoint-1480")));
    CHECK(!file_exists(in_output("straight", "checkpoint-1400")));
    for (int round = 0; round < 40 * wanted && (status != 0 || kills < wanted); round++) {
        if (status == 0) remove_tree(temp_path("killed"));     // it ended before it was killed often enough: once more
        Buf command = {0};
        bool begun = file_exists(in_output("killed", "log.jsonl")), saved = false;
        for (int n = 40; begun && n <= 1500 && !saved; n += 40) {
            char name[32];
            snprintf(name, sizeof name, "checkpoint-%d", n);
            saved = file_exists(in_output("killed", name));
        }
        buf_addf(&command, "sh -c '%s ", program());
        buf_addf(&command, LONG_RUN, temp_path("config.json"), temp_path("killed"),
                 saved ? "--resume_from_checkpoint=latest" : "--overwrite_output_dir=true");
        buf_addf(&command, " %s >/dev/null 2>&1 & pid=$!; ", more);
        int ms = 20 + (int)rng_below(&rng, 200);
        if (kills < wanted) buf_addf(&command, "sleep 0.%03d; kill -9 $pid 2>/dev/null; ", ms);
        buf_adds(&command, "wait $pid'  2>/dev/null");
        status = system(command.data);
        kills += status != 0;
        if (status == 0) check_same_run("straight", "killed");
        buf_free(&command);
    }
    CHECK_MSG(status == 0 && kills >= wanted, "status %d after %d kills", status, kills);
    printf("     killed %d times\n", kills);
    remove_tree(temp_path("killed"));
}

static void test_resume(void) { kill_and_go_on(""); }

static void test_resume_of_an_adapter(void)
{
    CHECK_MSG(run(LONG_RUN, temp_path("config.json"), temp_path("base"), "--max_steps=1") == 0, "%s", output);
    remove_tree(temp_path("straight"));
    weights = "adapter_model.safetensors";
    kill_and_go_on(adapter_of(in_output("base", "model.bin")));
    weights = "model.bin";
}

// Goes on with the run in "straight", and is refused: `message` is in the error.
static void check_refused(const char *options, const char *message)
{
    char more[512];
    snprintf(more, sizeof more, "--resume_from_checkpoint=latest %s", options);
    CHECK(run(LONG_RUN, temp_path("config.json"), temp_path("straight"), more) == 1);
    fails_with(message);
}

// A checkpoint that another version of the program wrote is refused before anything else in it is read.
static void check_other_version(const char *path)
{
    Err e;
    cJSON *state = json_load(path, &e);
    char message[128];
    int version = (int)json_get(state, "version")->valuedouble;
    cJSON_SetNumberValue(cJSON_GetObjectItemCaseSensitive(state, "version"), version + 1);
    cJSON_SetValuestring(cJSON_GetObjectItemCaseSensitive(state, "data_hash"), "0123456789abcdef");
    char *text = cJSON_PrintUnformatted(state), *old = NULL;
    File f;
    if (CHECK(file_map(&f, path, &e))) old = mem_strndup((const char *)f.data, f.size), file_unmap(&f);
    CHECK(file_put(path, text, strlen(text), &e));
    snprintf(message, sizeof message, "another program version: it was written by version %d and this is version %d",
             version + 1, version);
    check_refused("", message);
    CHECK(file_put(path, old, strlen(old), &e));
    cJSON_free(text);
    cJSON_Delete(state);
    free(old);
}

// Flips the lowest bit of a number in the middle of a file: it stays a number.
static void flip_bit(const char *path)
{
    FILE *f = fopen(path, "r+b");
    CHECK(f && fseek(f, 0, SEEK_END) == 0);
    long at = ftell(f) / 2 / 4 * 4;
    CHECK(fseek(f, at, SEEK_SET) == 0);
    int byte = fgetc(f);
    CHECK(fseek(f, at, SEEK_SET) == 0 && fputc(byte ^ 1, f) != EOF && fclose(f) == 0);
}

// A checkpoint of another run, or a damaged one, is refused with the reason.
static void test_bad_checkpoints(void)
{
    check_refused("--learning_rate=0.02", "another config: learning_rate was 0.01 and is 0.02");
    check_refused("--max_length=28", "another config: max_length was 1024 and is 28");
    File rows = {0};
    Err e;
    CHECK(file_map(&rows, temp_path("rows.jsonl"), &e) && file_put(temp_path("kept"), rows.data, rows.size, &e));
    const unsigned char *end = memchr(rows.data, '\n', rows.size);
    CHECK(file_append(temp_path("rows.jsonl"), rows.data, (size_t)(end + 1 - rows.data), &e));
    file_unmap(&rows);
    check_refused("", "another data set: the hash of its rows is");
    CHECK(rename(temp_path("kept"), temp_path("rows.jsonl")) == 0);
    CHECK(run("%s --output_dir=%s", temp_path("config.json"), temp_path("straight")) == 1);
    fails_with("holds a model, checkpoints or a comparison already");
    CHECK(run("%s --output_dir=%s --resume_from_checkpoint=latest", temp_path("config.json"),
              temp_path("nothing")) == 1);
    fails_with("expected a checkpoint in");
    static const char wider[] = "{'hidden_size': 32, 'intermediate_size': 32, 'num_hidden_layers': 2,"
                                " 'num_attention_heads': 4, 'max_position_embeddings': 64}";
    char option[256];
    snprintf(option, sizeof option, "--model_init='%s'", quoted(wider));
    check_refused(option, quoted("another config: model_init was {'hidden_size':16,"));
    check_other_version(in_output("straight", "checkpoint-1480/resume.json"));
    static const char *const files[] = {"checkpoint-1480/model.bin", "checkpoint-1480/optimizer.safetensors"};
    for (size_t i = 0; i < 2; i++) {
        flip_bit(in_output("straight", files[i]));
        check_refused("", "its weights or moments are damaged");
        CHECK(strstr(output, "checkpoint-1440"));
        flip_bit(in_output("straight", files[i]));
    }
    CHECK(truncate(in_output("straight", "checkpoint-1480/optimizer.safetensors"), 1000) == 0);
    check_refused("", "optimizer.safetensors: ");
    CHECK(strstr(output, "checkpoint-1440"));
    CHECK(truncate(in_output("straight", "checkpoint-1480/model.bin"), 1000) == 0);
    check_refused("", "model.bin: expected");
    CHECK(strstr(output, "checkpoint-1440"));
    remove_tree(temp_path("straight"));
}

// If stderr is no terminal, there is no progress line. An error is one line there.
static void test_streams(void)
{
    CHECK(run("%s --output_dir=%s --max_steps=2 >/dev/null", temp_path("config.json"), temp_path("quiet")) == 0);
    CHECK_STR(output, "");
    CHECK(run("%s --output_dir=%s --nonsense=1 >/dev/null", temp_path("config.json"), temp_path("quiet")) == 1);
    CHECK(strchr(output, '\n') == output + strlen(output) - 1);
    remove_tree(temp_path("quiet"));
}

static void test_inspect(void)
{
    CHECK(run("inspect %s --rows=2", temp_path("config.json")) == 0);
    CHECK(strstr(output, "MASKED") && strstr(output, "LEARNS") && strstr(output, "\nshare supervised: "));
    CHECK(!strstr(output, "never predicted") && strstr(output, "\n  mask=assistant: supervised "));
    CHECK(strstr(output, "input_ids (2, ") && strstr(output, "attention_mask (2, ") && strstr(output, "labels (2, "));
    CHECK(run("inspect %s --json", temp_path("config.json")) == 0);
    cJSON *summary = last_line_json(), *first = cJSON_ParseWithOpts(output, NULL, false);
    const cJSON *s = json_get(summary, "summary");
    CHECK(json_get(s, "rows")->valuedouble == 8 && json_get(s, "dropped")->valuedouble == 0);
    CHECK_STR(json_string(s, "mask"), "assistant");
    CHECK_STR(json_string(first, "text"), "<s>User: say a\nAssistant: aaa</s>\n");
    CHECK(cJSON_GetArraySize(json_get(first, "labels")) == cJSON_GetArraySize(json_get(first, "roles")));
    CHECK(json_get(first, "line")->valuedouble == 1 && cJSON_IsFalse(json_get(first, "dropped")));
    cJSON_Delete(summary);
    cJSON_Delete(first);
    CHECK(run("inspect %s --model_init=null --row=7", temp_path("config.json")) == 0);         // needs no model
    CHECK(strstr(output, "row 7 (line 8)"));
    CHECK(run("inspect %s --assistant_only_loss=false", temp_path("config.json")) == 0);
    CHECK(strstr(output, "share supervised: 100.0 %\nnote: token 0 has a label too, but it is never predicted\n"));
}

static void test_generation(void)
{
    const char *model = in_output("out", "model.bin");
    CHECK(run("chat %s --prompt='say a' --temperature=0 --max_new_tokens=8", model) == 0);    // with its template
    char first[64];
    snprintf(first, sizeof first, "%.60s", output);
    CHECK(run("chat %s --prompt='say a' --temperature=0 --max_new_tokens=8", model) == 0);
    CHECK_STR(output, first);
    CHECK(run("sample %s --prompt=User --temperature=1 --seed=3 --max_new_tokens=20", model) == 0);
    CHECK(strncmp(output, "User", 4) == 0);
}

// The list of keys in configs/README.md is what --help prints, line by line.
static void test_readme_has_the_keys(void)
{
    File readme;
    Err e;
    if (!CHECK(run("--help") == 0) || !CHECK_MSG(file_map(&readme, "configs/README.md", &e), "%s", e.text)) return;
    char *text = mem_strndup((const char *)readme.data, readme.size), *end = strstr(output, "\nKeys of inspect");
    CHECK(end && strstr(output, "\n  learning_rate"));
    if (end) *end = 0;
    char *line = strtok(strstr(output, "Keys of a config"), "\n");
    while ((line = strtok(NULL, "\n"))) CHECK_MSG(strstr(text, line), "configs/README.md lacks: %s", line);
    free(text);
    file_unmap(&readme);
}

static void test_wrong_usage(void)
{
    CHECK(run(" ") == 2);
    CHECK(run("inspect") == 2);
    CHECK(run("export x") == 2);
    CHECK(run("--help") == 0 && strstr(output, "learning_rate") && strstr(output, "max_new_tokens"));
}

// Each case changes one thing of the good config. "%s" is the temporary folder.
static void check_bad_arguments(const char *command, const BadCase *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char arguments[512];
        snprintf(arguments, sizeof arguments, cases[i].arguments, temp_dir, temp_dir);
        int status = run("%s %s --output_dir=%s %s", command, temp_path("config.json"), temp_path("bad"), arguments);
        CHECK_MSG(status == 1, "%s", arguments);
        fails_with(cases[i].message);
    }
    CHECK(!file_exists(in_output("bad", "model.bin")));
}

static void test_bad_arguments(void)
{
    static const BadCase cases[] = {
        {"--learning_rat=1", "unknown key \"learning_rat\": did you mean \"learning_rate\"?"},
        {"--rows=2", "unknown key \"rows\""},
        {"--learning_rate=fast", "learning_rate: expected a number, 0 to 100, found \"fast\""},
        {"--learning_rate=-1", "learning_rate: expected a number, 0 to 100, found -1"},
        {"--max_steps=1.5", "max_steps: expected a whole number, -1 or more, found 1.5"},
        {"--shuffle=3", "train_sampling_strategy: expected one of random|sequential, found 3"},
        {"--optim=lion", "optim: expected one of adamw_torch|sgd, found lion"},
        {"--model_init=3", "model_init: expected an object or null, found 3"},
        {"--max_length=4", "nothing to learn: the mask selects no token of the 6 rows"},
        {"--eval_split=0.9", "eval_split: expected to leave rows to train on"},
        {"--eval_dataset_name=%s/rows.jsonl", "eval_split and eval_dataset_name: expected one of the two"},
        {"--dataset_name=%s/absent.jsonl", "absent.jsonl: cannot open: No such file"},
        {"--dataset_name=%s", "expected a file, found a folder"},
        {"--dataset_name=null", "dataset_name: expected a path"},
        {"--completion_only_loss=true", "rows.jsonl:1: completion_only_loss: expected prompt and completion"},
        {"--chat_template_path=null", "rows.jsonl:1: messages need a chat template"},
        {"--chat_template_path=%s/absent.jinja", "absent.jinja: cannot open"},
        {"--output_dir=/proc/no", "output_dir: /proc/no: cannot make the folder"},
        {"--output_dir=null", "output_dir: expected a path"},
        {"--output_dir=%s/out", "holds a model, checkpoints or a comparison already"},
        {"--output_dir=%s/rows.jsonl", "rows.jsonl: cannot make the folder"},
        {"--model_name_or_path=x", "model_init and model_name_or_path: expected one of the two"},
        {"--model_init=null", "model_name_or_path: expected a path, found nothing"},
        {"--model_init=null --model_name_or_path=%s/absent.bin", "absent.bin: cannot open"},
        {"--model_init=null --model_name_or_path=%s/rows.jsonl", "rows.jsonl: header:"},
        {"--model_init=null --model_name_or_path=%s", "config.json"},
        {"--model_init='{\"hidden_size\": 16}'",
         "model_init: intermediate_size: expected a whole number from 1 to 2147483647, found nothing"},
        {"--tokenizer_name_or_path=%s/rows.jsonl", "rows.jsonl"},
        {"--tokenizer_name_or_path=%s/absent.bin", "absent.bin"},
    };
    check_bad_arguments("", cases, sizeof cases / sizeof *cases);
    static const BadCase inspect_cases[] = {{"--row=8", "row: expected 0 to 7, found 8"},
                                            {"--json=2", "json: expected true or false"}};
    check_bad_arguments("inspect", inspect_cases, 2);
}

static void test_bad_files(void)
{
    static const struct { const char *text, *message; } cases[] = {
        {"{'max_steps': 1,}", "bad.json:1:17: broken JSON"},
        {"[]", "bad.json: expected an object, found a list"},
        {"{'max_step': 1}", "bad.json: unknown key 'max_step': did you mean 'max_steps'?"},
        {"{'max_steps': '1'}", "bad.json: max_steps: expected a whole number, -1 or more, found a string"},
        {"{'dataset_name': 1}", "bad.json: dataset_name: expected a string or null, found 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK(run("%s", temp_text("bad.json", quoted(cases[i].text))) == 1);
        fails_with(quoted(cases[i].message));
    }
    CHECK(run("%s", temp_path("none.json")) == 1);
    fails_with("none.json: cannot open");

    static const struct { const char *text, *message; } templates[] = {
        {"{{ bos_token }}\n{% for m in messages %}x", "bad.jinja:2:"},
        {"{% for %}", "bad.jinja:1:8: syntax error"},
        {"{{ raise_exception('no system here') }}", "rows.jsonl:1: "},
        {"{{ raise_exception('no system here') }}", "raise: no system here"},
        {"{{ messages[0].content | shout }}", "No filter named 'shout'"},
    };
    for (size_t i = 0; i < sizeof templates / sizeof *templates; i++) {
        CHECK(run("%s --chat_template_path=%s --output_dir=%s", temp_path("config.json"),
                  temp_text("bad.jinja", templates[i].text), temp_path("bad")) == 1);
        fails_with(templates[i].message);
    }
    temp_text("bad.jsonl", quoted("{'messages': [{'role': 'user', 'content': 'a'}]}\n"));
    CHECK(run("%s --dataset_name=%s --eval_split=0 --output_dir=%s", temp_path("config.json"), temp_path("bad.jsonl"),
              temp_path("bad")) == 1);
    fails_with("bad.jsonl:1: assistant_only_loss: expected an assistant message");
}

// A model whose vocabulary has another size than the tokenizer's.
static void test_other_vocabulary(void)
{
    CHECK(run("%s --output_dir=%s --max_steps=1 --model_init='%s'", temp_path("config.json"), temp_path("bad"),
              quoted("{'hidden_size': 8, 'intermediate_size': 8, 'num_hidden_layers': 1, 'num_attention_heads': 1,"
                     " 'vocab_size': 300, 'max_position_embeddings': 64}")) == 1);
    fails_with("expected a tokenizer of 300 pieces, the model's vocab_size, found 260");
}

// ---- ../shared ----------------------------------------------------------------------------------------------------

static void check_greedy(const char *prompt, int n, const char *file)
{
    char path[128];
    File f;
    Err e;
    snprintf(path, sizeof path, "../shared/models/oracle/%s", file);
    if (!CHECK_MSG(file_map(&f, path, &e), "%s", e.text)) return;
    CHECK(run("sample ../shared/models/stories260K.bin --tokenizer_name_or_path=../shared/models/tok512.bin"
              " --temperature=0 --max_new_tokens=%d --prompt='%s'", n, prompt) == 0);
    CHECK_MSG(strlen(output) == f.size && memcmp(output, f.data, f.size) == 0, "%s: %s", file, output);
    file_unmap(&f);
}

// llama2.c's own greedy texts. It counts a prompt's tokens in its number of steps.
static void test_shared_greedy(void)
{
    FOLDER_OR_SKIP("../shared/models/oracle");
    check_greedy("", 256, "stories260K_greedy_256.txt");
    check_greedy("Once upon a time,", 128 - 5, "greedy_128_Once_upon_a_time_.txt");
    check_greedy("One day, a girl named Mia found a", 128 - 15, "greedy_128_One_day_a_girl_named.txt");
    check_greedy("The little dog", 128 - 4, "greedy_128_The_little_dog_.txt");
}

int main(void)
{
    temp_begin();
    write_fixture();
    RUN(test_training);
    RUN(test_same_run_same_bits);
    RUN(test_accumulation);
    RUN(test_unmasked);
    RUN(test_other_options);
    RUN(test_interrupt);
    RUN(test_resume);
    RUN(test_bad_checkpoints);
    RUN(test_streams);
    RUN(test_inspect);
    RUN(test_generation);
    RUN(test_readme_has_the_keys);
    RUN(test_wrong_usage);
    RUN(test_bad_arguments);
    RUN(test_bad_files);
    RUN(test_other_vocabulary);
    RUN(test_shared_greedy);
    RUN(test_resume_of_an_adapter);
    temp_end();
    return check_report();
}
