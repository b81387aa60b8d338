#!/bin/sh
# What `make bench` runs: training steps by shape and supervised fraction, and tokenizers. $1: the folder of the programs.
# PEER=1 runs PyTorch on the same batches (python3 with torch) and Hugging Face's tokenizers (node, npm) beside them.
# SHAPES, STEPS: what to run ("260K 15M 135M", 5).
export GOMP_SPINCOUNT=1000 KMP_BLOCKTIME=0    # as ./train sets it for itself
build=$1
batch=$(mktemp)
for shape in ${SHAPES:-260K 15M 135M}; do
    for fraction in 0.15 0.4 1.0; do
        if [ -n "$PEER" ] && ${PYTHON:-python3} -c 'import torch' 2>/dev/null; then
            ${PYTHON:-python3} tests/bench_torch.py $shape $fraction 3 "$batch"
            "$build/bench_step" $shape $fraction "${STEPS:-5}" "$batch"
        else
            "$build/bench_step" $shape $fraction "${STEPS:-5}"
        fi
    done
done
rm -f "$batch"

echo "growth: dim 288, rows of 128 to 8192 tokens; then 1 thread; then 5 % to 100 % supervised"
for rows in 32x128 8x512 2x2048 1x8192; do "$build/bench_step" 15M 1.0 2 $rows; done
OMP_NUM_THREADS=1 "$build/bench_step" 15M 1.0 2 8x512
for fraction in 0.05 0.25 0.5 0.75; do "$build/bench_step" 15M $fraction 2; done

# A real tokenizer if there is one beside the checkout, else the bundled one; chats, and one line of 1 MB.
tokenizer=model/tiny/tokenizer.json chats=data/wordnet/kinds_train.jsonl
[ -d ../shared/tokenizers/llama3_1 ] && tokenizer=../shared/tokenizers/llama3_1/tokenizer.json chats=../shared/data/alpaca_en_demo.messages.jsonl
line=$(mktemp)
while [ "$(wc -c <"$line")" -lt 1000000 ]; do tr '\n"{}' '    ' <"$chats" >>"$line"; done
speeds=$(mktemp)
"$build/bench_tokenizer" $tokenizer $chats "$line" | tee "$speeds"
if [ -n "$PEER" ] && command -v npm >/dev/null; then
    mkdir -p build/peer && cp tests/bench_peer.mjs build/peer/ && npm install --silent --prefix build/peer tokenizers >/dev/null 2>&1
    node build/peer/bench_peer.mjs $tokenizer $chats "$line" | tee -a "$speeds"
    awk '$2 == "MB/s" { if ($NF in ours) printf "%8.1f times Hugging Face%ss speed  %s\n", ours[$NF] / $1, "\047", $NF; else ours[$NF] = $1 }' "$speeds"
fi
rm -f "$line" "$speeds"
