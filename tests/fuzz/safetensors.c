// One safetensors file; every number of every tensor is read.
#include "fuzz.h"

#include "../../model/safetensors.h"

void fuzz_safetensors(const char *data, size_t size);
void fuzz_safetensors(const char *data, size_t size)
{
    SafeTensors st;
    Err e;
    if (!safetensors_open(&st, fuzz_file("input", data, size), &e)) return;
    for (size_t i = 0; i < st.n; i++) {
        const StTensor *t = safetensors_find(&st, st.tensors[i].name);
        if (t != &st.tensors[i]) abort();
        float *numbers = mem_alloc(t->count, sizeof *numbers);
        safetensors_read(&st, t, 0, t->count, numbers);
        safetensors_forget(&st, t);
        free(numbers);
    }
    safetensors_close(&st);
}

HARNESS(fuzz_safetensors)
