// The label is the mask: the labels alone decide which tokens are in the loss.
#include "../data/rows/batch.h"
#include "../model/transformer.h"
#include "small_run.h"

#include <libgen.h>

static char *unmasked;         // a ./train whose example.c never writes -100: the Makefile changed one line of it

// The loss of one row, as training has it: the weighted mean over its targets.
static double loss_of(const Model *m, const Example *ex)
{
    Batch b;
    Work w;
    Err e;
    BatchSize size = example_size(ex, BATCH_TRAIN);
    TokenLoss losses[8];
    double sum = 0;
    CHECK(batch_init(&b, size, &e) && work_init(&w, &m->config, size, WORK_LOSS, &e));
    batch_add(&b, ex, BATCH_TRAIN);
    model_loss(m, &w, &b, losses);
    for (size_t i = 0; i < b.M; i++) sum += (double)b.weight[i] * (double)losses[i].nll;
    batch_free(&b);
    work_free(&w);
    return sum / example_weight(ex);
}

static void a_changed_label_changes_the_loss(void)
{
    const Config c = {.dim = 8, .hidden_dim = 16, .n_layers = 2, .n_heads = 2, .n_kv_heads = 1, .head_dim = 4,
                      .vocab_size = 16, .seq_len = 8, .tied = true, .rope_theta = 10000, .norm_eps = 1e-5f};
    Model m;
    Err e;
    if (!CHECK_MSG(model_init(&m, &c, &e), "%s", e.text)) return;
    model_randomize(&m, 3);
    int ids[] = {2, 9, 4, 3, 7, 4}, labels[] = {IGNORE, IGNORE, IGNORE, IGNORE, 7, 4};
    float weights[] = {0, 0, 0, 0, 1, 1};
    Example ex = {.n = 6, .ids = ids, .labels = labels, .weights = weights, .roles = (unsigned char[6]){0}};
    double loss = loss_of(&m, &ex);
    CHECK(loss > 0);
    labels[5] = IGNORE;                                    // not in the loss, whatever its weight
    double without = loss_of(&m, &ex);
    CHECK(fabs(without - loss) > 1e-6);
    weights[5] = 100;
    CHECK(loss_of(&m, &ex) == without);
    labels[4] = 8;                                         // another target
    CHECK(fabs(loss_of(&m, &ex) - without) > 1e-6);
    model_free(&m);
}

static void the_line_that_writes_it_is_the_mask(void)
{
    const char *config = temp_path("config.json");
    Buf masked = {0}, changed = {0};
    CHECK(run("%s --output_dir=%s", config, temp_path("masked")) == 0);
    CHECK(run("%s --output_dir=%s --prompt_loss_weight=1", config, temp_path("weight_1")) == 0);
    CHECK(setenv("TRAIN", unmasked, 1) == 0);
    CHECK_MSG(run("%s --output_dir=%s", config, temp_path("changed")) == 0, "%s", output);
    check_same_run("weight_1", "changed");
    log_without_times("masked", &masked);
    log_without_times("changed", &changed);
    CHECK(strcmp(changed.data, masked.data) != 0);
    CHECK(!same_files(in_output("changed", "model.bin"), in_output("masked", "model.bin")));
    buf_free(&masked);
    buf_free(&changed);
}

// The value of `key` in the first row of inspect --json, as text; owned by the caller.
static char *inspected(const char *rows, const char *options, const char *key)
{
    int status = run("inspect %s --dataset_name=%s --eval_split=0 --json %s", temp_path("config.json"),
                     temp_text("some.jsonl", quoted(rows)), options);
    CHECK_MSG(status == 0, "%s", output);
    cJSON *row = cJSON_ParseWithOpts(output, NULL, false);
    char *text = cJSON_PrintUnformatted(json_get(row, key));
    cJSON_Delete(row);
    return text ? text : mem_strdup("nothing");
}

static void check_inspected(const char *rows, const char *options, const char *labels, const char *weights)
{
    char *got = inspected(rows, options, "labels");
    CHECK_STR(got, labels);
    free(got);
    got = inspected(rows, options, "weights");
    CHECK_STR(got, weights);
    free(got);
}

// prompt_loss_weight brings back what the mask leaves out, and nothing that the row itself leaves out.
static void what_the_row_leaves_out_stays_out(void)
{
    static const char given[] = "{'input_ids': [5, 6, 7], 'labels': [-100, 6, -100]}\n";
    static const char masks[] = "{'input_ids': [5, 6, 7], 'assistant_masks': [0, 1, 0]}\n";
    static const char off[] = "{'messages': [{'role': 'assistant', 'content': 'a', 'weight': 0},"
                              " {'role': 'assistant', 'content': 'b'}]}\n";
    check_inspected(given, "", "[-100,6,-100]", "[0,1,0]");
    check_inspected(given, "--prompt_loss_weight=1", "[-100,6,-100]", "[0,1,0]");
    check_inspected(masks, "", "[-100,6,-100]", "[0,1,0]");
    check_inspected(masks, "--prompt_loss_weight=0.5", "[5,6,7]", "[0.5,1,0.5]");
    char *all = inspected(off, "--prompt_loss_weight=1", "labels"), *ids = inspected(off, "", "input_ids");
    CHECK(strstr(all, "-100"));                            // the first answer
    CHECK(strcmp(all, ids) != 0);
    free(all);
    free(ids);
    const char *some = temp_text("some.jsonl", quoted(given));
    CHECK(run("compare %s --dataset_name=%s --eval_split=0 --eval_dataset_name=%s --output_dir=%s",
              temp_path("config.json"), some, some, temp_path("refused")) == 1);
    CHECK_MSG(strstr(output, "leaves no token out that prompt_loss_weight could bring back"), "%s", output);
}

// The mask alone decides whether a row takes part: here the first row has no answer left, whatever the weight.
static void all_arms_train_on_the_same_rows(void)
{
    static const char rows[] = "{'input_ids': [5, 6, 7], 'assistant_masks': [0, 0, 0]}\n"
                               "{'input_ids': [5, 6, 7], 'assistant_masks': [0, 1, 0]}\n";
    static const char *const weights[] = {"0", "1"};
    for (int i = 0; i < 2; i++) {
        char *dropped = inspected(rows, i ? "--prompt_loss_weight=1" : "", "dropped");
        CHECK_STR(dropped, "true");
        free(dropped);
        int status = run("%s --dataset_name=%s --eval_split=0 --output_dir=%s --max_steps=1 --logging_steps=1"
                         " --prompt_loss_weight=%s", temp_path("config.json"), temp_path("some.jsonl"),
                         temp_path(weights[i]), weights[i]);
        CHECK_MSG(status == 0, "%s", output);
        Buf log = {0};
        log_without_times(weights[i], &log);
        CHECK_MSG(strstr(log.data, quoted("'num_tokens':3,")), "%s", log.data);       // one row of three tokens
        buf_free(&log);
    }
}

int main(int argc, char **argv)
{
    unmasked = path_join(argc > 0 ? dirname(argv[0]) : ".", "train_unmasked");
    temp_begin();
    write_fixture();
    RUN(a_changed_label_changes_the_loss);
    RUN(what_the_row_leaves_out_stays_out);
    RUN(all_arms_train_on_the_same_rows);
    RUN(the_line_that_writes_it_is_the_mask);
    temp_end();
    free(unmasked);
    return check_report();
}
