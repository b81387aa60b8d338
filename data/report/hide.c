// hide: see hide.h.
#include "hide.h"

#include "../run/memory.h"
#include "report.h"

#include <math.h>
#include <stdlib.h>

static bool is_answer(const Example *ex, size_t t) { return t > 0 && t < ex->n && ex->roles[t] == ROLE_ASSISTANT; }

// Of the batch that lay_out makes at most.
static BatchSize hide_size(const Example *ex, const bool *marked)
{
    BatchSize size = {.tokens = ex->n, .row = ex->n, .rows = 1, .targets = ex->n};
    for (size_t t = 0; t < ex->n; t++)
        if (marked[t]) size.rows++, size.tokens += t + 1;
    return size;
}

// A batch, and what its tokens and targets are in the row.
typedef struct {
    Batch batch;
    int *place;                                            // (N): of each token
    bool *tokens, *targets;                                // (N), (M): is it a marked one?
    size_t *target;                                        // (M): which token it is
    double weight;                                         // of all labels
} Probe;

// Row 0: all tokens that are not hidden. For each hidden one that predicts a target a row of its own: what it sees, and
// itself.
static void lay_out(Probe *p, const Example *ex, const bool *marked, bool labelled, bool hidden)
{
    Batch *b = &p->batch;
    batch_clear(b);
    p->weight = 0;
    for (size_t s = 0; s <= ex->n; s++) {
        size_t M = b->M, N = b->N, self = s - 1, end = s ? s : ex->n;
        if (s && !(hidden && marked[self])) continue;
        for (size_t t = 0; t < end; t++) {
            if (hidden && marked[t] && !(s && t == self)) continue;
            p->place[b->N] = (int)t;
            p->tokens[b->N] = marked[t] && (!s || t == self);
            b->ids[b->N++] = ex->ids[t];
            bool extra = t + 1 < ex->n && marked[t + 1] && labelled;
            if ((s && t != self) || !(is_answer(ex, t + 1) || extra)) continue;
            p->target[b->M] = t + 1;
            p->targets[b->M] = marked[t + 1];
            p->weight += b->weight[b->M] = !marked[t + 1] || labelled;
            b->at[b->M] = b->N - 1;
            b->target[b->M++] = ex->ids[t + 1];
        }
        if (b->M == M) b->N = N;
        else b->starts[++b->S] = b->N;
    }
}

bool hide_tokens(Model *m, const Example *ex, const bool *marked, HideCases cases, float *loss[2], Err *e)
{
    BatchSize max = hide_size(ex, marked);
    Probe p = {.place = mem_alloc(max.tokens, sizeof(int)), .tokens = mem_alloc(max.tokens, 1),
               .targets = mem_alloc(max.targets, 1), .target = mem_alloc(max.targets, sizeof(size_t))};
    TokenLoss *losses = mem_alloc(max.targets, sizeof *losses);
    Work work = {0};
    bool ok = work_init(&work, &m->config, max, WORK_GRADIENT, e) && batch_init(&p.batch, max, e);
    p.batch.no_dropout = true;
    p.batch.position = p.place;
    for (int i = 0; ok && i < 4; i++) {
        int labelled = i / 2, hidden = i % 2;
        double sum = 0, n = 0;
        HideCase *out = &cases[labelled][hidden];
        lay_out(&p, ex, marked, labelled, hidden);
        out->marked = diagnose_places(m, &work, &p.batch, losses, p.weight > 0 ? p.weight : 1, p.tokens, p.targets);
        for (size_t t = 0; loss && t < ex->n; t++) loss[hidden][t] = NAN;
        for (size_t k = 0; k < p.batch.M; k++) {
            if (!is_answer(ex, p.target[k])) continue;
            sum += (double)losses[k].nll, n++;
            if (loss) loss[hidden][p.target[k]] = losses[k].nll;
        }
        out->answer_loss = sum / n;
    }
    work_free(&work);
    batch_free(&p.batch);
    free(p.place), free(p.tokens), free(p.targets), free(p.target), free(losses);
    return ok;
}

// ---- inspect ------------------------------------------------------------------------------------------------------

// "3,5-7": marks these tokens.
static bool read_places(bool *marked, const char *text, size_t n, Err *e)
{
    for (const char *p = text;; p++) {
        char *end;
        unsigned long long first = strtoull(p, &end, 10), last = first;
        bool good = *p >= '0' && *p <= '9';
        if (good && *end == '-' && end[1] >= '0' && end[1] <= '9') last = strtoull(end + 1, &end, 10);
        if (!good || first > last || last >= n || (*end && *end != ','))
            return fail(e, "hide: expected tokens 0 to %zu of the row, as in 3,5-7; found \"%s\"", n - 1, text);
        while (first <= last) marked[first++] = true;
        p = end;
        if (!*p) return true;
    }
}

static void print_loss(const Example *ex, const bool *marked, float *const loss[2], const Tokenizer *t)
{
    Buf hidden = {0}, answer = {0};
    for (size_t i = 0; i < ex->n; i++) {
        Buf cell = {0};
        report_token_cell(&cell, ex, i, t);
        if (marked[i]) buf_addf(&hidden, " %zu \"%s\"", i, cell.data);
        if (!isnan(loss[0][i]))
            buf_addf(&answer, "%-6zu%-24s  %11.4f  %11.4f\n", i, cell.data, (double)loss[0][i], (double)loss[1][i]);
        buf_free(&cell);
    }
    printf("hidden from attention:%s\n\n%-6s%-24s  %11s  %11s\n%s", hidden.data, "pos", "answer", "loss",
           "loss, hidden", answer.data);
    buf_free(&hidden);
    buf_free(&answer);
}

static void print_cases(const HideCases cases)
{
    printf("\n%-9s %-10s %12s   norm of the gradient at\n%-9s %-10s %12s %10s %10s %10s\n", "their", "they are",
           "loss of", "labels", "", "the answer", "logits", "keys", "values");
    for (int i = 0; i < 4; i++) {
        const HideCase *c = &cases[i / 2][i % 2];
        printf("%-9s %-10s %12.4f %10.4f %10.4f %10.4f\n", i / 2 ? "learned" : "-100", i % 2 ? "hidden" : "visible",
               c->answer_loss, c->marked.logits, c->marked.keys, c->marked.values);
    }
    printf("The gradient is that of the mean loss over all labels: at the logits that predict these tokens, and at\n"
           "the keys and values that these tokens have in layer 0. A label of -100 takes away the loss, and so the\n"
           "gradient at the logits. But the tokens behind attend to these tokens: so the labels behind give a\n"
           "gradient to their keys and values. Hidden from attention, a token is seen by itself alone.\n");
}

bool hide_inspect(Run *r, const Config *c, const Example *ex, Err *e)
{
    const Options *o = &r->options;
    bool *marked = mem_alloc(ex->n, sizeof *marked), answer = false;
    float *loss[2] = {mem_alloc(ex->n, sizeof(float)), mem_alloc(ex->n, sizeof(float))};
    HideCases cases;
    for (size_t t = 0; t < ex->n; t++) answer |= is_answer(ex, t);
    bool ok = answer || fail(e, "hide: expected a row with an answer, found none in row %zu", ex->row);
    if (o->json || o->html || o->rows)
        ok = fail(e, "hide: expected one row (--row=I) as text, found rows, json or html");
    ok = ok && read_places(marked, o->hide, ex->n, e) && memory_check(r, c, hide_size(ex, marked), WORK_GRADIENT, e) &&
         run_open_model(r, &r->model, c, NULL, e) && model_init_grads(&r->model, e) &&
         hide_tokens(&r->model, ex, marked, cases, loss, e);
    if (ok) print_loss(ex, marked, loss, r->tokenizer), print_cases(cases);
    free(marked), free(loss[0]), free(loss[1]);
    return ok;
}
