// progress: see progress.h.
#include "progress.h"

#include <math.h>
#include <string.h>

static int64_t whole_steps(double steps, int64_t n_steps)
{
    return steps < 1 ? (int64_t)ceil((double)n_steps * steps) : (int64_t)steps;
}

// `otherwise`: the steps that the strategy "steps" takes if none are given.
static int64_t every(const char *strategy, double steps, double otherwise, int64_t n_steps)
{
    if (strategy && strcmp(strategy, "no") == 0) return NEVER;
    if (strategy && strcmp(strategy, "epoch") == 0) return EVERY_EPOCH;
    return whole_steps(strategy && steps == 0 ? otherwise : steps, n_steps);
}

Plan plan_run(const Options *o, size_t n_rows)
{
    int64_t batch = o->per_device_train_batch_size, accumulation = o->gradient_accumulation_steps;
    int64_t micro = ((int64_t)n_rows + batch - 1) / batch, per_epoch = (micro + accumulation - 1) / accumulation;
    int64_t n = o->max_steps >= 0 ? o->max_steps : (int64_t)ceil(o->num_train_epochs * (double)per_epoch);
    bool no_eval = o->eval_strategy && strcmp(o->eval_strategy, "no") == 0;
    return (Plan){.n_steps = n, .steps_per_epoch = per_epoch, .batch = batch, .batches_per_epoch = micro,
                  .warmup = whole_steps(o->warmup_steps, n), .logging = whole_steps(o->logging_steps, n),
                  .eval = every(o->eval_strategy, o->eval_steps, o->logging_steps, n),
                  .save = every(o->save_strategy, o->save_steps, 500, n),
                  .eval_on_start = o->eval_on_start < 0 ? !no_eval : o->eval_on_start, .eval_at_end = !no_eval};
}

bool progress_due(const Progress *p, int64_t steps)
{
    return steps == EVERY_EPOCH ? p->next == 0 : steps > 0 && p->step % steps == 0;
}

bool progress_note_best(Progress *p, const Options *o, const cJSON *line, Err *e)
{
    const char *name = o->metric_for_best_model;
    const cJSON *v = json_get(line, name);
    bool is_loss = strcmp(name + strlen(name) - 4, "loss") == 0;
    bool greater = o->greater_is_better < 0 ? !is_loss : o->greater_is_better;
    if (!o->load_best_model_at_end) return true;
    if (!cJSON_IsNumber(v))
        return fail(e, "metric_for_best_model: the held-out rows have nothing that %s is of", name);
    bool better = !p->best_step || (greater ? v->valuedouble > p->best_metric : v->valuedouble < p->best_metric);
    if (p->step > 0 && better) p->best_metric = v->valuedouble, p->best_step = p->step;
    return true;
}

void sums_add_batch(TrainSums *sums, const Batch *b, const TokenLoss *losses)
{
    for (size_t m = 0; m < b->M; m++) {
        double w = (double)b->weight[m];
        sums->weighted_loss += w * (double)losses[m].loss;
        sums->entropy += w * (double)losses[m].entropy;
        sums->correct += w * losses[m].correct;
        sums->weight += w;
    }
}

void sums_add_step(TrainSums *to, const TrainSums *step)
{
    to->loss += step->weighted_loss / step->weight;
    to->steps++;
    to->weighted_loss += step->weighted_loss;
    to->entropy += step->entropy;
    to->correct += step->correct;
    to->weight += step->weight;
    to->seconds += step->seconds;
    to->tokens += step->tokens;
    to->rows += step->rows;
}

double progress_epoch(const Progress *p, const Plan *plan)
{
    int64_t batches = ((int64_t)p->next + plan->batch - 1) / plan->batch;
    return (double)p->epoch + (double)batches / (double)plan->batches_per_epoch;
}

cJSON *progress_line(const Progress *p, const Plan *plan)
{
    const JsonNumber numbers[] = {{"step", (double)p->step}, {"epoch", progress_epoch(p, plan)}, {NULL, 0}};
    return json_add_numbers(cJSON_CreateObject(), numbers);
}

cJSON *progress_train_line(const Progress *p, const Plan *plan)
{
    const TrainSums *s = &p->since_log;
    const JsonNumber numbers[] = {
        {"loss", s->loss / (double)s->steps}, {"grad_norm", p->grad_norm}, {"learning_rate", p->lr},
        {"num_tokens", (double)p->num_tokens}, {"mean_token_accuracy", s->correct / s->weight},
        {"entropy", s->entropy / s->weight}, {"supervised_tokens", (double)p->supervised_tokens},
        {"tokens_per_second", (double)s->tokens / s->seconds}, {NULL, 0}};
    return json_add_numbers(progress_line(p, plan), numbers);
}

cJSON *progress_end_line(const Progress *p, const Plan *plan, double runtime)
{
    const TrainSums *s = &p->total;
    const JsonNumber numbers[] = {
        {"train_loss", s->steps > 0 ? s->loss / (double)s->steps : NAN}, {"train_runtime", runtime},
        {"train_samples_per_second", (double)s->rows / runtime},
        {"train_tokens_per_second", (double)s->tokens / runtime}, {NULL, 0}};
    return json_add_numbers(progress_line(p, plan), numbers);
}
