// A checkpoint folder in up to three parts: resume.json, optimizer.safetensors as "SIZE{header}" and SIZE bytes
// of data, and model.bin. A run of a model of 50 weights and two rows is resumed from it.
#include "shard.h"

#include "../../data/run/resume.h"

static const char config_text[] =
    "{'hidden_size': 2, 'intermediate_size': 2, 'num_hidden_layers': 1, 'num_attention_heads': 1, 'vocab_size': 8,"
    " 'max_position_embeddings': 4, 'rms_norm_eps': 1e-5, 'tie_word_embeddings': true}";

// As train_run opens one, up to the checkpoint: its rows are token ids, so that it needs no tokenizer.
static bool open_run(Run *r, Config *c, const char *rows, Err *e)
{
    static const char *const arguments[] = {"--eval_split=0.5", "--resume_from_checkpoint=latest",
                                            "--save_total_limit=1"};
    char output_dir[320];
    options_init(&r->options);
    snprintf(output_dir, sizeof output_dir, "--output_dir=%s", fuzz_folder);
    bool ok = options_set(&r->options, output_dir, FOR_CONFIG, e);
    for (size_t i = 0; ok && i < sizeof arguments / sizeof *arguments; i++)
        ok = options_set(&r->options, arguments[i], FOR_CONFIG, e);
    cJSON *json = json_parse(quoted(config_text), sizeof config_text - 1, "config", 0, e);
    ok = ok && config_from_json(c, json, "config", e);
    cJSON_Delete(json);
    r->base_path = mem_strdup("model.bin");
    r->recipe = (Recipe){.text_field = "text", .assistant_only_loss = -1, .completion_only_loss = -1,
                         .max_length = 4, .vocab_size = c->vocab_size};
    ok = ok && dataset_open(&r->data, rows, e) && dataset_build(&r->data, &r->recipe, e);
    r->n_train = r->n_eval = 1;
    r->eval = ok ? r->data.examples + 1 : NULL;
    r->optim = (Optim){.id = OPTIM_ADAMW};
    return ok && optim_init(&r->optim, params_count(c), e);
}

void fuzz_checkpoint_folder(const char *data, size_t size);
void fuzz_checkpoint_folder(const char *data, size_t size)
{
    static const char rows[] = "{'input_ids': [1, 2, 3]}\n{'input_ids': [4, 5]}\n";
    static const char log[] = "{'step': 1}\n{'step': 2}\n";
    Part rest = {data, size}, state = {0}, moments = {0}, model = {0};
    Run r = {0};
    Progress at = {0};
    Config c;
    Err e;
    fuzz_part(&rest, &state);
    if (mkdir(fuzz_path("checkpoint-2"), 0777) != 0 && !file_is_dir(fuzz_path("checkpoint-2"))) abort();
    fuzz_file("checkpoint-2/resume.json", state.data, state.len);
    unlink(fuzz_path("checkpoint-2/optimizer.safetensors"));
    unlink(fuzz_path("checkpoint-2/model.bin"));
    if (fuzz_part(&rest, &moments)) put_shard("checkpoint-2/optimizer.safetensors", moments);
    if (fuzz_part(&rest, &model)) fuzz_file("checkpoint-2/model.bin", model.data, model.len);
    fuzz_file("log.jsonl", quoted(log), sizeof log - 1);
    if (!open_run(&r, &c, fuzz_file("input", quoted(rows), sizeof rows - 1), &e)) abort();
    char *folder = resume_find(&r.options, &e);
    if (!folder) abort();
    cJSON *opened = resume_open(&r, folder, &e);
    bool has_model = opened && run_open_model(&r, &r.model, &c, folder, &e);
    if (has_model && (r.model.config.seq_len != c.seq_len || r.model.config.vocab_size != c.vocab_size)) abort();
    if (has_model && resume_read(&r, &at, opened, folder, &e) && at.step < 0) abort();
    cJSON_Delete(opened);
    free(folder);
    run_free(&r);
}

HARNESS(fuzz_checkpoint_folder)
