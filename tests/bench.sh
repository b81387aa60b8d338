#!/bin/sh
# What `make bench` runs: training steps by shape and supervised fraction, and of trained models on real rows; how their
# time grows; text from models; tokenizers; and the start of a run. $1: the folder of the programs. SHAPES
# ("260K 15M 135M") and MODELS ("tiny stories260K") ask for a part; STEPS (5) of each run and ROUNDS (3; medians are
# printed) say how much.
# PEER=1 also runs, in a Python of its own (build/oracle):
#   PyTorch (a) as a user writes it: padded rows, all logits; (b) in its best form: supervised rows' logits only, and
#   compiled where that is faster. Both on the same rows, in turn with ours.
#   TRL's SFTTrainer and ./train as whole processes: 20 steps, one thread each, in CPU seconds (user and system).
#   Hugging Face's tokenizers (node, npm).
#   llama.cpp (build/xllamacpp) on the models of bench_sample, in float32, with flash attention or without: the faster.
build=$1 steps=${STEPS:-5} rounds=${ROUNDS:-3} out=build/bench shared=../shared
mkdir -p $out
if [ -n "$PEER" ]; then
    python=$(sh tests/oracle/venv.sh 2>$out/venv.log) || echo "no PyTorch here: $out/venv.log says why"
fi

# median N FILE: of field N of the lines of FILE
median() {
    cut -d' ' -f"$1" "$2" | sort -n | awk '{ x[NR] = $1 } END { print (x[int((NR + 1) / 2)] + x[int(NR / 2) + 1]) / 2 }'
}

# The peer's line for these rows, with more options; its threads are those of its user's shell.
peer() { $python tests/bench_torch.py "$1" $out/rows "$2" $3 2>$out/peer.log; }

# row NAME PEER ARGUMENTS: one line of medians, of bench_step with the arguments. PEER: a shape, a folder, or "".
row() {
    name=$1 peer=$2
    shift 2
    rm -f $out/ours $out/plain $out/best
    for i in $(seq "$rounds"); do
        ROWS=$out/rows "$build/bench_step" "$@" >>$out/ours || return
        [ -n "$python" ] && [ -n "$peer" ] || continue
        peer "$peer" 2 >>$out/plain
        { peer "$peer" 3 --best; peer "$peer" 3 --compile; } | sort -t' ' -k6 -n | tail -n 1 >>$out/best
    done
    awk '{ $12 = sprintf("%.3f", $12); $17 = $10 / $14; print }' $out/ours >$out/line
    printf '%-22s %5.0f tokens %8.1f ms %7.0f tokens/s  sgemm %5.0f  ratio %.3f  sgemm/fma %.2f  %5.0f MB' "$name" \
        $(for field in 1 3 5 10 12 17 16; do median $field $out/line; done)
    [ ! -s $out/best ] ||
        echo "$(median 5 $out/ours) $(median 6 $out/plain) $(median 6 $out/best) $(tail -n 1 $out/best)" | awk '{
            printf "  PyTorch (a) %.0f: %.1f times, (b) %.0f, %s: %.1f times", $2, $1 / $2, $3, $4, $1 / $3 }'
    echo
}

sed -n 's/^model name[^:]*: /processor: /p' /proc/cpuinfo 2>/dev/null | sort -u
"$build/bench_step" system
${CC:-gcc} --version | head -n 1
[ -z "$python" ] || $python -c 'import torch, transformers, trl; print("PyTorch", torch.__version__, "transformers",
    transformers.__version__, "TRL", trl.__version__)'

for shape in ${SHAPES-260K 15M 135M}; do
    row "$shape 15 %" $shape $shape 0.15 $steps
    row "$shape 100 %" $shape $shape 1 $steps
done

# Trained models on real rows: a batch of other rows in each step.
cat >$out/tiny.json <<'END'
{"model_name_or_path": "model/tiny", "dataset_name": "data/wordnet/kinds_train.jsonl", "max_length": 256,
 "per_device_train_batch_size": 32, "learning_rate": 2e-3}
END
cat >$out/stories260K.json <<END
{"model_name_or_path": "$shared/models/stories260K_hf", "dataset_name": "$shared/data/alpaca_en_demo.messages.jsonl",
 "max_length": 512, "per_device_train_batch_size": 8, "learning_rate": 1e-4,
 "chat_template_path": "configs/templates/plain.jinja"}
END
models=${MODELS-tiny stories260K}
[ -d $shared/models ] || models=${models%stories260K}
for model in $models; do
    folder=$(sed -n 's/.*"model_name_or_path": "\([^"]*\)".*/\1/p' $out/$model.json)
    row "$model, real rows" $folder $out/$model.json $((steps * 4))
done

# Whole processes, from the start to the model on the disk. What a shell's `times` says of what it started:
cpu() { sh -c '"$@" >/dev/null 2>&1; times' sh "$@" | awk -F'[ms ]+' 'END { print $1 * 60 + $2 + $3 * 60 + $4 }'; }
for model in ${python:+$models}; do
    rm -f $out/seconds
    for i in $(seq "$rounds"); do
        ours=$(cpu "$build/train" $out/$model.json --max_steps=20 --n_threads=1 --output_dir=$out/run \
            --overwrite_output_dir=true)
        echo "$ours $(OMP_NUM_THREADS=1 cpu $python tests/bench_trl.py $out/$model.json 20)" >>$out/seconds
    done
    echo "$model: 20 steps, CPU seconds: ./train $(median 1 $out/seconds), TRL $(median 2 $out/seconds): $(
        awk '{ print $2 / $1 }' $out/seconds >$out/line; median 1 $out/line) times"
done
# Text: a prompt, and what is generated after it.
llamacpp=${python:+env PYTHONPATH=build/xllamacpp $python}
[ -z "$python" ] || [ -d build/xllamacpp ] ||
    $python -m pip -q install --no-deps --target build/xllamacpp xllamacpp==2026.10.11549 >$out/venv.log 2>&1 ||
    { echo "no llama.cpp here: $out/venv.log says why"; llamacpp=; }
[ -z "$llamacpp" ] || $llamacpp -c 'import xllamacpp; print("llama.cpp:", xllamacpp.get_system_info())'
for shape in ${SHAPES-260K 15M 135M}; do
    new=$([ "$shape" = 135M ] && echo 32 || echo 128)
    for threads in 1 $([ "$(getconf _NPROCESSORS_ONLN)" = 1 ] || getconf _NPROCESSORS_ONLN); do
        OMP_NUM_THREADS=$threads "$build/bench_sample" $shape 256 $new "$rounds" $out/sample.bin >$out/ours || exit
        : >$out/theirs
        [ -z "$llamacpp" ] || for flash in "" --no-flash; do
            $llamacpp tests/bench_llamacpp.py $out/sample.bin 256 $new "$rounds" "$threads" $flash >>$out/theirs || exit
        done 2>$out/peer.log
        awk -v name="$shape" -v threads="$threads" -v new=$new '
            { ids = $0; sub(/.*ids/, "", ids) }
            NR == 1 { prompt = $2; text = $4; first = ids; next }
            { p = p > $2 ? p : $2; t = t > $4 ? t : $4; if (ids != first) other = ", other tokens:" ids }
            END {
                printf "%-5s %d threads: prompt of 256 %7.0f tokens/s, %d generated %6.0f tokens/s", name, threads,
                    prompt, new, text
                if (p) printf "  llama.cpp %.0f, %.0f: %.1f and %.1f times%s", p, t, prompt / p, text / t, other
                print ""
            }' $out/ours $out/theirs
    done
done
rm -f $out/sample.bin $out/sample.bin.gguf
[ -n "${SHAPES+part}${MODELS+part}" ] && exit              # a part was asked for

# Growth with the length of rows, the share of supervised tokens, and the number of threads.
for length in 128 512 2048 8192; do
    row "15M rows of $length" "" 15M 1.0 $steps $((length > 4096 ? 1 : 4096 / length))x$length
done
for percent in 5 10 15 25 40 55 70 85 100; do
    row "15M $percent %" "" 15M "$(echo $percent | awk '{ print $1 / 100 }')" $steps 12x256
done
threads=1
while [ $threads -le "$(getconf _NPROCESSORS_ONLN)" ]; do
    OMP_NUM_THREADS=$threads row "15M $threads threads" "" 15M 1.0 $steps 8x512
    threads=$((threads * 2))
done
row "15M 8 rows of 512" "" 15M 1.0 $steps 8x512
row "  checkpointing" "" 15M 1.0 $steps 8x512 checkpointing
row "  LoRA" "" 15M 1.0 $steps 8x512 lora
row "135M 4 rows of 216" "" 135M 1.0 $steps 4x216
row "  LoRA" "" 135M 1.0 $steps 4x216 lora

# A real tokenizer if there is one in ../shared, else the bundled one; chats, and one line of 1 MB.
tokenizer=model/tiny/tokenizer.json chats=data/wordnet/kinds_train.jsonl
if [ -d $shared/tokenizers/llama3_1 ]; then
    tokenizer=$shared/tokenizers/llama3_1/tokenizer.json chats=$shared/data/alpaca_en_demo.messages.jsonl
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
