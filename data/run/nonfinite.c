// nonfinite: see nonfinite.h. What a single row does is model/diagnose's.
#include "nonfinite.h"

#include "../../model/diagnose.h"

#include <math.h>

bool check_weights(const Model *m, const char *whose, Err *e)
{
    Place place;
    return !diagnose_weights(m, &place) ||
           fail(e, "%s: %s: expected finite numbers, found NaN or Inf", whose, place.text);
}

bool explain_step(Run *r, const BadStep *s, Err *e)
{
    Model *m = &r->model;
    Place weights = {""}, sum = {"the loss"}, place = {""};
    Room *room = &r->room;
    BatchSize max = room->work.max, one_row = {max.row, max.row, 1, max.row < max.targets ? max.row : max.targets};
    size_t row = 0;
    bool found = false, bad_weights = diagnose_weights(m, &weights), roomy = true;
    diagnose_gradients(m, &sum);                           // before those of single rows take their place
    if (room->work.kind != WORK_GRADIENT) {
        work_free(&room->work);
        roomy = work_init(&room->work, &m->config, one_row, WORK_GRADIENT, e);
    }
    for (int backward = 0; roomy && backward < 2 && !found; backward++)
        for (size_t i = 0; i < s->n && !found; i++) {
            batch_clear(&room->batch);
            batch_add(&room->batch, s->rows[s->order[row = i]], BATCH_TRAIN);
            if (!backward) found = diagnose_forward(m, &room->work, &room->batch, room->losses, &place);
            else {
                model_gradient(m, &room->work, &room->batch, room->losses, s->divisor, false);
                found = diagnose_gradients(m, &place);
            }
        }
    if (!found) {                                          // finite row by row: only their sum is not
        snprintf(place.text, sizeof place.text, "%.90s, summed over %zu rows", sum.text, s->n);
        row = 0;
    }
    return fail(e, "step %lld: the loss is %g and the gradient's norm %g: the first in %s:%zu: %s%s%s; weights and "
                "checkpoints are as they were before this step",
                (long long)s->step, isnan(s->loss) ? (double)NAN : s->loss, fabs(s->grad_norm), r->options.dataset_name,
                s->rows[s->order[row]]->line, place.text, bad_weights ? ", because of NaN or Inf in " : "",
                weights.text);
}
