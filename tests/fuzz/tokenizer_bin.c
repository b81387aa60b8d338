// A llama2.c tokenizer.bin.
#include "tokens.h"

void fuzz_tokenizer_bin(const char *data, size_t size);
void fuzz_tokenizer_bin(const char *data, size_t size)
{
    Err e;
    unlink(fuzz_path("chat_template.jinja"));
    Tokenizer *t = tokenizer_load(fuzz_file("input", data, size), &e);
    if (t) use_tokenizer_in_every_way(t, data, size);
    tokenizer_free(t);
}

HARNESS(fuzz_tokenizer_bin)
