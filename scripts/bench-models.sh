#!/usr/bin/env bash
# The networks on one thread, beside ONNX Runtime and OpenVINO in the same minute, in turns: a table of ratios.
# Usage: scripts/bench-models.sh [path of the program]
#
#   MEERKAT_TEST_DATA  folder with `weights` (default: ../shared/data)
#   MEERKAT_PEERS      folder of infer_peers.py (default: `peers` beside the data)
#   PYTHON             a Python 3 with numpy, onnxruntime and openvino (default: python3)
#   ROUNDS             turns of each; the best median of all counts (default: 3)
set -euo pipefail
cd "$(dirname "$0")/.."

data=${MEERKAT_TEST_DATA:-../shared/data}
peers=${MEERKAT_PEERS:-$data/../peers}/infer_peers.py
python=${PYTHON:-python3}
program=${1:-target/release/meerkat}
rounds=${ROUNDS:-3}

[[ -d $data/weights ]] || { echo "bench-models: skipped: no weights in $data"; exit 0; }
[[ -x $program ]] || { echo "bench-models: $program is missing: cargo build --release --bin meerkat" >&2; exit 1; }
with_peers=1
if [[ ! -f $peers ]]; then
    echo "bench-models: without peers: $peers is missing"
    with_peers=0
elif ! "$python" -c 'import numpy, onnxruntime, openvino' 2>/dev/null; then
    echo "bench-models: without peers: $python lacks numpy, onnxruntime or openvino"
    with_peers=0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for ((round = 0; round < rounds; round++)); do
    MEERKAT_MODELS_DIR=$data/weights "$program" models bench --threads 1 --device cpu --json > "$work/own.$round"
    ((with_peers == 0)) || "$python" "$peers" "$data/weights" --threads 1 --json > "$work/peers.$round"
done

if ((with_peers == 0)); then
    MEERKAT_MODELS_DIR=$data/weights "$program" models bench --threads 1 --device cpu
    exit 0
fi
"$python" - "$work" "$rounds" <<'PY'
import json, os, sys

folder, rounds = sys.argv[1], int(sys.argv[2])
own, peers, load, memory = {}, {}, 0.0, 0
for n in range(rounds):
    for row in json.load(open(os.path.join(folder, f"own.{n}"))):
        own[row["model"]] = min(row["median_ms"], own.get(row["model"], float("inf")))
    for model, row in json.load(open(os.path.join(folder, f"peers.{n}"))).items():
        for engine, took in row.items():
            best = peers.setdefault(model, {})
            best[engine] = min(took, best.get(engine, float("inf")))
print(f"{'one thread, f32, ms per picture':38} {'meerkat':>8} {'onnxruntime':>12} {'openvino':>9} {'ratio':>6}  bound")
missed = []
for model, row in peers.items():
    if model not in own:
        continue
    ratio = own[model] / min(row.values())
    # OpenVINO runs this one in 8 bits.
    bound = 2.0 if model.startswith("age-gender") else 1.25
    if ratio > bound:
        missed.append(model)
    show = lambda engine: f"{row[engine]:.3f}" if engine in row else "-"
    print(f"{model:38} {own[model]:8.3f} {show('onnxruntime'):>12} {show('openvino'):>9} {ratio:6.2f}  {bound}"
          f"{'  MISSED' if ratio > bound else ''}")
sys.exit(bool(missed))
PY
