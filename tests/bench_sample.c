// bench_sample: how fast text comes from a model: tokens a second of a prompt, and of what is generated after it, as
// medians over ROUNDS. It makes the most likely tokens only: a random choice takes the same time in each program.
//   bench_sample SHAPE PROMPT NEW ROUNDS [FILE]
// SHAPE as in shapes.h, with random weights; PROMPT random tokens, then NEW of its own. FILE: the model is written
// there too, as llama2.c's .bin, for bench_llamacpp.py.
#include "../model/checkpoint.h"
#include "../model/sample.h"
#include "shapes.h"

#include <stdlib.h>

enum { MAX_ROUNDS = 100 };

static int ascending(const void *a, const void *b)
{
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

static double median(double *x, int n)
{
    qsort(x, (size_t)n, sizeof *x, ascending);
    return x[n / 2];
}

int main(int argc, char **argv)
{
    const ModelShape *shape = argc > 4 ? shape_find(argv[1]) : NULL;
    if (!shape) return fprintf(stderr, "usage: bench_sample SHAPE PROMPT NEW ROUNDS [FILE], see the source\n"), 2;
    size_t n = (size_t)atoi(argv[2]), more = (size_t)atoi(argv[3]);
    int rounds = atoi(argv[4]);
    if (n < 1 || more < 1 || n + more > 8192 || rounds < 1 || rounds > MAX_ROUNDS)
        return fprintf(stderr, "expected 1 to 8192 tokens and 1 to %d rounds\n", MAX_ROUNDS), 2;
    ops_restart(argv);
    ops_init(0);
    Model m;
    Sampler s;
    Err e;
    if (!shape_init(&m, shape, &e) || !sampler_init(&s, &m, n + more, &e) ||
        (argc > 5 && !formats[FORMAT_BIN].save(&m, argv[5], NULL, &e)))
        return fprintf(stderr, "%s\n", e.text), 1;
    int *ids = mem_alloc(n + more, sizeof *ids);
    for (size_t i = 0; i < n; i++) ids[i] = (int)((i * 37 + 11) % m.shape.V);
    double prompt[MAX_ROUNDS], generated[MAX_ROUNDS];
    for (int round = 0; round <= rounds; round++) {        // the first one is not counted
        sampler_reset(&s);
        double start = now_seconds();
        sampler_feed(&s, ids, n);
        double middle = now_seconds();
        for (size_t i = n; i < n + more; i++) {
            ids[i] = sampler_choose(&s, 0, 1, NULL);
            sampler_feed(&s, &ids[i], 1);
        }
        double end = now_seconds();
        int at = round ? round - 1 : 0;
        prompt[at] = (double)n / (middle - start);
        generated[at] = (double)more / (end - middle);
    }
    printf("prompt %.1f generated %.1f ids", median(prompt, rounds), median(generated, rounds));
    for (size_t i = n; i < n + more && i < n + 8; i++) printf(" %d", ids[i]);
    printf("\n");
    return 0;
}
