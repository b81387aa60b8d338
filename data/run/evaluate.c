// evaluate: see evaluate.h.
#include "evaluate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool room_init(Room *room, const Options *o, const Config *c, BatchSize max, WorkKind kind, Err *e)
{
    *room = (Room){.losses = mem_alloc(max.targets, sizeof *room->losses), .roles = mem_alloc(max.targets, 1)};
    if (!batch_init(&room->batch, max, e) || !work_init(&room->work, c, max, kind, e)) return false;
    room->batch.objective = (Objective){(float)o->label_smoothing_factor, strcmp(o->loss_type, "dft") == 0};
    if (kind != WORK_LOSS && o->neftune_noise_alpha > 0)
        room->batch.noise = (Noise){.values = mem_alloc(max.tokens * (size_t)c->dim, sizeof(float)),
                                    .C = (size_t)c->dim, .alpha = o->neftune_noise_alpha};
    return true;
}

void room_free(Room *room)
{
    work_free(&room->work);
    batch_free(&room->batch);
    free(room->losses);
    free(room->roles);
    *room = (Room){0};
}

// ---- losses -------------------------------------------------------------------------------------------------------

// An answer is a series of neighbouring assistant tokens in one row.
static void count_answers(EvalSums *sums, const Room *r)
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

// Adds the losses of the batch to the sums.
static void evaluate_batch(EvalSums *sums, const Model *model, Room *r)
{
    const Batch *b = &r->batch;
    if (b->M == 0) return;
    model_loss(model, &r->work, b, r->losses);
    for (size_t m = 0; m < b->M; m++) {
        double w = (double)b->weight[m], nll = (double)r->losses[m].nll;
        sums->nll[r->roles[m]] += nll;
        sums->n[r->roles[m]]++;
        sums->weighted_loss += w * (double)r->losses[m].loss;
        sums->weight += w;
        sums->weighted_correct += w * r->losses[m].correct;
    }
    count_answers(sums, r);
}

EvalSums evaluate(const Model *m, Room *room, const Example *rows, size_t n)
{
    EvalSums sums = {.rows = n};
    Batch *b = &room->batch;
    batch_clear(b);
    for (size_t i = 0; i < n; i++) {
        sums.truncated += rows[i].truncated;
        sums.dropped += rows[i].dropped;
        if (rows[i].dropped) continue;
        if (b->S == room->work.max.rows) {
            evaluate_batch(&sums, m, room);
            batch_clear(b);
        }
        // an evaluation's targets are tokens 1 .. n-1
        memcpy(room->roles + b->M, rows[i].roles + 1, example_size(&rows[i], BATCH_EVAL).targets);
        batch_add(b, &rows[i], BATCH_EVAL);
    }
    evaluate_batch(&sums, m, room);
    return sums;
}

// ---- metrics ------------------------------------------------------------------------------------------------------

const MetricRow metric_table[N_METRICS] = {
    [METRIC_ASSISTANT] = {.key = "eval_assistant_loss", .title = "Loss on held-out answers",
                          .note = "nats per token; lower is better"},
    [METRIC_PROMPT] = {.key = "eval_prompt_loss", .title = "Loss on held-out prompts",
                       .note = "nats per token, over all tokens outside the answers"},
    [METRIC_EXACT] = {.key = "eval_exact_match", .title = "Exact match", .as_percent = true,
                      .note = "share of answers that greedy decoding reproduces; higher is better"},
};
const Metric metric_order[N_METRICS] = {METRIC_ASSISTANT, METRIC_EXACT, METRIC_PROMPT};

typedef struct { double sum, count; } Ratio;               // a mean before its division

static Ratio role_loss(const EvalSums *s, int role) { return (Ratio){s->nll[role], (double)s->n[role]}; }

static Ratio prompt_loss(const EvalSums *s)                // every role but the assistant
{
    Ratio prompt = {0};
    for (int r = 0; r < N_ROLES; r++)
        if (r != ROLE_ASSISTANT) prompt.sum += s->nll[r], prompt.count += (double)s->n[r];
    return prompt;
}

void eval_curve_add(EvalCurve *curve, const cJSON *line)
{
    ARRAY_ROOM(curve->points, curve->n, curve->cap);
    EvalPoint *p = &curve->points[curve->n++];
    p->step = (int64_t)json_get(line, "step")->valuedouble;
    for (Metric m = 0; m < N_METRICS; m++) {
        const cJSON *v = json_get(line, metric_table[m].key);
        p->value[m] = cJSON_IsNumber(v) ? v->valuedouble : NAN;
    }
}

static double mean(Ratio r) { return r.count > 0 ? r.sum / r.count : NAN; }

void eval_add_json(cJSON *json, const EvalSums *s, bool counts)
{
    const JsonNumber means[] = {
        {"eval_loss", mean((Ratio){s->weighted_loss, s->weight})},
        {"eval_assistant_loss", mean(role_loss(s, ROLE_ASSISTANT))}, {"eval_prompt_loss", mean(prompt_loss(s))},
        {"eval_mean_token_accuracy", mean((Ratio){s->weighted_correct, s->weight})},
        {"eval_exact_match", mean((Ratio){(double)s->exact, (double)s->answers})}, {NULL, 0}};
    json_add_numbers(json, means);
    if (!counts) return;
    const JsonNumber numbers[] = {
        {"eval_rows", (double)s->rows}, {"eval_truncated", (double)s->truncated},
        {"eval_dropped", (double)s->dropped}, {"eval_tokens", s->weight},
        {"eval_assistant_tokens", (double)s->n[ROLE_ASSISTANT]}, {"eval_prompt_tokens", prompt_loss(s).count},
        {NULL, 0}};
    json_add_numbers(json, numbers);
    for (int r = 0; r < N_ROLES; r++) {
        char loss[40], tokens[40];
        if (r == ROLE_ASSISTANT || !s->n[r]) continue;
        snprintf(loss, sizeof loss, "eval_%s_loss", role_names[r]);
        snprintf(tokens, sizeof tokens, "eval_%s_tokens", role_names[r]);
        json_add_numbers(json, (JsonNumber[]){{loss, mean(role_loss(s, r))}, {tokens, (double)s->n[r]}, {NULL, 0}});
    }
}

static void print_ratio(const char *name, Ratio r, const char *of)
{
    if (r.count > 0) printf("  %-22s %8.4f   over %.0f %s\n", name, r.sum / r.count, r.count, of);
}

void eval_print(const EvalSums *s)
{
    print_ratio("eval_loss", (Ratio){s->weighted_loss, s->weight}, "tokens");
    print_ratio("eval_assistant_loss", role_loss(s, ROLE_ASSISTANT), "tokens");
    print_ratio("eval_prompt_loss", prompt_loss(s), "tokens");
    for (int r = 0; r < N_ROLES; r++) {
        char name[32];
        snprintf(name, sizeof name, "  %s", role_names[r]);
        if (r != ROLE_ASSISTANT && role_loss(s, r).count < prompt_loss(s).count)
            print_ratio(name, role_loss(s, r), "tokens");
    }
    if (s->weight > 0) printf("  %-22s %8.4f\n", "mean_token_accuracy", s->weighted_correct / s->weight);
    print_ratio("exact_match", (Ratio){(double)s->exact, (double)s->answers}, "answers");
}
