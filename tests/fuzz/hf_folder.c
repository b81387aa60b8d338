// A Hugging Face folder in up to three parts: config.json, index.json, and a shard "SIZE{header}", which becomes
// part.safetensors with SIZE bytes of data (model.safetensors if the index is empty).
#include "shard.h"

#include "../../model/checkpoint.h"

void fuzz_hf_folder(const char *data, size_t size);
void fuzz_hf_folder(const char *data, size_t size)
{
    Part rest = {data, size}, config = {0}, index = {0}, shard = {0};
    fuzz_part(&rest, &config);
    fuzz_file("config.json", config.data, config.len);
    unlink(fuzz_path("model.safetensors"));
    unlink(fuzz_path("model.safetensors.index.json"));
    unlink(fuzz_path("part.safetensors"));
    if (fuzz_part(&rest, &index) && index.len) fuzz_file("model.safetensors.index.json", index.data, index.len);
    if (fuzz_part(&rest, &shard)) put_shard(index.len ? "part.safetensors" : "model.safetensors", shard);
    char folder[256];
    strcpy(folder, fuzz_folder);
    Model m;
    Config c;
    Err e;
    bool shape = checkpoint_config(&c, folder, &e), ok = checkpoint_load(&m, folder, &e);
    if (ok && !shape) abort();
    if (ok) model_free(&m);
}

HARNESS(fuzz_hf_folder)
