#!/bin/sh
# Fuzzes every reader of foreign bytes, or those that are named. Builds the harnesses of tests/fuzz with libFuzzer, ASan
# and UBSan. Runs each for FUZZ_SECONDS (60), or for FUZZ_RUNS executions (any number) if they end sooner. New inputs go
# to build/fuzz/corpus/NAME, those that fail to build/fuzz/NAME-*. Exit status 1 if any failed, 2 if it cannot run here.
FUZZ_SECONDS=${FUZZ_SECONDS:-60}
cd "$(dirname "$0")/.." || exit 2
install="Debian, Ubuntu: apt-get install"
command -v clang >/dev/null || { echo "make fuzz needs clang ($install clang libclang-rt-dev libomp-dev)"; exit 2; }
mkdir -p build/fuzz/corpus
probe='#include <omp.h>
int LLVMFuzzerTestOneInput(const unsigned char *data, unsigned long size)
{ return !data && size && omp_in_parallel(); }'
sanitize=-fsanitize=fuzzer,address,undefined
if ! echo "$probe" | clang -fopenmp $sanitize -x c - -o build/fuzz/probe 2>build/fuzz/probe.log; then
    cat build/fuzz/probe.log
    echo "make fuzz needs clang's libFuzzer, its sanitizers and OpenMP ($install libclang-rt-dev libomp-dev," \
         "on older ones the versioned libclang-rt-14-dev)"
    exit 2
fi
names=${*:-$(for f in tests/fuzz/*.c; do basename "$f" .c; done)}
programs=$(for name in $names; do echo "build/fuzz/fuzz_$name"; done)
${MAKE:-make} --no-print-directory CC=clang SAN=1 BUILD=build/fuzz $programs \
    CFLAGS="-march=native -Wno-pass-failed -DFUZZING -fsanitize=fuzzer-no-link -fsanitize=float-cast-overflow" || exit 2

FUZZ_DIR=$(mktemp -d "$([ -d /dev/shm ] && echo /dev/shm || echo /tmp)/sft-fuzz-XXXXXX")
trap 'rm -rf "$FUZZ_DIR"' EXIT
export FUZZ_DIR OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
export ASAN_OPTIONS=quarantine_size_mb=8:detect_leaks=1:allocator_may_return_null=1
status=0
for name in $names; do
    # The largest allocation allowed, in MiB. A template may print and keep 256 MiB, and a buffer that grows doubles.
    # Inputs this small justify no other large allocation, except a model's RoPE table.
    case $name in jinja*|rows) limit=600 ;; hf_folder|gguf) limit=70 ;; *) limit=40 ;; esac
    case $name in tokenizer_bin) longest=6000 ;; gguf) longest=8000 ;; rows) longest=1500 ;; *) longest=4096 ;; esac
    dict=; [ -f "tests/fuzz/$name.dict" ] && dict=-dict=tests/fuzz/$name.dict
    mkdir -p "build/fuzz/corpus/$name"
    printf '%-18s' "$name"
    log=build/fuzz/$name.log
    # shellcheck disable=SC2086
    if nice -n 15 "build/fuzz/fuzz_$name" -max_total_time="$FUZZ_SECONDS" -runs="${FUZZ_RUNS:--1}" -timeout=30 \
        -max_len=$longest -malloc_limit_mb=$limit -rss_limit_mb=2048 -print_final_stats=1 -verbosity=1 $dict \
        -artifact_prefix="build/fuzz/$name-" "build/fuzz/corpus/$name" "tests/corpus/$name" >"$log" 2>&1
    then verdict=ok
    else
        verdict="FAILED, see $log" status=1
    fi
    awk -v verdict="$verdict" '
        /cov: [0-9]/ { for (i = 1; i < NF; i++) if ($i == "cov:") cov = $(i + 1) }
        /number_of_executed_units/ { n = $2 } /peak_rss_mb/ { rss = $2 } /slowest_unit_time_sec/ { slow = $2 }
        END { printf "%10d executions, %5d edges, peak %4d MB, slowest %2d s, %s\n", n, cov, rss, slow, verdict }
        ' "$log"
done
exit $status
