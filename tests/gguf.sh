#!/bin/sh
# make test-gguf: exports some models to GGUF. The gguf package compares every key and tensor, and llama.cpp runs the
# file. $1: a folder to work in. Needs pip once, for llama.cpp's wheel.
cd "$(dirname "$0")/.." || exit 1
dir=$1
mkdir -p "$dir"
python=$(sh tests/oracle/venv.sh 2>"$dir/venv.log") &&
"$python" -m pip -q install --no-deps --upgrade --target build/xllamacpp xllamacpp==2026.10.11549 \
    >>"$dir/venv.log" 2>&1 || {
    echo "make test-gguf: skipped: llama.cpp cannot be installed here ($dir/venv.log)"
    exit 0
}
status=0
check() {   # a folder, and types
    name=$(basename "$1")
    model=$1
    shift
    for type; do
        rm -f "$dir/$name-$type.gguf"
        ./train export "$model" "$dir/$name-$type.gguf" --outtype="$type" >/dev/null &&
        "$python" tests/oracle/gguf_files.py "$model" "$dir/$name-$type.gguf" 2>/dev/null ||
        { status=1; echo "$model: failed"; }
    done
}
check model/tiny f32 f16 q8_0
./train configs/lesson_few.json --max_steps=60 --output_dir="$dir/trained" --overwrite_output_dir=true >/dev/null
check "$dir/trained" f32
[ ! -d ../shared/models/stories260K_hf ] || check ../shared/models/stories260K_hf f32 f16 q8_0
for family in qwen2 qwen3 smollm3; do
    "$python" tests/oracle/gguf_files.py family tests/fixtures/families/$family "$dir/$family" &&
    check "$dir/$family" f32 q8_0
done
exit $status
