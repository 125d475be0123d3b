#!/usr/bin/env bash
# Gather the wheels that kanmlip needs on a machine with a GPU, torch and no network (Linux x86-64, CPython 3.12).
#
#   scripts/gather_wheels.sh [FOLDER]        here, with a network; FOLDER defaults to .whl (git-ignored)
#   python3 -m pip install --no-index --no-deps --target /tmp/site FOLDER/*.whl && export PYTHONPATH=/tmp/site:.    there
#
# torch, triton, numpy, scipy and matplotlib are expected there already, their wheels being too large to carry, and so are pyyaml,
# tqdm and tensorboard.
# wandb (20 MB) is left out: use logger=csv there. scikit-learn (10 MB with what it needs) is carried, since every run of
# dataset=sio2_bec fits the polynomial baselines of Table 9 with it.
set -euo pipefail
cd "$(dirname "$0")/.."
folder="${1:-.whl}"
python="${PYTHON:-python3}"
mkdir -p "$folder"

platforms=()
for glibc in 2_39 2_35 2_34 2_31 2_28 2_27 2_24 2_17; do platforms+=(--platform "manylinux_${glibc}_x86_64"); done
platforms+=(--platform manylinux2014_x86_64 --platform manylinux2010_x86_64 --platform manylinux1_x86_64 --platform linux_x86_64)

wheels=(
  ase==3.29.0 wcwidth lmdb==3.0.0 matscipy==1.3.1 e3nn==0.6.0 opt-einsum opt-einsum-fx omegaconf==2.3.1 hydra-core==1.3.8
  nequip==0.19.1 nequip-allegro==0.8.3 mace-torch==0.3.16 vesin==0.6.2
  prettytable GitPython gitdb smmap orjson configargparse torch-ema==0.3
  pydantic pydantic-core typing-inspection annotated-types
  lightning==2.6.6 pytorch-lightning==2.6.6 lightning-utilities torchmetrics==1.9.0
  scikit-learn==1.9.1 joblib narwhals threadpoolctl
)
# pydantic pins the one pydantic-core that it works with.
core="$("$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp "${platforms[@]}" -d "$folder" pydantic >/dev/null &&
  unzip -p "$folder"/pydantic-[0-9]*.whl '*/METADATA' | sed -n 's/^Requires-Dist: pydantic-core==\([^;, ]*\).*/\1/p')"
for requirement in "${wheels[@]}"; do
  [ "$requirement" = pydantic-core ] && requirement="pydantic-core==$core"
  "$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp "${platforms[@]}" -d "$folder" "$requirement"
done
# These two exist as source archives only and are pure Python.
for requirement in antlr4-python3-runtime==4.9.3 python-hostlist==2.3.0; do
  "$python" -m pip wheel --quiet --no-deps -w "$folder" "$requirement"
done
du -sh "$folder"
