// transformer: the loss and gradient of a model (model.h) over ragged rows. It sees numbers only: no text, no roles.
//
// To read the model for the first time, begin with model/sample.c. sampler_feed there is the reference: the whole
// forward for one token or more, on one page. transformer.c is the fast version: the same operations for all tokens of
// a batch, and their gradients. attention_plain in tests/test_ops.c is attention in plain loops; model/attention.c is
// the fast version.
#ifndef TRANSFORMER_H
#define TRANSFORMER_H

#include "work.h"

// The batch has at least one target and fits into w->max.

// loss (M): of each target.
void model_loss(const Model *m, Work *w, const Batch *b, TokenLoss *loss);
// The same, and the gradient of sum_m weight_m * nll_m / divisor. With `add` it is added to m->grads; else it replaces
// m->grads. w is not of kind WORK_LOSS.
void model_gradient(Model *m, Work *w, const Batch *b, TokenLoss *loss, double divisor, bool add);

#endif
