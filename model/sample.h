// sample: text from a model, token by token, with a cache of keys and values.
#ifndef SAMPLE_H
#define SAMPLE_H

#include "model.h"

typedef struct {
    const Model *model;                                    // borrowed
    size_t n_cached, capacity;                             // positions seen; the most that fit
    float *cache;                                          // (L, capacity, 2*K*D): keys after RoPE, then values
    float *logits;                                         // (V): what may follow the last token
    size_t rows;                                           // of scratch: as many tokens at a time
    float *x, *norm, *q, *att, *gu, *y, *unused;           // (rows, C or H*D or 2*F or F); what a backward would need
    float *scores;                                         // (H, capacity)
    int *position;                                         // (rows)
} Sampler;

bool sampler_init(Sampler *s, const Model *m, size_t capacity, Err *e);
// At least this capacity, and twice the old one if it must grow; what was seen stays.
bool sampler_reserve(Sampler *s, size_t capacity, Err *e);
void sampler_free(Sampler *s);                             // accepts {0}
void sampler_reset(Sampler *s);                            // forgets the positions

// Appends n tokens, at least one; there must be room: n_cached + n <= capacity. s->logits (V) then say what follows the
// last one. A prompt that comes in one call takes less time: each weight is read once for many tokens.
void sampler_feed(Sampler *s, const int *tokens, size_t n);

// A token from s->logits: the most likely one at temperature 0, else from softmax(logits / temperature), of which
// top_p in (0, 1) keeps the most likely tokens that together reach that probability (Holtzman et al. 2020). Uses
// up the logits.
int sampler_choose(Sampler *s, float temperature, float top_p, Rng *rng);

#endif
