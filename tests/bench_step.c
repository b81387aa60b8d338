// bench_step: how fast one training step is, beside what the machine can do. For each step it prints nothing; at the
// end one line of medians: tokens/s, needed GFLOP/s, the canary (sgemm of 2048^3 on all cores, just before and after
// each step), and their ratio, which is the figure to compare: on a shared machine the others move together.
//   bench_step SHAPE FRACTION [STEPS [BATCH [checkpointing]]]
// SHAPE: 260K, 15M, 135M.  FRACTION of tokens supervised.  BATCH: 5x512, so many rows of that length; or a file of rows
// as int32: count, lengths, tokens, targets (shifted, -100 masked).  checkpointing: with gradient_checkpointing.
#include "../model/optim.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

typedef struct { const char *name; Config config; int rows, seq; } Case;

static const Case cases[] = {
    {"260K", {.dim = 64, .hidden_dim = 172, .n_layers = 5, .n_heads = 8, .n_kv_heads = 4, .vocab_size = 512}, 16, 512},
    {"15M", {.dim = 288, .hidden_dim = 768, .n_layers = 6, .n_heads = 6, .n_kv_heads = 6, .vocab_size = 32000},
     24, 256},
    {"135M", {.dim = 576, .hidden_dim = 1536, .n_layers = 30, .n_heads = 9, .n_kv_heads = 3, .vocab_size = 49152},
     8, 256},
};

static void make_room(Batch *b, size_t tokens, size_t rows)
{
    Err e;
    if (batch_init(b, (BatchSize){.tokens = tokens, .rows = rows, .targets = tokens}, &e)) return;
    fprintf(stderr, "%s\n", e.text);
    exit(1);
}

// Appends one row, up to its last target; returns its full length.
static void add_row(Batch *b, const int *ids, const int *targets, int n)
{
    while (n > 0 && targets[n - 1] < 0) n--;
    for (int t = 0; t < n; t++) {
        if (targets[t] >= 0) {
            b->at[b->M] = b->N + (size_t)t;
            b->target[b->M] = targets[t];
            b->weight[b->M++] = 1;
        }
        b->ids[b->N + (size_t)t] = ids[t];
    }
    b->N += (size_t)n;
    b->starts[++b->S] = b->N;
}

// Chat-like rows: long-tailed lengths (or all of `length`), one to three turns, the end of each turn supervised.
static size_t make_rows(Batch *b, const Case *s, double fraction, int length)
{
    Rng rng = rng_seed(1);
    size_t total = 0;
    int *ids = mem_alloc((size_t)s->seq, sizeof *ids), *targets = mem_alloc((size_t)s->seq, sizeof *targets);
    int shortest = s->seq / 4 < 64 ? s->seq / 4 : 64;
    make_room(b, (size_t)(s->rows * s->seq), (size_t)s->rows);
    for (int r = 0; r < s->rows; r++) {
        int n = length ? length : (int)fmin(s->seq, fmax(shortest, 0.45 * s->seq * exp(0.6 * rng_normal(&rng)))),
            turns = 1 + (int)rng_below(&rng, 3);
        for (int t = 0; t < n; t++) {
            int turn = t * turns / n, end = n * (turn + 1) / turns, size = end - n * turn / turns;
            ids[t] = (int)rng_below(&rng, (size_t)s->config.vocab_size);
            targets[t] =
                end - t <= (int)lround(size * fraction) ? (int)rng_below(&rng, (size_t)s->config.vocab_size) : -100;
        }
        add_row(b, ids, targets, n);
        total += (size_t)n;
    }
    free(ids);
    free(targets);
    return total;
}

static size_t read_rows(Batch *b, const char *path)
{
    File f;
    Err e;
    if (!file_map(&f, path, &e)) { fprintf(stderr, "%s\n", e.text); exit(1); }
    const int *p = (const int *)f.data, n_rows = p[0], *lengths = p + 1, *ids = p + 1 + n_rows;
    size_t total = 0;
    for (int r = 0; r < n_rows; r++) total += (size_t)lengths[r];
    const int *targets = ids + total;
    make_room(b, total, (size_t)n_rows);
    for (int r = 0; r < n_rows; ids += lengths[r], targets += lengths[r], r++) add_row(b, ids, targets, lengths[r]);
    file_unmap(&f);
    return total;
}

// Matrix work that a step cannot do without: 6 flops for each weight and position that must be computed, and attention.
static double needed_flops(const Config *c, const Batch *b)
{
    double C = c->dim, HD = c->n_heads * c->head_dim, KD = c->n_kv_heads * c->head_dim, F = c->hidden_dim;
    double kv = C * 2 * KD, rest = 2 * C * HD + 3 * C * F, N = (double)b->N, M = (double)b->M, all_keys = 0,
           last_keys = 0;
    for (size_t s = 0; s < b->S; s++) {
        double T = (double)(b->starts[s + 1] - b->starts[s]);
        all_keys += T * (T + 1) / 2;
    }
    for (size_t s = 0, m = 0; s < b->S; s++)
        for (; m < b->M && b->at[m] < b->starts[s + 1]; m++) last_keys += (double)(b->at[m] - b->starts[s] + 1);
    double weights = (c->n_layers - 1) * N * (kv + rest) + N * kv + M * rest + M * C * c->vocab_size;
    return 6 * weights + 12 * HD * ((c->n_layers - 1) * all_keys + last_keys);
}

// What the machine does now: c = a b of 2048^3 by OpenBLAS, each OpenMP thread its share of the rows.
static double canary(float *a, float *b, float *c)
{
    enum { n = 2048 };
    double start = now_seconds();
#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < n; i += 512)
        for (int j = 0; j < n; j += n)
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, 512, n, n, 1, a + i * n, n, b + j, n, 0,
                        c + i * n + j, n);
    return 2.0 * n * n * n / (now_seconds() - start) / 1e9;
}

static int ascending(const void *a, const void *b)
{
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

static double median(double *x, int n)
{
    qsort(x, (size_t)n, sizeof *x, ascending);
    return x[n / 2];
}

static void step(Model *m, Work *w, Optim *o, const Batch *b, TokenLoss *losses)
{
    model_gradient(m, w, b, losses, (double)b->M, false);
    optim_step(o, m, 1e-4, fmin(1, 1 / (grads_norm(m) + 1e-6)));
}

int main(int argc, char **argv)
{
    const Case *s = cases;
    if (argc < 3) return fprintf(stderr, "usage: bench_step SHAPE FRACTION [STEPS [BATCH [checkpointing]]]\n"), 2;
    while (s < cases + 3 && strcmp(s->name, argv[1]) != 0) s++;
    int steps = argc > 3 ? atoi(argv[3]) : 5;
    if (s == cases + 3 || steps < 1 || steps > 1000)
        return fprintf(stderr, "bench_step: unknown shape, or steps not 1 to 1000\n"), 2;
    Config c = s->config;
    c.head_dim = c.dim / c.n_heads;
    c.seq_len = 8192;
    c.tied = true;
    c.rope_theta = 10000;
    c.norm_eps = 1e-5f;

    ops_restart(argv);
    ops_init(0);
    Batch b;
    Err e;
    Model m;
    Work w;
    Optim o = {.id = OPTIM_ADAMW, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f};
    int rows, length;
    size_t tokens, longest = 0;
    if (argc > 4 && sscanf(argv[4], "%dx%d", &rows, &length) == 2 && rows > 0 && length > 0 && length <= c.seq_len)
        tokens = make_rows(&b, &(Case){.config = c, .rows = rows, .seq = length}, atof(argv[2]), length);
    else tokens = argc > 4 ? read_rows(&b, argv[4]) : make_rows(&b, s, atof(argv[2]), 0);
    for (size_t r = 0; r < b.S; r++)
        longest = b.starts[r + 1] - b.starts[r] > longest ? b.starts[r + 1] - b.starts[r] : longest;
    BatchSize size = {b.N, longest, b.S, b.M};
    if (!model_init(&m, &c, &e) || !model_init_grads(&m, &e) || !optim_init(&o, m.n_params, &e) ||
        !work_init(&w, &c, size, argc > 5 ? WORK_CHECKPOINTING : WORK_GRADIENT, &e))
        return fprintf(stderr, "%s\n", e.text), 1;
    model_randomize(&m, 1);
    TokenLoss *losses = mem_alloc(b.M, sizeof *losses);
    float *canary_data = mem_alloc(3 * 2048 * 2048, sizeof(float));
    for (size_t i = 0; i < 2 * 2048 * 2048; i++) canary_data[i] = 1.0f / (float)(1 + i % 7);
    float *ca = canary_data, *cb = ca + 2048 * 2048, *cc = cb + 2048 * 2048;

    double seconds[1000], speed[1000], ratio[1000], flops = needed_flops(&c, &b);
    step(&m, &w, &o, &b, losses);                              // touches all memory
    for (int i = 0; i < steps; i++) {
        double before = canary(ca, cb, cc), start = now_seconds();
        step(&m, &w, &o, &b, losses);
        seconds[i] = now_seconds() - start;
        speed[i] = (before + canary(ca, cb, cc)) / 2;
        ratio[i] = flops / seconds[i] / 1e9 / speed[i];
    }
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double t = median(seconds, steps);
    printf("%-5s %3.0f %%  %5zu tokens %8.1f ms %9.0f tokens/s %7.1f needed GFLOP/s  canary %6.1f  ratio %.3f (best "
           "%.3f)  %ld MB, %.0f of activations\n",
           s->name, 100 * atof(argv[2]), tokens, 1e3 * t, (double)tokens / t, flops / t / 1e9, median(speed, steps),
           median(ratio, steps), ratio[steps - 1], usage.ru_maxrss / 1024, (double)w.n_floats * sizeof(float) / 1e6);
    return 0;
}
