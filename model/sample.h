// sample: text from a model, one token at a time, with a cache of keys and values.
#ifndef SAMPLE_H
#define SAMPLE_H

#include "transformer.h"

typedef struct {
    const Model *model;                                    // borrowed
    size_t n_cached, capacity;                             // positions seen; the most that fit
    float *cache;                                          // (L, capacity, 2*K*D): keys after RoPE, then values
    float *x, *norm, *q, *att, *gu, *y, *scores, *logits;  // of the last token
} Sampler;

bool sampler_init(Sampler *s, const Model *m, size_t capacity, Err *e);
bool sampler_reserve(Sampler *s, size_t capacity, Err *e); // at least this capacity; what was seen stays
void sampler_free(Sampler *s);                             // accepts {0}
void sampler_reset(Sampler *s);                            // forgets the positions

// Appends one token (n_cached < capacity). s->logits (V) then say what follows.
void sampler_feed(Sampler *s, int token);

// A token from s->logits: the most likely one at temperature 0, else from softmax(logits / temperature), of which
// top_p in (0, 1) keeps the most likely tokens that together reach that probability (Holtzman et al. 2020). Uses
// up the logits.
int sampler_choose(Sampler *s, float temperature, float top_p, Rng *rng);

#endif
