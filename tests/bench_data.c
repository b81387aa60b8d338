// bench_data: what a run does with tokenizer, chat template and rows before its first step. Each row is rendered,
// tokenized and labelled.
//     bench_data TOKENIZER FILE.jsonl
#include "../data/run/inputs.h"

#include <sys/resource.h>

int main(int argc, char **argv)
{
    if (argc != 3) return fprintf(stderr, "usage: bench_data TOKENIZER FILE.jsonl\n"), 2;
    double start = now_seconds();
    Run r = {0};
    Config c;
    Err e;
    options_init(&r.options);
    r.options.tokenizer_name_or_path = mem_strdup(argv[1]);
    r.options.dataset_name = mem_strdup(argv[2]);
    if (!run_open_inputs(&r, false, &c, &e)) return fprintf(stderr, "%s\n", e.text), 1;
    double seconds = now_seconds() - start;

    const Example *ex = r.data.examples;
    size_t tokens = 0, token_size = sizeof *ex->ids + sizeof *ex->labels + sizeof *ex->weights + sizeof *ex->roles;
    for (size_t i = 0; i < r.data.n; i++) tokens += ex[i].n;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("%8.2f s to open %zu rows, %.1f MB, %zu tokens; %ld MB of memory, %.0f MB of it token arrays\n", seconds,
           r.data.n, (double)r.data.file.size / 1e6, tokens, usage.ru_maxrss / 1024,
           (double)(tokens * token_size) / 1e6);
    run_free(&r);
    return 0;
}
