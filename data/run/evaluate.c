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
            bool assistant = r->roles[m] == ROLE_ASSISTANT || r->roles[m] == END_OF_TURN;
            if (assistant && !inside) sums->answers++, sums->exact++, exact = true;
            if (assistant && exact && !r->losses[m].correct) sums->exact--, exact = false;
            inside = assistant;
        }
}

static void add_target(PartSums *part, const TokenLoss *loss)
{
    part->nll += (double)loss->nll;
    part->entropy += (double)loss->entropy;
    part->n++;
    part->correct += loss->correct;
}

// Adds the losses of the batch to the sums.
static void evaluate_batch(EvalSums *sums, const Model *model, Room *r)
{
    const Batch *b = &r->batch;
    if (b->M == 0) return;
    model_loss(model, &r->work, b, r->losses);
    for (size_t m = 0; m < b->M; m++) {
        double w = (double)b->weight[m];
        add_target(&sums->parts[r->roles[m]], &r->losses[m]);
        if (r->roles[m] == END_OF_TURN) add_target(&sums->parts[ROLE_ASSISTANT], &r->losses[m]);
        sums->weighted_loss += w * (double)r->losses[m].loss;
        sums->weight += w;
        sums->weighted_correct += w * r->losses[m].correct;
    }
    count_answers(sums, r);
}

EvalSums evaluate(const Model *m, Room *room, const Example *rows, size_t n, const Tokenizer *t)
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
        for (size_t k = 1; k < rows[i].n; k++)             // an evaluation's targets are tokens 1 .. n-1
            room->roles[b->M + k - 1] = example_ends_turn(&rows[i], k, t) ? END_OF_TURN : rows[i].roles[k];
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

static Ratio part_loss(const PartSums *p) { return (Ratio){p->nll, (double)p->n}; }

static Ratio prompt_loss(const EvalSums *s)                // every role but the assistant
{
    Ratio prompt = {0};
    for (int r = 0; r < N_ROLES; r++)
        if (r != ROLE_ASSISTANT) prompt.sum += s->parts[r].nll, prompt.count += (double)s->parts[r].n;
    return prompt;
}

static double mean(Ratio r) { return r.count > 0 ? r.sum / r.count : NAN; }

static const char *part_name(int part) { return part == END_OF_TURN ? "end_of_turn" : role_names[part]; }

static void add_part(cJSON *json, const PartSums *p, int part)
{
    static const char *const names[] = {"loss", "tokens", "accuracy", "entropy"};
    double n = (double)p->n, values[] = {p->nll / n, n, (double)p->correct / n, p->entropy / n};
    for (int i = part == ROLE_ASSISTANT; i < 4; i++) {     // eval_assistant_loss is there already
        char key[48];
        snprintf(key, sizeof key, "eval_%s_%s", part_name(part), names[i]);
        json_add_numbers(json, (JsonNumber[]){{key, values[i]}, {NULL, 0}});
    }
}

void eval_add_json(cJSON *json, const EvalSums *s, bool counts)
{
    const JsonNumber means[] = {
        {"eval_loss", mean((Ratio){s->weighted_loss, s->weight})},
        {"eval_assistant_loss", mean(part_loss(&s->parts[ROLE_ASSISTANT]))}, {"eval_prompt_loss", mean(prompt_loss(s))},
        {"eval_mean_token_accuracy", mean((Ratio){s->weighted_correct, s->weight})},
        {"eval_exact_match", mean((Ratio){(double)s->exact, (double)s->answers})}, {NULL, 0}};
    json_add_numbers(json, means);
    const JsonNumber numbers[] = {
        {"eval_rows", (double)s->rows}, {"eval_truncated", (double)s->truncated},
        {"eval_dropped", (double)s->dropped}, {"eval_tokens", s->weight},
        {"eval_prompt_tokens", prompt_loss(s).count}, {NULL, 0}};
    if (counts) json_add_numbers(json, numbers);
    for (int i = 0; i < N_PARTS; i++)
        if (s->parts[i].n || i == ROLE_ASSISTANT) add_part(json, &s->parts[i], i);
}

static void print_ratio(const char *name, Ratio r, const char *of)
{
    if (r.count > 0) printf("  %-22s %8.4f   over %.0f %s\n", name, r.sum / r.count, r.count, of);
}

void eval_print(const EvalSums *s)
{
    print_ratio("eval_loss", (Ratio){s->weighted_loss, s->weight}, "tokens");
    print_ratio("eval_assistant_loss", part_loss(&s->parts[ROLE_ASSISTANT]), "tokens");
    print_ratio("eval_prompt_loss", prompt_loss(s), "tokens");
    if (s->weight > 0) printf("  %-22s %8.4f\n", "mean_token_accuracy", s->weighted_correct / s->weight);
    print_ratio("exact_match", (Ratio){(double)s->exact, (double)s->answers}, "answers");
    printf("  by role (end_of_turn: a part of assistant)\n  %-22s %8s %8s %8s %8s\n", "", "loss", "tokens", "accuracy",
           "entropy");
    for (int i = 0; i < N_PARTS; i++) {
        const PartSums *p = &s->parts[i];
        double n = (double)p->n;
        if (p->n) printf("    %-20s %8.4f %8zu %8.4f %8.4f\n", part_name(i), p->nll / n, p->n, (double)p->correct / n,
                         p->entropy / n);
    }
}
