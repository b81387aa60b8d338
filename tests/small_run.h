// small_run.h: a training run of a second, for tests of the program, and what it leaves in its output_dir.
#ifndef SMALL_RUN_H
#define SMALL_RUN_H

#include "program.h"

// Runs "$TRAIN <arguments>"; returns its exit status.
static inline int run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static inline int run(const char *fmt, ...)
{
    char arguments[2048];
    va_list args;
    va_start(args, fmt);
    vsnprintf(arguments, sizeof arguments, fmt, args);
    va_end(args);
    return run_with("", arguments);
}

// Eight short chats, a model of some 8,000 weights made from scratch, the byte tokenizer: two seconds of training.
static const char CONFIG[] =
    "{\"model_init\": {\"hidden_size\": 16, \"intermediate_size\": 32, \"num_hidden_layers\": 2, \"num_attention_heads\": 4,"
    " \"num_key_value_heads\": 2, \"max_position_embeddings\": 64, \"tie_word_embeddings\": true},"
    " \"tokenizer_name_or_path\": \"%s/tokenizer.bin\", \"chat_template_path\": \"configs/templates/plain.jinja\","
    " \"dataset_name\": \"%s/rows.jsonl\", \"eval_split\": 0.25, \"max_steps\": 20, \"learning_rate\": 0.01, \"logging_steps\": 5,"
    " \"eval_steps\": 10, \"per_device_train_batch_size\": 2, \"output_dir\": \"%s/out\"}";

static inline void write_fixture(void)
{
    Buf rows = {0}, config = {0};
    for (int i = 0; i < 8; i++)
        buf_addf(&rows, "{\"messages\": [{\"role\": \"user\", \"content\": \"say %c\"}, {\"role\": \"assistant\", \"content\": \"%c%c%c\"}]}\n",
                 'a' + i % 2, 'a' + i % 2, 'a' + i % 2, 'a' + i % 2);
    buf_addf(&config, CONFIG, temp_dir, temp_dir, temp_dir);
    temp_byte_tokenizer();
    temp_text("rows.jsonl", rows.data);
    temp_text("config.json", config.data);
    buf_free(&rows);
    buf_free(&config);
}

static inline const char *in_output(const char *dir, const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return temp_path(path);
}

static inline bool same_files(const char *a, const char *b)
{
    File x = {0}, y = {0};
    Err e;
    bool same = file_map(&x, a, &e) && file_map(&y, b, &e) && x.size == y.size && memcmp(x.data, y.data, x.size) == 0;
    file_unmap(&x);
    file_unmap(&y);
    return same;
}

// The log without what the clock says.
static inline void log_without_times(const char *dir, Buf *out)
{
    char line[4096];
    FILE *f = fopen(in_output(dir, "log.jsonl"), "r");
    buf_clear(out);
    while (f && fgets(line, sizeof line, f)) {
        cJSON *json = cJSON_Parse(line);
        static const char *const times[] = {"tokens_per_second", "train_runtime", "train_samples_per_second", "train_tokens_per_second"};
        for (size_t i = 0; i < sizeof times / sizeof *times; i++) cJSON_DeleteItemFromObjectCaseSensitive(json, times[i]);
        char *text = cJSON_PrintUnformatted(json);
        buf_adds(out, text);
        buf_addc(out, '\n');
        cJSON_free(text);
        cJSON_Delete(json);
    }
    if (f) fclose(f);
}

#endif
