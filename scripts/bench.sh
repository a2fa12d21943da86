#!/usr/bin/env bash
# Measures the whole node against its peers: builds, makes a Python environment for the peers, runs benches/node.py.
# The peers (push_frames.py, seed_server.py) are taken from MEERKAT_PEERS, by default ../shared/peers beside the project.
#
#   scripts/bench.sh [--quick] [--only motion,many,pictures,clips,hostile,memory,realtime]
set -euo pipefail

cd "$(dirname "$0")/.."
peers=${MEERKAT_PEERS:-../shared/peers}
if [ ! -f "$peers/push_frames.py" ]; then
    echo "bench: no peers in $peers (set MEERKAT_PEERS): the whole node is not measured"
    exit 0
fi
cargo build --release --locked --bin meerkat
binary=${CARGO_TARGET_DIR:-target}/release/meerkat
venv=${CARGO_TARGET_DIR:-target}/bench-venv
if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet numpy opencv-python-headless
fi
exec "$venv/bin/python" benches/node.py --binary "$binary" --peers "$peers" "$@"
