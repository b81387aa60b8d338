// A .gguf: the model and the tokenizer in it. What loads can be saved again.
#include "tokens.h"

#include "../../model/checkpoint.h"

void fuzz_gguf(const char *data, size_t size);
void fuzz_gguf(const char *data, size_t size)
{
    Model m;
    Config c;
    Err e;
    GgufKeys k = {0};
    const char *path = fuzz_file("input.gguf", data, size);
    bool shape = checkpoint_config(&c, path, &e), ok = checkpoint_load(&m, path, &e);
    if (ok && !shape) abort();
    Tokenizer *t = tokenizer_load(path, &e);
    if (t) use_tokenizer_in_every_way(t, data, size);
    static const int none[] = {-1, -1, -1};
    bool has_keys = t && tokenizer_export_gguf(t, &k, tokenizer_vocab_size(t) + 1, NULL, none, &e);
    if (ok && gguf_save(&m, fuzz_path("out.gguf"), has_keys ? &k : NULL, DTYPE_F32, &e)) {
        Model back;
        if (!checkpoint_load(&back, fuzz_path("out.gguf"), &e)) abort();
        model_free(&back);
    }
    if (ok) model_free(&m);
    tokenizer_free(t);
    buf_free(&k.bytes);
}

HARNESS(fuzz_gguf)
