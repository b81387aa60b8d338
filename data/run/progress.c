// progress: see progress.h.
#include "progress.h"

#include <unistd.h>

void sums_add_batch(TrainSums *sums, const Batch *b, const TokenLoss *losses)
{
    for (size_t m = 0; m < b->M; m++) {
        double w = (double)b->weight[m];
        sums->nll += w * (double)losses[m].nll;
        sums->entropy += w * (double)losses[m].entropy;
        sums->correct += w * losses[m].correct;
        sums->weight += w;
    }
}

void sums_add(TrainSums *to, const TrainSums *sums)
{
    to->nll += sums->nll;
    to->entropy += sums->entropy;
    to->correct += sums->correct;
    to->weight += sums->weight;
    to->seconds += sums->seconds;
    to->tokens += sums->tokens;
    to->rows += sums->rows;
}

cJSON *progress_line(const Progress *p, int64_t steps_per_epoch)
{
    cJSON *line = cJSON_CreateObject();
    cJSON_AddNumberToObject(line, "step", (double)p->step);
    cJSON_AddNumberToObject(line, "epoch", (double)p->step / (double)steps_per_epoch);
    return line;
}

cJSON *progress_train_line(const Progress *p, int64_t steps_per_epoch)
{
    const TrainSums *s = &p->since_log;
    cJSON *line = progress_line(p, steps_per_epoch);
    cJSON_AddNumberToObject(line, "loss", s->nll / s->weight);
    cJSON_AddNumberToObject(line, "grad_norm", p->grad_norm);
    cJSON_AddNumberToObject(line, "learning_rate", p->lr);
    cJSON_AddNumberToObject(line, "num_tokens", (double)p->num_tokens);
    cJSON_AddNumberToObject(line, "mean_token_accuracy", s->correct / s->weight);
    cJSON_AddNumberToObject(line, "entropy", s->entropy / s->weight);
    cJSON_AddNumberToObject(line, "supervised_tokens", (double)p->supervised_tokens);
    cJSON_AddNumberToObject(line, "tokens_per_second", (double)s->tokens / s->seconds);
    return line;
}

cJSON *progress_end_line(const Progress *p, int64_t steps_per_epoch, double runtime)
{
    const TrainSums *s = &p->total;
    cJSON *line = progress_line(p, steps_per_epoch);
    if (s->weight > 0) cJSON_AddNumberToObject(line, "train_loss", s->nll / s->weight);
    else cJSON_AddNullToObject(line, "train_loss");
    cJSON_AddNumberToObject(line, "train_runtime", runtime);
    cJSON_AddNumberToObject(line, "train_samples_per_second", (double)s->rows / runtime);
    cJSON_AddNumberToObject(line, "train_tokens_per_second", (double)s->tokens / runtime);
    return line;
}

void progress_clear(void)
{
    if (isatty(STDERR_FILENO)) fprintf(stderr, "\r\033[K");
}

void progress_show(const Progress *p, int64_t n_steps, const char *label)
{
    if (!isatty(STDERR_FILENO)) return;
    const TrainSums *s = &p->total, *shown = p->since_log.weight > 0 ? &p->since_log : s;
    double left = s->seconds / (double)p->step * (double)(n_steps - p->step);
    progress_clear();
    if (label) fprintf(stderr, "%s  ", label);
    fprintf(stderr, "step %lld/%lld  loss %.4f  lr %.2e  %.0f tokens/s  %d:%02d left", (long long)p->step,
            (long long)n_steps, shown->nll / shown->weight, p->lr, (double)s->tokens / s->seconds, (int)left / 60,
            (int)left % 60);
    if (p->step < n_steps) return;
    if (label) progress_clear();
    else fprintf(stderr, "\n");
}
