// hide: the two masks told apart. A token that the loss mask leaves out is still attended to; one that is hidden from
// attention is not, whether it has a label or not.
#ifndef HIDE_H
#define HIDE_H

#include "../../model/diagnose.h"
#include "../run/inputs.h"

// For some tokens of a row, the marked ones. To a hidden token only itself attends; all tokens keep their positions.
typedef struct {
    double answer_loss;                                    // the mean nll of the assistant's tokens
    PlaceGradient marked;                                  // of the mean nll over the labels, at the marked tokens
} HideCase;
typedef HideCase HideCases[2][2];                          // [have the marked ones labels?][are they hidden?]

// The labels are those of the assistant's tokens that are not marked, and in cases[1] also of the marked ones. `loss`
// (n each; NULL: not wanted): the nll of each of the assistant's tokens, without and with the marked ones hidden; NAN
// of the other tokens. The row has an assistant's token behind its first. Replaces m->grads; without dropout.
bool hide_tokens(Model *m, const Example *ex, const bool *marked, HideCases cases, float *loss[2], Err *e);

// inspect --hide: loads the model and shows all this for one row.
bool hide_inspect(Run *r, const Config *c, const Example *ex, Err *e);

#endif
