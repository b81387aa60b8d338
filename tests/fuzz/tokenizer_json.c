// A tokenizer.json and, as a second part, the tokenizer_config.json beside it.
#include "tokens.h"

void fuzz_tokenizer_json(const char *data, size_t size);
void fuzz_tokenizer_json(const char *data, size_t size)
{
    Part rest = {data, size}, json = {0}, config = {0};
    Err e;
    fuzz_part(&rest, &json);
    unlink(fuzz_path("tokenizer_config.json"));
    if (fuzz_part(&rest, &config)) fuzz_file("tokenizer_config.json", config.data, config.len);
    Tokenizer *t = tokenizer_load(fuzz_file("tokenizer.json", json.data, json.len), &e);
    if (t) use_tokenizer_in_every_way(t, data, size);
    tokenizer_free(t);
}

HARNESS(fuzz_tokenizer_json)
