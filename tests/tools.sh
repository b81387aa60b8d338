#!/bin/sh
# make tools: what other programs say about this one. Each check prints one line, and its output is in build/tools/. A
# tool that is not installed is skipped. Debian, Ubuntu: apt-get install valgrind clang clang-tidy libclang-rt-dev
# libomp-dev musl-tools gcc-aarch64-linux-gnu qemu-user
cd "$(dirname "$0")/.." || exit 1
passed=0 failed=0 skipped=0 logs=build/tools
jobs=$(nproc 2>/dev/null || echo 2)
rm -rf $logs
mkdir -p $logs
export OMP_WAIT_POLICY=passive                 # with it ./train does not start itself again, outside valgrind

# check WHAT STATUS COMMAND...: must end with that status.
check() {
    what=$1 want=$2
    shift 2
    log=$logs/$(echo "$what" | tr -c 'a-z0-9\n' -)
    "$@" >"$log" 2>&1 </dev/null
    got=$?
    if [ $got = "$want" ]; then echo "ok   $what"; passed=$((passed + 1))
    else echo "FAIL $what: exit status $got, not $want: see $log"; tail -n 20 "$log"; failed=$((failed + 1)); fi
}
skip() { echo "skip $1: $2"; skipped=$((skipped + 1)); }
build() {
    ${MAKE:-make} --no-print-directory -j "$jobs" "$@" >$logs/build 2>&1 && return
    cat $logs/build
    echo "FAIL make $*"
    exit 1
}

# ---- a short run: two steps of a few rows on the bundled model, with checkpoints, held-out rows and a report ---------
head -n 6 data/wordnet/kinds_few.jsonl >$logs/rows.jsonl
cat >$logs/run.json <<END
{"model_name_or_path": "model/tiny", "dataset_name": "$logs/rows.jsonl", "eval_split": 0.2, "max_length": 96,
 "max_steps": 2, "per_device_train_batch_size": 2, "save_steps": 1, "n_threads": 2, "output_dir": "$logs/out",
 "overwrite_output_dir": true}
END

# ---- other systems ---------------------------------------------------------------------------------------------------
# each COMMAND...: for every source; `file` stands for its name.
each() { printf '%s\n' $SOURCES | xargs -P "$jobs" -I file "$@"; }

check 'make on a Mac with Homebrew' 0 sh tests/mac.sh
# The calls of POSIX alone, with which the program is built elsewhere.
build build-tests POSIX=1 BUILD=build/posix
check 'tests with the calls of POSIX alone' 0 env TRAIN=build/posix/train sh tests/run.sh build/posix/test_*[a-z]
# Not one header of glibc: those of musl, OpenBLAS and cJSON.
if ! command -v musl-gcc >/dev/null; then skip musl 'musl-tools is not installed'
else
    check "musl's headers" 0 each musl-gcc $FLAGS -fopenmp -fsyntax-only file
    check "musl's headers, the calls of POSIX alone" 0 each \
        musl-gcc $FLAGS -U_GNU_SOURCE -D_XOPEN_SOURCE=700 -U__linux__ -fopenmp -fsyntax-only file
fi
# Code for a Mac. Apple's headers are not there: those of musl take their place.
musl=/usr/include/$(uname -m)-linux-musl
if [ ! -d "$musl" ] || ! echo '#include <omp.h>' | clang -fopenmp -E - >/dev/null 2>&1; then
    skip "clang's code for macOS" 'clang, libomp-dev or musl-tools is not installed'
else
    check "clang's code for macOS" 0 each clang --target=arm64-apple-macos13 -nostdlibinc -isystem "$musl" \
        $FLAGS -Wno-unused-command-line-argument -Xpreprocessor -fopenmp -O1 -Wno-pass-failed -S -o /dev/null file
fi
if ! reason=$(sh tests/arm64.sh ready); then skip arm64 "$reason"
else check 'tests on arm64' 0 sh tests/arm64.sh; fi

# ---- memcheck: reads of memory never written, writes outside of allocations, leaks on success and on failure ---------
memcheck() {
    # valgrind does not know AVX-512, and hides it from OpenBLAS. Leaks count only if nothing points to them any more.
    march=$([ "$(uname -m)" = x86_64 ] && echo -march=x86-64-v3)
    build BUILD=build/valgrind CFLAGS="-O1 -g $march" build/valgrind/train
    under() {
        name=$1 want=$2
        shift 2
        check "memcheck: $name" "$want" valgrind -q --error-exitcode=9 --leak-check=full \
            --errors-for-leak-kinds=definite,indirect --show-leak-kinds=definite,indirect build/valgrind/train "$@"
    }
    if [ -n "$march" ]; then
        build BUILD=build/valgrind-v4 CFLAGS="-O1 -march=x86-64-v4" build/valgrind-v4/train
        check 'a processor without AVX-512, which the program was built for' 1 valgrind -q build/valgrind-v4/train help
        check '  is named' 0 grep -q 'built for a processor with AVX-512' $log
    fi
    run=$logs/run.json bad=$logs/bad
    under 'training' 0 $run
    under 'going on' 0 $run --resume_from_checkpoint=latest
    under 'inspect' 0 inspect $run --json
    under 'export' 0 export model/tiny $logs/exported
    under 'sample' 0 sample $logs/exported --prompt=A --max_new_tokens=4

    cp -r model/tiny $bad
    under 'wrong usage' 2 inspect
    under 'no config' 1 $bad/none.json
    echo '{"max_steps": 1,}' >$bad/config.bad
    under 'a broken config' 1 $bad/config.bad
    under 'an unknown key' 1 $run --learning_rat=1
    under 'no rows' 1 $run --dataset_name=$bad/none.jsonl
    { cat $logs/rows.jsonl; echo '{"messages": [{"role": 3}]}'; } >$bad/rows.jsonl
    under 'a bad row' 1 $run --dataset_name=$bad/rows.jsonl
    under 'nothing to learn' 1 $run --max_length=2
    echo '{% for m in messages %}{{ m.content | shout }}{% endfor %}' >$bad/bad.jinja
    under 'a bad template' 1 $run --chat_template_path=$bad/bad.jinja
    echo '{{ raise_exception("no") }}' >$bad/bad.jinja
    under 'a template that refuses' 1 $run --chat_template_path=$bad/bad.jinja
    under 'an output folder that is a file' 1 $run --output_dir=$logs/rows.jsonl
    under 'a model there already' 1 $run --overwrite_output_dir=false
    under 'an export there already' 1 export model/tiny $logs/exported
    under 'another config than the checkpoint' 1 $run --resume_from_checkpoint=latest --seed=7
    for f in optimizer.safetensors model.safetensors resume.json; do
        cp $logs/out/checkpoint-2/$f $bad/kept
        head -c 1000 $bad/kept >$logs/out/checkpoint-2/$f
        under "a checkpoint with half of $f" 1 $run --resume_from_checkpoint=latest
        cp $bad/kept $logs/out/checkpoint-2/$f
    done
    sed 's/model.norm.weight/model.worm.weight/' model/tiny/model.safetensors >$bad/model.safetensors
    under 'a missing tensor' 1 $run --model_name_or_path=$bad
    head -c 5000 model/tiny/tokenizer.json >$bad/tokenizer.json
    under 'half a tokenizer' 1 inspect $run --tokenizer_name_or_path=$bad
}
if ! command -v valgrind >/dev/null; then skip memcheck 'valgrind is not installed'
else memcheck; fi

# ---- ThreadSanitizer ------------------------------------------------------------------------------------------------
# Clang's OpenMP tells it by libarcher where threads wait for each other, so that nothing needs to be suppressed.
# OpenBLAS and libomp were built without it, so what they do is ignored. First it must find a race where there is one,
# and none where there is none.
races() {
    archer=$(dirname "$(readlink -f "$(command -v clang)")")/../lib/libarcher.so
    [ -e "$archer" ] || { skip 'data races' 'no libarcher beside clang'; return; }
    export OMP_TOOL_LIBRARIES="$archer" TSAN_OPTIONS="ignore_noninstrumented_modules=1 exitcode=66" OMP_NUM_THREADS=2
    cat >$logs/probe.c <<'END'
int main(void)
{
    int sum = 0, part[4] = {0};
#pragma omp parallel for schedule(static, 1)
    for (int i = 0; i < 4; i++) SUM += i;
    for (int i = 0; i < 4; i++) sum += part[i];
    return sum != 6;
}
END
    if ! clang -g -O1 -fopenmp -fsanitize=thread '-DSUM=part[i]' -o $logs/without $logs/probe.c 2>$logs/probe.log ||
       ! clang -g -O1 -fopenmp -fsanitize=thread -DSUM=sum -o $logs/with $logs/probe.c 2>>$logs/probe.log; then
        skip 'data races' "clang has no ThreadSanitizer or no OpenMP here: $logs/probe.log"
        return
    fi
    check 'races: none in a loop without' 0 $logs/without
    check 'races: one in a loop with' 66 $logs/with
    out=build/clang-santhread
    build CC=clang SAN=thread $out/train $out/test_ops $out/test_model
    check 'races: test_ops' 0 $out/test_ops
    check 'races: test_model' 0 $out/test_model
    check 'races: training' 0 $out/train $logs/run.json
}
if ! command -v clang >/dev/null; then skip 'data races' 'clang is not installed'
else races; fi

# ---- vectors --------------------------------------------------------------------------------------------------------
# Each loop after "omp simd" must become vectors, for AVX2 and for this processor. clang names the pragma's line, gcc
# the loop's or the first one of its body.
scalar_loops() {
    compiler=$1 remarks=$2 march=$3 left=0
    for source in model/attention.c model/ops.c model/optim.c model/sample.c; do
        $compiler $FLAGS -fopenmp -O3 -march="$march" $remarks -c -o /dev/null $source 2>&1 |
            grep -E 'loop vectorized|vectorized loop' | cut -d: -f2 | sort -un >$logs/vectorized
        for line in $(grep -n 'omp simd' $source | cut -d: -f1); do
            seen=$(awk -v at="$line" '$1 >= at && $1 <= at + 3' $logs/vectorized)
            [ -n "$seen" ] || { sed -n "$line,$((line + 1))s|^|$source:$line: |p" $source; left=1; }
        done
    done
    return $left
}
marches=$([ "$(uname -m)" = x86_64 ] && echo x86-64-v3) marches="$marches native"
for march in $marches; do
    if ! command -v gcc >/dev/null; then skip "vectors: gcc, $march" 'gcc is not installed'
    else check "vectors: gcc, $march" 0 scalar_loops gcc -fopt-info-vec "$march"; fi
    if ! command -v clang >/dev/null; then skip "vectors: clang, $march" 'clang is not installed'
    else check "vectors: clang, $march" 0 scalar_loops clang -Rpass=loop-vectorize "$march"; fi
done

# ---- what can be seen without running --------------------------------------------------------------------------------
# Without -fopenmp: gcc makes functions of parallel loops, and the analyzer thinks that these read variables that are
# never set. ThreadSanitizer checks the threads.
case $(gcc -dumpversion 2>/dev/null) in
    1[2-9]* | [2-9][0-9]*)
        check 'gcc -fanalyzer' 0 each gcc $FLAGS -Wno-unknown-pragmas -Wno-unused-function -O1 -fanalyzer -c \
            -o /dev/null file ;;
    *) skip 'gcc -fanalyzer' 'gcc 12 or later is not installed' ;;
esac
if ! command -v clang-tidy >/dev/null; then skip clang-tidy 'it is not installed'
else check 'clang-tidy' 0 each clang-tidy --quiet file -- $FLAGS -fopenmp; fi

echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
