// Compares us with the real trl.SFTTrainer: the rows that its collator made, and its log, step by step.
// tests/fixtures/parity holds runs of TRL 1.16, transformers 5.23, PyTorch 2.13, made by tests/oracle/parity.py. Rows,
// labels and num_tokens are compared exactly. Losses may differ as much as with another BLAS: those of TRL and ours
// differ by 3e-6 over 50 steps.
#include "../model/safetensors.h"
#include "program.h"

enum { LOSS = 1, NORM = 2, RATE = 4, TOKENS = 8, EPOCH = 16, MEANS = 32, ALL = 63 };

// `same` leaves out what is known to differ. With accumulation, or several steps a line, TRL's entropy and
// mean_token_accuracy are means of micro-batches; ours are means over tokens.
typedef struct { const char *name; unsigned same; } Case;
static const Case cases[] = {
    {"masked", ALL}, {"unmasked", ALL}, {"prompt_loss_weight", ALL}, {"accumulation", ALL & ~MEANS},
    {"windows", ALL & ~MEANS}, {"decay_cosine", ALL}, {"truncated", ALL}, {"completion_only", ALL}, {"strings", ALL},
    {"glued", ALL}, {"smoothing", ALL}, {"dft", ALL},
    {"evaluation", ALL},                                   // but eval_loss: TRL's is the mean of batch means
};

static const struct { unsigned which; const char *key; double tolerance; } columns[] = {       // relative
    {LOSS, "loss", 2e-4}, {NORM, "grad_norm", 2e-3}, {RATE, "learning_rate", 1e-9}, {TOKENS, "num_tokens", 0},
    {EPOCH, "epoch", 1e-9}, {MEANS, "mean_token_accuracy", 2e-4}, {MEANS, "entropy", 2e-4},
};

static cJSON *read_json(const char *path)
{
    Err e;
    cJSON *json = json_load(path, &e);
    CHECK_MSG(json, "%s", e.text);
    return json;
}

// The config of a case as a file of ours; its data sets lie beside the fixture.
static cJSON *write_config(const Case *c)
{
    char path[128];
    snprintf(path, sizeof path, "tests/fixtures/parity/%s.json", c->name);
    cJSON *want = read_json(path), *config = cJSON_Duplicate(json_get(want, "config"), true);
    static const char *const files[] = {"dataset_name", "eval_dataset_name"};
    for (size_t i = 0; i < 2; i++) {
        const char *name = json_string(config, files[i]);
        if (!name) continue;
        snprintf(path, sizeof path, "tests/fixtures/parity/%s", name);
        cJSON_ReplaceItemInObjectCaseSensitive(config, files[i], cJSON_CreateString(path));
    }
    if (!json_get(config, "logging_steps")) cJSON_AddNumberToObject(config, "logging_steps", 1);
    cJSON_AddStringToObject(config, "output_dir", temp_path("out"));
    Err e;
    CHECK(json_save(config, temp_path("config.json"), &e));
    cJSON_Delete(config);
    return want;
}

// The objects of a .jsonl file that have `key`, as a list.
static cJSON *lines_with(const char *path, const char *key)
{
    static char line[1 << 16];
    cJSON *list = cJSON_CreateArray();
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) {
        cJSON *json = cJSON_Parse(line);
        if (json_get(json, key)) cJSON_AddItemToArray(list, json);
        else cJSON_Delete(json);
    }
    if (f) fclose(f);
    return list;
}

static bool is_dropped(const cJSON *row) { return cJSON_IsTrue(json_get(row, "dropped")); }

static void check_rows(const Case *c, const cJSON *want)
{
    int status = run("inspect %s --json >%s", temp_path("config.json"), temp_path("rows.jsonl"));
    CHECK_MSG(status == 0, "%s: %s", c->name, output);
    cJSON *rows = lines_with(temp_path("rows.jsonl"), "input_ids");
    const cJSON *w = json_get(want, "rows")->child, *got = rows->child;
    for (; w && got; got = got->next) {
        if (is_dropped(got)) continue;
        bool same = cJSON_Compare(json_get(got, "input_ids"), json_get(w, "input_ids"), true) &&
                    cJSON_Compare(json_get(got, "labels"), json_get(w, "labels"), true);
        CHECK_MSG(same, "%s: row %d has other ids or labels than TRL's", c->name, json_get(got, "row")->valueint);
        w = w->next;
    }
    while (got && is_dropped(got)) got = got->next;
    CHECK_MSG(!w && !got, "%s: TRL has %s rows", c->name, w ? "more" : "fewer");
    cJSON_Delete(rows);
}

static void check_number(const Case *c, int step, const char *key, const cJSON *want, const cJSON *got,
                         double tolerance)
{
    double x = want->valuedouble, y = got ? got->valuedouble : NAN;
    CHECK_MSG(fabs(x - y) <= tolerance * fabs(x), "%s, step %d: %s is %.9g in TRL and %.9g here", c->name, step, key, x,
              y);
}

// Steps at the end that fill no logging_steps are logged here, and not in TRL; its train_loss has them too.
static void check_log(const Case *c, const cJSON *want)
{
    CHECK_MSG(run("%s", temp_path("config.json")) == 0, "%s: %s", c->name, output);
    cJSON *log = lines_with(temp_path("out/log.jsonl"), "loss");
    cJSON *end = lines_with(temp_path("out/log.jsonl"), "train_loss");
    const cJSON *got = log->child, *train_loss = json_get(want, "train_loss");
    const cJSON *window = json_get(json_get(want, "config"), "logging_steps");
    int last = json_get(end->child, "step")->valueint, n = cJSON_GetArraySize(json_get(want, "log"));
    bool incomplete = window && last % window->valueint;
    CHECK_MSG(cJSON_GetArraySize(log) == n + incomplete, "%s: other steps", c->name);
    if (train_loss) check_number(c, last, "train_loss", train_loss, json_get(end->child, "train_loss"), 2e-4);
    for (const cJSON *w = json_get(want, "log")->child; w && got; w = w->next, got = got->next) {
        int step = json_get(w, "step")->valueint;
        CHECK(json_get(got, "step")->valueint == step);
        for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
            if (!(c->same & columns[i].which)) continue;
            const char *key = columns[i].key;
            check_number(c, step, key, json_get(w, key), json_get(got, key), columns[i].tolerance);
        }
    }
    cJSON_Delete(log);
    cJSON_Delete(end);
}

// The norm of each tensor after the last update.
static void check_weights(const Case *c, const cJSON *want)
{
    SafeTensors st;
    Err e;
    if (!CHECK_MSG(safetensors_open(&st, temp_path("out/model.safetensors"), &e), "%s", e.text)) return;
    const cJSON *pair;
    cJSON_ArrayForEach(pair, json_get(want, "final_sum_and_norm")) {
        const StTensor *t = safetensors_find(&st, pair->string);
        if (!CHECK_MSG(t, "%s: no %s", c->name, pair->string)) continue;
        float *x = mem_alloc(t->count, sizeof *x);
        double squares = 0, norm = cJSON_GetArrayItem(pair, 1)->valuedouble;
        safetensors_read(&st, t, 0, t->count, x);
        for (size_t i = 0; i < t->count; i++) squares += (double)x[i] * (double)x[i];
        CHECK_MSG(fabs(sqrt(squares) - norm) <= 2e-5 * norm, "%s: the norm of %s is %.9g in TRL and %.9g here", c->name,
                  pair->string, norm, sqrt(squares));
        free(x);
    }
    safetensors_close(&st);
}

static void test_trl(void)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cJSON *want = write_config(&cases[i]);
        check_rows(&cases[i], want);
        check_log(&cases[i], want);
        check_weights(&cases[i], want);
        cJSON_Delete(want);
        remove_tree(temp_path("out"));
    }
}

int main(void)
{
    temp_begin();
    RUN(test_trl);
    temp_end();
    return check_report();
}
