// shapes.h: the models of the benchmarks, with random weights: those of stories260K, stories15M and SmolLM2-135M.
#ifndef SHAPES_H
#define SHAPES_H

#include "../model/transformer.h"

#include <string.h>

typedef struct { const char *name; Config config; int rows, seq; } ModelShape;     // a step's rows, and the longest one

static const ModelShape model_shapes[] = {
    {"260K", {.dim = 64, .hidden_dim = 172, .n_layers = 5, .n_heads = 8, .n_kv_heads = 4, .vocab_size = 512}, 16, 512},
    {"15M", {.dim = 288, .hidden_dim = 768, .n_layers = 6, .n_heads = 6, .n_kv_heads = 6, .vocab_size = 32000},
     24, 256},
    {"135M", {.dim = 576, .hidden_dim = 1536, .n_layers = 30, .n_heads = 9, .n_kv_heads = 3, .vocab_size = 49152},
     8, 256},
};
enum { N_SHAPES = sizeof model_shapes / sizeof *model_shapes };

// NULL if no shape has this name
static inline const ModelShape *shape_find(const char *name)
{
    for (size_t i = 0; i < N_SHAPES; i++)
        if (strcmp(model_shapes[i].name, name) == 0) return &model_shapes[i];
    return NULL;
}

static inline bool shape_init(Model *m, const ModelShape *s, Err *e)
{
    Config c = s->config;
    c.head_dim = c.dim / c.n_heads;
    c.seq_len = 8192;
    c.tied = true;
    c.rope_theta = 10000;
    c.norm_eps = 1e-5f;
    if (!model_init(m, &c, e)) return false;
    model_randomize(m, 1);
    return true;
}

#endif
