// evaluate: see evaluate.h.
#include "evaluate.h"

#include <string.h>

// An answer is a run of assistant tokens in one row.
static void count_answers(const Run *r, EvalSums *sums)
{
    const Batch *b = &r->batch;
    for (size_t s = 0, m = 0; s < b->S; s++)
        for (bool inside = false, exact = false; m < b->M && b->at[m] < b->starts[s + 1]; m++) {
            bool assistant = r->roles[m] == ROLE_ASSISTANT;
            if (assistant && !inside) sums->answers++, sums->exact++, exact = true;
            if (assistant && exact && !r->losses[m].correct) sums->exact--, exact = false;
            inside = assistant;
        }
}

// Adds the losses of the batch at hand to the sums. Roles are those of the predicted tokens.
static void evaluate_batch(Run *r, EvalSums *sums)
{
    const Batch *b = &r->batch;
    if (b->M == 0) return;
    model_loss(&r->model, &r->work, b, r->losses);
    for (size_t m = 0; m < b->M; m++) {
        double w = (double)b->weight[m], nll = (double)r->losses[m].nll;
        sums->nll[r->roles[m]] += nll;
        sums->n[r->roles[m]]++;
        sums->weighted_nll += w * nll;
        sums->weight += w;
        sums->weighted_correct += w * r->losses[m].correct;
    }
    count_answers(r, sums);
}

EvalSums run_evaluate(Run *r, const Example *rows, size_t n)
{
    EvalSums sums = {0};
    Batch *b = &r->batch;
    batch_clear(b);
    for (size_t i = 0; i < n; i++) {
        if (rows[i].dropped) continue;
        if (b->S == (size_t)r->options.per_device_train_batch_size) {
            evaluate_batch(r, &sums);
            batch_clear(b);
        }
        memcpy(r->roles + b->M, rows[i].roles + 1, example_size(&rows[i], BATCH_EVAL).targets);
        batch_add(b, &rows[i], BATCH_EVAL);
    }
    evaluate_batch(r, &sums);
    return sums;
}
