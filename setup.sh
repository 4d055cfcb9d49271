#!/usr/bin/env bash
# One set-up path for CPU and CUDA machines: a virtual environment with the pinned versions, byte-compiled.
#   VENV=.venv          where to put it
#   CPU=1               take PyTorch's CPU build although the machine has an NVIDIA GPU (CPU=0: the opposite)
#   EXTRAS=dev,...      which extras of pyproject.toml; default: dev,cluster,demo
#   TORCH_BACKEND=cpu   ask uv for a particular PyTorch build (see `uv pip install --help`); default: what the index gives
set -euo pipefail
cd "$(dirname "$0")"
VENV=${VENV:-.venv}
PYTHON=${PYTHON:-python3}
if [ -z "${CPU:-}" ]; then if command -v nvidia-smi >/dev/null 2>&1; then CPU=0; else CPU=1; fi; fi

"$PYTHON" - <<'PY'
import sys
if not (3, 11) <= sys.version_info[:2] < (3, 14):
    sys.exit(f"lorweb needs Python 3.11, 3.12 or 3.13; this is {sys.version.split()[0]}. Set PYTHON=/path/to/python3.11")
PY
# scripts of an environment name the place where it was made: one that was moved or copied with its project is made anew
if [ -s "$VENV/.ready" ] && [ "$(cat "$VENV/.ready")" != "$(realpath "$VENV")" ]; then
  echo "setup: $VENV was made as $(cat "$VENV/.ready"); making it anew" >&2
  "$PYTHON" -m venv --clear "$VENV"
fi
[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
[ -x "$VENV/bin/uv" ] || "$VENV/bin/python" -m pip install --quiet uv

minor=$("$VENV/bin/python" -c 'import sys; print(f"{sys.version_info[0]}{sys.version_info[1]}")')
file=constraints/py$minor-cpu.txt
[ -f "$file" ] || file=constraints/cpu.txt
pins=(--constraint "$file")
# machines with and without a GPU have the same versions; another build of PyTorch brings CUDA packages of its own
if [ "$CPU" != 1 ] && [ -z "${TORCH_BACKEND:-}" ]; then pins+=(--constraint constraints/cuda.txt); fi
# uv does not read pip's configuration: wheels that pip would find in a local folder are found through this variable
export UV_FIND_LINKS="${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}}"
install() {
  "$VENV/bin/uv" pip install --quiet --python "$VENV/bin/python" --compile-bytecode "${pins[@]}" "$@" --editable ".[${EXTRAS:-dev,cluster,demo}]"
}
if [ -n "${TORCH_BACKEND:-}" ]; then
  install --torch-backend "$TORCH_BACKEND"
elif [ "$CPU" = 1 ]; then
  # PyTorch's CPU build, not the index's default with gigabytes of CUDA; where its index is out of reach, what there is
  UV_HTTP_RETRIES=0 install --torch-backend cpu 2>/dev/null || install
else
  install
fi
# The tests on 8 and 4 bits find their packages beside the environment, not in it: diffusers and PEFT import them wherever
# they are installed, and their greetings would then stand above every command. Not every platform has bitsandbytes.
beside() {
  "$VENV/bin/uv" pip install --quiet --python "$VENV/bin/python" --target "$VENV/quant" --no-deps "${pins[@]}" "$@"
}
beside 'torchao>=0.16'
beside 'bitsandbytes>=0.50' || echo "setup: no bitsandbytes here; the tests of nf4 and of its 8-bit AdamW will be skipped" >&2
realpath "$VENV" >"$VENV/.ready"
