// diagnose: where a number first went wrong. To be asked after a step whose loss or gradient is not finite: it looks at
// everything again, in the order in which it is computed, so that a step that goes well pays nothing.
#ifndef DIAGNOSE_H
#define DIAGNOSE_H

#include "transformer.h"

typedef struct { char text[160]; } Place;                  // "layer 3: attention scores", "gradient of lm_head.weight"

// The first tensor with a NaN or an infinity in it, in the order of the forward (weights) or of the backward
// (gradients, of the batch that came last). False if all is finite.
bool diagnose_weights(const Model *m, Place *place);
bool diagnose_gradients(const Model *m, Place *place);

// Runs the batch forward and finds the first operation with a result that is not finite. False if there is none.
// w is of kind WORK_GRADIENT, since that keeps every layer's activations.
bool diagnose_forward(const Model *m, Work *w, const Batch *b, TokenLoss *loss, Place *place);

// The norm of a gradient over some tokens and targets of a batch: at the logits that predict these targets, and at the
// keys and values of these tokens in layer 0 (NAN where an adapter trains nothing below them).
typedef struct { double logits, keys, values; } PlaceGradient;
// Of sum_m weight_m * nll_m / divisor, over the tokens (N) and the targets (M) that are marked. Fills the losses (M)
// and m->grads. w is of kind WORK_GRADIENT.
PlaceGradient diagnose_places(Model *m, Work *w, const Batch *b, TokenLoss *loss, double divisor, const bool *tokens,
                              const bool *targets);

#endif
