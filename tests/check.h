// check.h: the test framework. A test is a function; RUN calls it; a failed CHECK prints and marks it failed.
// Each test program ends with `return check_report();`, and its exit status is the verdict.
#ifndef CHECK_H
#define CHECK_H

#include "quoted.h"

#include <math.h>
#include <unistd.h>

static int n_passed, n_failed, n_skipped, n_bad_checks, n_refused;
static const char *skip_reason;

#define CHECK(cond) \
    ((cond) ? true : (n_bad_checks++, fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #cond), false))

#define CHECK_MSG(cond, ...) \
    ((cond) ? true : (n_bad_checks++, fprintf(stderr, "%s:%d: failed: %s: ", __FILE__, __LINE__, #cond), \
                      fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), false))

#define CHECK_STR(got, want) check_str(got, want, __FILE__, __LINE__)
#define CHECK_CLOSE(name, got, want, n, tol) check_close(name, got, want, n, tol, __FILE__, __LINE__)

// The call must fail, and its message must contain `want`: one bad input refused.
#define CHECK_FAILS(call, e, want) \
    (!(call) && strstr((e).text, want) ? (n_refused++, true) \
     : (n_bad_checks++, fprintf(stderr, "%s:%d: %s: expected an error with \"%s\", got \"%s\"\n", \
                                __FILE__, __LINE__, #call, want, (e).text), false))

#define RUN(test) check_run(#test, test)
#define SKIP(reason) do { skip_reason = reason; return; } while (0)
#define FOLDER_OR_SKIP(path) do { if (access(path, R_OK) != 0) SKIP(path " is not there"); } while (0)

static inline bool check_str(const char *got, const char *want, const char *file, int line)
{
    if (got && want && strcmp(got, want) == 0) return true;
    n_bad_checks++;
    fprintf(stderr, "%s:%d: expected \"%s\", got \"%s\"\n", file, line, want ? want : "(null)", got ? got : "(null)");
    return false;
}

// Relative L2 distance |got - want| / |want| at most tol; written so that a NaN fails.
static inline bool check_close(const char *name, const float *got, const float *want, size_t n, double tol,
                               const char *file, int line)
{
    double diff = 0, norm = 0, worst = -1;
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)got[i] - want[i];
        diff += d * d;
        norm += (double)want[i] * want[i];
        if (!(fabs(d) <= worst)) { worst = fabs(d); at = i; }
    }
    double err = sqrt(diff) / (norm > 0 ? sqrt(norm) : 1);
    if (err <= tol) return true;
    n_bad_checks++;
    fprintf(stderr, "%s:%d: %s: relative L2 error %.3g is over %.3g; worst at [%zu]: got %.9g, want %.9g\n", file, line,
            name, err, tol, at, n ? got[at] : 0.0, n ? want[at] : 0.0);
    return false;
}

static inline void check_run(const char *name, void (*test)(void))
{
    n_bad_checks = 0;
    skip_reason = NULL;
    test();
    if (n_bad_checks) { n_failed++; printf("FAIL %s\n", name); }
    else if (skip_reason) { n_skipped++; printf("skip %s: %s\n", name, skip_reason); }
    else { n_passed++; printf("ok   %s\n", name); }
    fflush(stdout);
}

static inline int check_report(void)
{
    if (n_refused) printf("     bad inputs refused: %d\n", n_refused);
    printf("%d passed, %d failed, %d skipped\n", n_passed, n_failed, n_skipped);
    return n_failed ? 1 : 0;
}

#endif
