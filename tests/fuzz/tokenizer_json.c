// A tokenizer.json and, as further parts, what lies beside it: tokenizer_config.json, special_tokens_map.json and
// added_tokens.json.
#include "tokens.h"

void fuzz_tokenizer_json(const char *data, size_t size);
void fuzz_tokenizer_json(const char *data, size_t size)
{
    static const char *const beside[] = {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"};
    Part rest = {data, size}, json = {0}, part = {0};
    Err e;
    fuzz_part(&rest, &json);
    for (size_t i = 0; i < 3; i++) {
        unlink(fuzz_path(beside[i]));
        if (fuzz_part(&rest, &part)) fuzz_file(beside[i], part.data, part.len);
    }
    Tokenizer *t = tokenizer_load(fuzz_file("tokenizer.json", json.data, json.len), &e);
    if (t) use_tokenizer_in_every_way(t, data, size);
    tokenizer_free(t);
}

HARNESS(fuzz_tokenizer_json)
