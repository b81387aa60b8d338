// A run is a function of its config, data and seed: the same weights and the same log, byte for byte, for any number of
// threads, with either of Debian's OpenBLAS flavours, on an idle or a busy machine.
#include "program.h"

#include <signal.h>

// Batches of some 1,600 tokens, of which some 600 are targets, so that products are cut into tiles and gradients into
// parts.
static void write_fixture(void)
{
    Buf rows = {0};
    Rng rng = rng_seed(5);
    for (int i = 0; i < 60; i++) {
        buf_adds(&rows, quoted("{'messages': [{'role': 'user', 'content': '"));
        for (size_t n = 50 + rng_below(&rng, 150); n > 0; n--) buf_addc(&rows, (char)('a' + rng_below(&rng, 26)));
        buf_adds(&rows, quoted("'}, {'role': 'assistant', 'content': '"));
        for (size_t n = 1 + rng_below(&rng, 150); n > 0; n--) buf_addc(&rows, (char)('a' + rng_below(&rng, 26)));
        buf_adds(&rows, quoted("'}]}\n"));
    }
    temp_run("rows.jsonl", rows.data,
             "'model_init': {'hidden_size': 128, 'intermediate_size': 160, 'num_hidden_layers': 3,"
             " 'num_attention_heads': 8, 'num_key_value_heads': 4, 'max_position_embeddings': 512,"
             " 'tie_word_embeddings': true}, 'eval_split': 0.1, 'max_steps': 3, 'learning_rate': 0.01,"
             " 'logging_steps': 1, 'eval_steps': 2, 'per_device_train_batch_size': 8,"
             " 'gradient_accumulation_steps': 2, 'max_length': 512, 'overwrite_output_dir': true");
    buf_free(&rows);
}

typedef struct { uint64_t model, log; } Hashes;

static uint64_t hash(const void *bytes, size_t n)          // FNV-1a
{
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ ((const unsigned char *)bytes)[i]) * 0x100000001B3u;
    return h;
}

static uint64_t hash_file(const char *path)
{
    File f;
    Err e;
    if (!CHECK_MSG(file_map(&f, path, &e), "%s", e.text)) return 0;
    uint64_t h = hash(f.data, f.size);
    file_unmap(&f);
    return h;
}

static uint64_t hash_log(const char *dir)
{
    Buf log = {0};
    int n_lines = 0;
    log_without_times(dir, &log);
    for (size_t i = 0; i < log.len; i++) n_lines += log.data[i] == '\n';
    CHECK(n_lines == 7);                                   // three steps, three evaluations, the end
    uint64_t h = hash(log.data, log.len);
    buf_free(&log);
    return h;
}

// Trains with `environment` ("OMP_NUM_THREADS=3") and `options`.
static Hashes train(const char *environment, const char *options)
{
    char arguments[300];
    snprintf(arguments, sizeof arguments, "%s %s", temp_path("config.json"), options);
    remove_tree(temp_path("out"));
    if (!CHECK_MSG(run_with(environment, arguments) == 0, "%s: %s", environment, output)) return (Hashes){0, 0};
    return (Hashes){hash_file(temp_path("out/model.bin")), hash_log("out")};
}

static Hashes first;

static void check_same(const char *environment)
{
    Hashes h = train(environment, "");
    CHECK_MSG(h.model == first.model, "%s: other weights", environment);
    CHECK_MSG(h.log == first.log, "%s: another log", environment);
}

static void test_threads(void)
{
    first = train("OMP_NUM_THREADS=1", "");
    check_same("OMP_NUM_THREADS=1");
    check_same("OMP_NUM_THREADS=2");
    check_same("OMP_NUM_THREADS=3");
    check_same("OMP_NUM_THREADS=7");
}

// The comparison can fail: another seed gives other weights and another log.
static void test_other_seed(void)
{
    Hashes h = train("OMP_NUM_THREADS=2", "--seed=43");
    CHECK(h.model != first.model && h.log != first.log);
}

// Beside programs that want all cores, threads run in any order.
static void test_busy_machine(void)
{
    enum { BUSY = 4 };
    pid_t busy[BUSY];
    for (int i = 0; i < BUSY; i++)
        if ((busy[i] = fork()) == 0) {
            alarm(60);                                     // if this test is killed, they end soon after it
            for (volatile unsigned n = 0;; n++) {}
        }
    check_same("OMP_NUM_THREADS=3");
    for (int i = 0; i < BUSY; i++) {
        kill(busy[i], SIGKILL);
        waitpid(busy[i], NULL, 0);
    }
}

// Debian keeps each flavour of OpenBLAS in a folder of its own. The serial one has no locks: ops_init takes one thread.
static void test_blas_flavours(void)
{
    static const char *const machines[] = {"x86_64", "aarch64"}, *const flavours[] = {"pthread", "openmp", "serial"};
    int n = 0;
    for (size_t m = 0; m < 2; m++)
        for (size_t i = 0; i < 3; i++) {
            char path[100], environment[200];
            snprintf(path, sizeof path, "/usr/lib/%s-linux-gnu/openblas-%s", machines[m], flavours[i]);
            if (!file_is_dir(path)) continue;
            snprintf(environment, sizeof environment, "LD_LIBRARY_PATH=%s OMP_NUM_THREADS=2", path);
            check_same(environment);
            CHECK_MSG(strstr(output, ", 2 threads\n"), "%s: %s", environment, output);
            n++;
        }
    if (n < 2) SKIP("there is only one OpenBLAS");
}

int main(void)
{
    temp_begin();
    write_fixture();
    RUN(test_threads);
    RUN(test_other_seed);
    RUN(test_busy_machine);
    RUN(test_blas_flavours);
    temp_end();
    return check_report();
}
