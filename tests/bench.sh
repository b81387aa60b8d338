#!/bin/sh
# What `make bench` runs: training steps by shape and supervised fraction, how their time grows, tokenizers, and the
# start of a run. $1: the folder of the programs. PEER=1 also runs PyTorch on the same batches (python3 with torch) and
# Hugging Face's tokenizers (node, npm). PEER=tuned lets this PyTorch keep its memory, in huge pages: it is up to three
# times as fast. SHAPES ("260K 15M 135M"), STEPS (5) of each run and ROUNDS (3; medians are printed) say how much.
build=$1 python=${PYTHON:-python3} steps=${STEPS:-5} rounds=${ROUNDS:-3} out=build/bench
mkdir -p $out
[ -n "$PEER" ] && $python -c 'import torch' 2>/dev/null && peer=1
[ "$PEER" = tuned ] && tuned=1

# The peer's one line. Our steps have the spin count that ./train gives itself; PyTorch has that of its user's shell.
keeping="glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=17179869184:glibc.malloc.trim_threshold=17179869184"
as_peer() {
    env ${tuned:+GLIBC_TUNABLES=$keeping} $python tests/bench_torch.py "$@" | sed 's/^/peer /'
}

# row NAME SHAPE FRACTION BATCH [options of the peer]: one line of medians. The fields of the two programs' lines:
#   ours  7 ms, 9 tokens/s, 11 needed GFLOP/s, 15 canary, 17 ratio, 20 MB     peer  9 tokens/s, 12 canary
row() {
    name=$1 shape=$2 fraction=$3 batch=${4-}
    shift $(($# < 4 ? $# : 4))
    : >$out/runs
    for i in $(seq "$rounds"); do
        if [ "$batch" = $out/batch ]; then as_peer "$shape" "$fraction" 2 $batch "$@" >>$out/runs; fi
        GOMP_SPINCOUNT=1000 KMP_BLOCKTIME=0 "$build/bench_step" "$shape" "$fraction" "$steps" $batch |
            tr -d ',' | sed 's/^/ours /' >>$out/runs
    done
    awk -v name="$name" -v peer="${tuned:+tuned }PyTorch" '
        function median(x, n,   i, j, t) {
            for (i = 2; i <= n; i++)
                for (j = i; j > 1 && x[j] < x[j-1]; j--) { t = x[j]; x[j] = x[j-1]; x[j-1] = t }
            return (x[int((n + 1) / 2)] + x[int(n / 2) + 1]) / 2
        }
        $1 == "ours" {
            n++; tokens = $5; ms[n] = $7; speed[n] = $9; flops[n] = $11; canary[n] = $15; ratio[n] = $17; mb = $20 " MB"
            share[n] = $9 / $15
        }
        $1 == "peer" { k++; theirs[k] = $9; their_canary[k] = $12; their_share[k] = $9 / $12 }
        END {
            printf "%-22s %5d tokens %8.1f ms %7.0f tokens/s %6.1f needed GFLOP/s canary %5.1f ratio %.3f  %-7s",
                name, tokens, median(ms, n), median(speed, n), median(flops, n), median(canary, n), median(ratio, n), mb
            if (k) printf "  " peer " %6.0f tokens/s canary %5.1f: %.1f times", median(theirs, k),
                median(their_canary, k), median(share, n) / median(their_share, k)
            print ""
        }' $out/runs
}

for shape in ${SHAPES:-260K 15M 135M}; do
    for percent in 15 40 100; do
        fraction=$(echo $percent | awk '{ print $1 / 100 }')
        row "$shape $percent %" $shape $fraction ${peer:+$out/batch}
        [ -n "$peer" ] && [ $shape = 15M ] && row "  chunked_nll" $shape $fraction $out/batch --chunked_nll
    done
    [ -n "$peer" ] && [ $shape = 15M ] && row "  rows of one length" $shape 1.0 $out/batch --lengths full
done

# Growth: each line's time per token, and the time that its needed work would take at the canary's speed.
points() {
    awk -v x="$1" '{
        for (i = 1; i < NF; i++) {
            if ($i == "tokens") n = $(i-1)
            if ($i == "ms") ms = $(i-1)
            if ($i == "ratio") r = $(i+1)
        }
        print x, 1e3 * ms / n, 1e3 * ms / n * r
    }'
}
for plot in length masked threads; do : >$out/$plot; done
for length in 128 512 2048 8192; do
    row "15M rows of $length" 15M 1.0 $((length > 4096 ? 1 : 4096 / length))x$length | tee $out/line
    points $length <$out/line >>$out/length
done
for percent in 5 10 15 25 40 55 70 85 100; do
    row "15M $percent %" 15M "$(echo $percent | awk '{ print $1 / 100 }')" 12x256 | tee $out/line
    points $percent <$out/line >>$out/masked
done
threads=1
while [ $threads -le "$(getconf _NPROCESSORS_ONLN)" ]; do
    OMP_NUM_THREADS=$threads row "15M $threads threads" 15M 1.0 8x512 | tee $out/line
    points $threads <$out/line >>$out/threads
    threads=$((threads * 2))
done
row "15M 8 rows of 512" 15M 1.0 8x512
row "  checkpointing" 15M 1.0 "8x512 checkpointing"
measured='using 1:2 with linespoints lw 2 pt 7 title "measured"'
needed="using 1:3 with lines lw 2 dt 2 title \"needed flops at sgemm's speed\""
if command -v gnuplot >/dev/null; then
    gnuplot <<END && echo "plots of growth: $out/growth.svg"
set terminal svg size 1200,360 background "white"
set output "$out/growth.svg"
set multiplot layout 1,3
set ylabel "microseconds a token"
set yrange [0:*]
set key bottom right
set xlabel "tokens in a row"
set logscale x 2
plot "$out/length" $measured, "" $needed
unset logscale
set xlabel "% supervised"
plot "$out/masked" $measured, "" $needed
set xlabel "threads"
set xtics 1
plot "$out/threads" $measured, "" $needed
END
fi

# A real tokenizer if there is one in ../shared, else the bundled one; chats, and one line of 1 MB.
tokenizer=model/tiny/tokenizer.json chats=data/wordnet/kinds_train.jsonl
if [ -d ../shared/tokenizers/llama3_1 ]; then
    tokenizer=../shared/tokenizers/llama3_1/tokenizer.json chats=../shared/data/alpaca_en_demo.messages.jsonl
fi
: >$out/line
while [ "$(wc -c <$out/line)" -lt 1000000 ]; do tr '\n"{}' '    ' <"$chats" >>$out/line; done
"$build/bench_tokenizer" $tokenizer $chats $out/line | tee $out/runs

# The start of a run: those chats, and a hundred times as many.
for i in $(seq 100); do cat "$chats"; done >$out/hundred.jsonl
for rows in "$chats" $out/hundred.jsonl; do "$build/bench_data" "$(dirname $tokenizer)" "$rows"; done
rm $out/hundred.jsonl
if [ -n "$PEER" ] && command -v npm >/dev/null; then
    mkdir -p build/peer && cp tests/bench_peer.mjs build/peer/ &&
        npm install --silent --prefix build/peer tokenizers >/dev/null 2>&1
    node build/peer/bench_peer.mjs $tokenizer $chats $out/line | tee -a $out/runs
    awk '$2 == "MB/s" {
        if ($NF in ours) printf "%8.1f times Hugging Face%ss speed  %s\n", ours[$NF] / $1, "\047", $NF
        else ours[$NF] = $1
    }' $out/runs
fi
