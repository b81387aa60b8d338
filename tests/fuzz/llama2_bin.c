// A llama2.c .bin, version 0 or 1. What loads can be saved again.
#include "fuzz.h"

#include "../../model/checkpoint.h"

void fuzz_llama2_bin(const char *data, size_t size);
void fuzz_llama2_bin(const char *data, size_t size)
{
    Model m;
    Config c;
    Err e;
    const char *path = fuzz_file("input", data, size);
    bool shape = checkpoint_config(&c, path, &e), ok = checkpoint_load(&m, path, &e);
    if (ok != shape) abort();
    if (ok && !formats[FORMAT_BIN].save(&m, fuzz_path("out.bin"), NULL, &e)) abort();
    if (ok) model_free(&m);
}

HARNESS(fuzz_llama2_bin)
