// The program finds OpenBLAS's right kernel for the processor, and refuses an OpenBLAS that multiplies wrongly.
#include "small_run.h"

#include "../model/processor.h"

#include <limits.h>
#include <stdlib.h>

static void kernels_below_the_processor(void)
{
    static const struct { const char *kernel; Vectors vectors; const char *wanted, *coretype; } cases[] = {
        {"Prescott",       VECTORS_AVX512, NULL,       "SkylakeX"},
        {"prescott",       VECTORS_AVX512, "",         "SkylakeX"},
        {"Haswell",        VECTORS_AVX512, NULL,       "SkylakeX"},
        {"Zen",            VECTORS_AVX512, NULL,       "SkylakeX"},
        {"Prescott",       VECTORS_AVX2,   NULL,       "Haswell"},
        {"Sandybridge",    VECTORS_AVX2,   NULL,       "Haswell"},
        {"Barcelona",      VECTORS_AVX2,   NULL,       "Haswell"},
        {"SkylakeX",       VECTORS_AVX512, NULL,       NULL},
        {"Cooperlake",     VECTORS_AVX512, NULL,       NULL},
        {"Sapphirerapids", VECTORS_AVX512, NULL,       NULL},
        {"Haswell",        VECTORS_AVX2,   NULL,       NULL},
        {"Zen",            VECTORS_AVX2,   NULL,       NULL},
        {"Prescott",       VECTORS_ANY,    NULL,       NULL},
        {"Prescott",       VECTORS_AVX512, "Prescott", NULL},  // the user's own
        {"Haswell",        VECTORS_AVX512, "haswell",  NULL},
        {"Pantherlake",    VECTORS_AVX512, NULL,       NULL},  // one that is not known here
        {"",               VECTORS_AVX512, NULL,       NULL},
        {NULL,             VECTORS_AVX512, NULL,       NULL},
        {"neoversen1",     VECTORS_ANY,    NULL,       NULL},
        {"armv8",          VECTORS_ANY,    NULL,       NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *got = processor_coretype(cases[i].kernel, cases[i].vectors, cases[i].wanted);
        const char *want = cases[i].coretype;
        CHECK_MSG(got && want ? strcmp(got, want) == 0 : got == want, "%s: %s", cases[i].kernel, got ? got : "NULL");
    }
}

// This program itself runs, so the processor has what the program needs.
static void processor_has_what_is_needed(void) { CHECK(processor_vectors() >= processor_needs); }

static char shim[PATH_MAX];                                // the library of faults/blas.c

// A run of two steps under `environment`. With `fresh` it may start itself again. Returns its exit status.
static int train(const char *environment, bool fresh)
{
    char before[PATH_MAX + 512], arguments[256];
    snprintf(before, sizeof before,
             "env -u OPENBLAS_CORETYPE %s ASAN_OPTIONS=verify_asan_link_order=0 LD_PRELOAD=%s %s",
             fresh ? "-u GOMP_SPINCOUNT -u KMP_BLOCKTIME -u OMP_WAIT_POLICY" : "", shim, environment);
    snprintf(arguments, sizeof arguments, "%s --max_steps=2", temp_path("config.json"));
    remove_tree(temp_path("out"));
    return run_with(before, arguments);
}

// OpenBLAS says that it took its slowest kernel: the program starts itself again, once, and the report names both.
static void starts_again_with_the_right_kernel(void)
{
    static const char *const wanted[] = {NULL, "Haswell", "SkylakeX"};
    const char *coretype = wanted[processor_vectors()];
    char want[100];
    if (!coretype) SKIP("not an x86 processor with AVX2");
    for (int fresh = 0; fresh < 2; fresh++) {
        CHECK_MSG(train("BLAS_KERNEL=Prescott", fresh) == 0, "%s", output);
        snprintf(want, sizeof want, "kernel Prescott by OPENBLAS_CORETYPE=%s,", coretype);
        CHECK_MSG(strstr(output, want), "%s", output);
    }
    CHECK(train("BLAS_KERNEL=Prescott OPENBLAS_CORETYPE=Nehalem", true) == 0);     // the user's own stays
    CHECK_MSG(strstr(output, "kernel Prescott by OPENBLAS_CORETYPE=Nehalem,"), "%s", output);
    CHECK(train("BLAS_KERNEL=Pantherlake", true) == 0);
    CHECK_MSG(strstr(output, "kernel Pantherlake, "), "%s", output);
}

static void wrong_products_are_refused(void)
{
    CHECK(train("BLAS_WRONG=last BLAS_KERNEL=Pantherlake", true) == 1);
    CHECK_MSG(strstr(output, "OpenBLAS multiplies wrongly with its kernel Pantherlake") &&
              strstr(output, "set OPENBLAS_CORETYPE"), "%s", output);
    CHECK(!file_is_dir(temp_path("out")));
}

int main(int argc, char **argv)
{
    (void)argc;
    char *dir = path_dir(argv[0]), *real = realpath(dir, NULL);
    snprintf(shim, sizeof shim, "%s/blas.so", real ? real : ".");
    temp_begin();
    write_fixture();
    RUN(kernels_below_the_processor);
    RUN(processor_has_what_is_needed);
    RUN(starts_again_with_the_right_kernel);
    RUN(wrong_products_are_refused);
    temp_end();
    free(dir);
    free(real);
    return check_report();
}
