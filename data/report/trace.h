// trace: how the model of a run reads a few held-out rows at each evaluation, token by token, and what it answers.
#ifndef TRACE_H
#define TRACE_H

#include "../run/inputs.h"

// The rows that are traced: the first MAX_TRACED held-out rows, in the file's order, that have at most TRACED_TOKENS
// tokens, are neither dropped nor cut, and have an answer with something before it.
enum { MAX_TRACED = 16, TRACED_TOKENS = 64, TRACED_MORE = 16 };
// Appends to output_dir/traces.jsonl, for each of them, what the run's model makes of it now:
//   {"step", "row": its place among the held-out rows, from 0,
//    "loss": [null, ...], "rank": [null, ...]   of each token, but the first is never predicted. The rank of the token
//                                               among all of the vocabulary: 1 is the model's first choice
//    "answer": what the model says instead of the first answer, at most TRACED_MORE tokens more than that has
//    "exact": is it the same, token by token?}
bool trace_evaluation(Run *r, int64_t step, Err *e);

#endif
