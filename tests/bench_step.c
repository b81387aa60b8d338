// bench_step: how fast training steps are, beside what the processor can do. It prints one line of medians: tokens/s;
// needed GFLOP/s; sgemm, which is OpenBLAS's product of 2048^3 on all threads, just before and just after each step;
// ratio, needed over sgemm, which is the figure to compare: on a shared machine the others move together; and fma, the
// multiplications and additions that the same threads can do at all: a slow OpenBLAS shows in sgemm / fma.
//   bench_step SHAPE FRACTION [STEPS [COUNTxLENGTH [checkpointing|lora]]]
//   bench_step CONFIG.json [STEPS]
//   bench_step system                 what it runs on
// SHAPE: of shapes.h, with random weights and rows, FRACTION of the tokens supervised, so many rows of that length if
// they are given. CONFIG: its model on its rows, a batch in each step. In the environment, ROWS=FILE also writes the
// rows, as int32: for each row its step, its length, the tokens, and of each token whether it is learned.
#include "../data/run/inputs.h"
#include "../model/lanes.h"
#include "shapes.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static FILE *rows_file;

static void write_row(int step, const int *ids, const int *labels, size_t n)
{
    int head[2] = {step, (int)n}, learned;
    if (!rows_file) return;
    fwrite(head, sizeof head, 1, rows_file);
    fwrite(ids, sizeof *ids, n, rows_file);
    for (size_t t = 0; t < n; t++) {
        learned = labels[t] >= 0;
        fwrite(&learned, sizeof learned, 1, rows_file);
    }
}

// Chat-like rows: long-tailed lengths (or all of `length`), one to three turns, the end of each turn supervised.
static Example *make_rows(const ModelShape *s, double fraction, int length)
{
    Rng rng = rng_seed(1);
    Example *rows = mem_alloc((size_t)s->rows, sizeof *rows);
    int shortest = s->seq / 4 < 64 ? s->seq / 4 : 64;
    for (int r = 0; r < s->rows; r++) {
        int n = length ? length : (int)fmin(s->seq, fmax(shortest, 0.45 * s->seq * exp(0.6 * rng_normal(&rng)))),
            turns = 1 + (int)rng_below(&rng, 3);
        int *ids = mem_alloc((size_t)n, sizeof *ids), *labels = mem_alloc((size_t)n, sizeof *labels);
        float *weights = mem_alloc((size_t)n, sizeof *weights);
        for (int t = 0; t < n; t++) {
            int turn = t * turns / n, end = n * (turn + 1) / turns, size = end - n * turn / turns;
            ids[t] = (int)rng_below(&rng, (size_t)s->config.vocab_size);
            labels[t] = end - t <= (int)lround(size * fraction) ? ids[t] : IGNORE;
            weights[t] = labels[t] != IGNORE;
        }
        rows[r] = (Example){.n = (size_t)n, .ids = ids, .labels = labels, .weights = weights};
    }
    return rows;
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

// What the threads do now: c = a b of 2048^3 by OpenBLAS, each thread its share of the rows.
static double sgemm_speed(float *a, float *b, float *c)
{
    enum { n = 2048 };
    double start = now_seconds();
#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < n; i += 512)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, 512, n, n, 1, a + i * n, n, b, n, 0, c + i * n, n);
    return 2.0 * n * n * n / (now_seconds() - start) / 1e9;
}

// And what they could do: sums in registers, as many as hide how long each takes.
static double fma_speed(void)
{
    enum { rounds = 1 << 21, sums = 12 };
    volatile float factor = 0.5f;
    float kept = 0;
    double start = now_seconds();
#pragma omp parallel
    {
        Lanes sum[sums], x = factor - (Lanes){0};
        for (int k = 0; k < sums; k++) sum[k] = (float)(k + 1) * x;            // equal ones would be computed once
        for (int i = 0; i < rounds; i++)
            for (int k = 0; k < sums; k++) sum[k] = sum[k] * x + x;
        for (int k = 1; k < sums; k++) sum[0] += sum[k];
#pragma omp critical
        kept += sum[0][0];
    }
    factor = kept;                                         // so that the compiler keeps the loop
    return 2.0 * rounds * sums * LANES * ops_threads() / (now_seconds() - start) / 1e9;
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

// TRL's default: r 16 on the queries and values, dropout 0.05.
static bool add_adapter(Model *m, Err *e)
{
    cJSON *json = cJSON_Parse("{\"peft_type\":\"LORA\",\"r\":16,\"lora_alpha\":32,\"lora_dropout\":0.05,"
                              "\"target_modules\":[\"q_proj\",\"v_proj\"]}");
    Adapter *a = adapter_plan(&m->config, json, "lora", e);
    cJSON_Delete(json);
    if (!a || !model_adapt(m, a, e)) return false;
    adapter_randomize(m, 1);
    return true;
}

static void step(Model *m, Work *w, Optim *o, const Batch *b, TokenLoss *losses)
{
    model_gradient(m, w, b, losses, (double)b->M, false);
    optim_step(o, m, 1e-4, fmin(1, 1 / (grads_norm(m) + 1e-6)));
}

// The run of a config, as far as its rows; or a shape with random weights and rows.
static bool open_run(Run *r, Config *c, const char *config, Err *e)
{
    options_init(&r->options);
    return options_load(&r->options, config, e) && run_open_inputs(r, true, c, e) &&
           run_open_model(r, &r->model, c, NULL, e);
}

static bool make_run(Run *r, Config *c, const ModelShape *s, const char *fraction, const char *shape, Err *e)
{
    int rows = s->rows, length = 0;
    if (shape && (sscanf(shape, "%dx%d", &rows, &length) != 2 || rows < 1 || length < 1 || length > 8192))
        return fail(e, "expected COUNTxLENGTH, found %s", shape);
    options_init(&r->options);
    r->options.per_device_train_batch_size = rows;
    r->data.examples = make_rows(&(ModelShape){.config = s->config, .rows = rows, .seq = length ? length : s->seq},
                                 atof(fraction), length);
    r->n_train = (size_t)rows;
    if (!shape_init(&r->model, s, e)) return false;
    *c = r->model.config;
    return true;
}

// The batch of a step: the next rows that have a label.
static size_t next_batch(Run *r, const Example **rows, size_t n, int step)
{
    size_t batch = (size_t)r->options.per_device_train_batch_size, tokens = 0;
    batch_clear(&r->room.batch);
    for (size_t i = 0; i < batch; i++) {
        const Example *ex = rows[((size_t)step * batch + i) % n];
        batch_add(&r->room.batch, ex, BATCH_TRAIN);
        write_row(step, ex->ids, ex->labels, ex->n);
        tokens += ex->n;
    }
    return tokens;
}

int main(int argc, char **argv)
{
    const ModelShape *s = argc > 1 ? shape_find(argv[1]) : NULL;
    if (argc < 2) return fprintf(stderr, "usage: bench_step SHAPE FRACTION ... or CONFIG.json, see the source\n"), 2;
    bool real = !s;
    int last = real ? 2 : 3, steps = argc > last ? atoi(argv[last]) : 5;
    if (steps < 1 || steps > 1000 || (!real && argc < 3)) return fprintf(stderr, "steps: expected 1 to 1000\n"), 2;

    ops_restart(argv);
    ops_init(0);
    if (strcmp(argv[1], "system") == 0) {
        ops_print(stdout);
        return printf("%s\n", openblas_get_config()) < 0;
    }
    Run r = {0};
    Config c;
    Err e;
    if (!(real ? open_run(&r, &c, argv[1], &e) : make_run(&r, &c, s, argv[2], argc > 4 ? argv[4] : NULL, &e)))
        return fprintf(stderr, "%s\n", e.text), 1;
    const Example **rows = mem_alloc(r.n_train, sizeof *rows);
    size_t n = 0, tokens = 0;
    for (size_t i = 0; i < r.n_train; i++)
        if (example_size(&r.data.examples[i], BATCH_TRAIN).tokens) rows[n++] = &r.data.examples[i];
    r.optim = (Optim){.id = OPTIM_ADAMW, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f};
    BatchSize size = batch_bound(rows, n, (size_t)r.options.per_device_train_batch_size, BATCH_TRAIN);
    bool more = !real && argc > 5, lora = more && strcmp(argv[5], "lora") == 0;
    if ((lora && !add_adapter(&r.model, &e)) || !model_init_grads(&r.model, &e) ||
        !optim_init(&r.optim, r.model.n_trained, &e) ||
        !room_init(&r.room, &r.options, &c, size, more && !lora ? WORK_CHECKPOINTING : WORK_GRADIENT, &e))
        return fprintf(stderr, "%s\n", e.text), 1;
    float *a = mem_alloc(3 * 2048 * 2048, sizeof(float)), *b = a + 2048 * 2048;
    for (size_t i = 0; i < 2 * 2048 * 2048; i++) a[i] = 1.0f / (float)(1 + i % 7);

    double seconds = 0, flops = 0, speed[1000], ratio[1000], fma[1000];
    next_batch(&r, rows, n, 0);
    sgemm_speed(a, b, b + 2048 * 2048);                    // both touch all of their memory
    step(&r.model, &r.room.work, &r.optim, &r.room.batch, r.room.losses);
    if (getenv("ROWS")) rows_file = fopen(getenv("ROWS"), "wb");
    for (int i = 0; i < steps; i++) {
        tokens += next_batch(&r, rows, n, i);
        fma[i] = fma_speed();
        double before = sgemm_speed(a, b, b + 2048 * 2048), start = now_seconds();
        step(&r.model, &r.room.work, &r.optim, &r.room.batch, r.room.losses);
        double took = now_seconds() - start, needed = needed_flops(&c, &r.room.batch);
        speed[i] = (before + sgemm_speed(a, b, b + 2048 * 2048)) / 2;
        ratio[i] = needed / took / 1e9 / speed[i];
        seconds += took;
        flops += needed;
    }
    if (rows_file) fclose(rows_file);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("%zu tokens %.1f ms %.0f tokens/s needed %.1f sgemm %.1f ratio %.3f fma %.1f memory %ld MB\n",
           tokens / (size_t)steps, 1e3 * seconds / steps, (double)tokens / seconds, flops / seconds / 1e9,
           median(speed, steps), median(ratio, steps), median(fma, steps), usage.ru_maxrss / 1024);
    return 0;
}
