// An adapter's folder in two parts: adapter_config.json, and adapter_model.safetensors as "SIZE{header}" and SIZE bytes
// of data. The base is a model of 200 weights. What can be read can be merged, and written and read again.
#include "shard.h"

#include "../../model/checkpoint.h"
#include "../../model/peft.h"

static Model tiny_base(void)
{
    static const char text[] =
        "{'hidden_size': 4, 'intermediate_size': 3, 'num_hidden_layers': 2, 'num_attention_heads': 2, 'vocab_size': 8,"
        " 'num_key_value_heads': 1, 'max_position_embeddings': 4, 'tie_word_embeddings': true}";
    Model m;
    Config c;
    Err e;
    cJSON *json = json_parse(quoted(text), sizeof text - 1, "config", 0, &e);
    if (!config_from_json(&c, json, "config", &e) || !model_init(&m, &c, &e)) abort();
    model_randomize(&m, 1);
    cJSON_Delete(json);
    return m;
}

void fuzz_adapter(const char *data, size_t size);
void fuzz_adapter(const char *data, size_t size)
{
    Part rest = {data, size}, config = {0}, shard = {0};
    Err e;
    fuzz_part(&rest, &config);
    fuzz_file("adapter_config.json", config.data, config.len);
    unlink(fuzz_path("adapter_model.safetensors"));
    if (fuzz_part(&rest, &shard)) put_shard("adapter_model.safetensors", shard);
    char folder[256];
    strcpy(folder, fuzz_folder);
    free(adapter_base(folder, NULL, &e));
    Model m = tiny_base(), again = tiny_base();
    if (adapter_load(&m, folder, true, &e)) {
        if (!adapter_save(&m, folder, "base", &e) || !adapter_load(&again, folder, false, &e)) abort();
        size_t bytes = m.n_trained * sizeof(float);
        if (again.n_trained != m.n_trained || memcmp(again.trained, m.trained, bytes) != 0) abort();
        model_merge(&m);
    }
    model_free(&m);
    model_free(&again);
}

HARNESS(fuzz_adapter)
