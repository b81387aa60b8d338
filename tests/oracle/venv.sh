#!/bin/sh
# Prints the Python that the oracles run in. It has the versions that made the fixtures; it is installed once, in
# build/oracle.
# usage: $(sh tests/oracle/venv.sh) tests/oracle/parity.py tests/fixtures/parity
cd "$(dirname "$0")/../.." || exit 1
python=$PWD/build/oracle/bin/python
if ! "$python" -c 'import torch, trl, peft, jinja2' 2>/dev/null; then
    python3 -m venv build/oracle >&2 &&
    "$python" -m pip -q install torch==2.13.0 >&2 &&      # first and alone: other packages ask for a larger build
    "$python" -m pip -q install transformers==5.23.0 trl==1.16.0 peft==0.21.2 \
        datasets gguf tensorboard jinja2 >&2 || exit 1
fi
echo "$python"
