#!/usr/bin/env bash
# How accurate the detectors are, with the command line, on recordings and pictures with known content. Fails when a
# bound is missed; says what it skips. Usage: scripts/score.sh [path of the program]
#
#   MEERKAT_TEST_DATA  folder of recordings, pictures and weights (default: ../shared/data)
#   MEERKAT_SCORE      folder of the scoring scripts (default: `score` beside the data)
#   PYTHON             a Python 3 with numpy, and pandas for the analysis of tables (default: python3)
#   TORCH_PYTHON       a Python 3 with torchvision (default: PYTHON, else /usr/bin/python3)
set -euo pipefail
cd "$(dirname "$0")/.."

data=${MEERKAT_TEST_DATA:-../shared/data}
scripts=${MEERKAT_SCORE:-$data/../score}
python=${PYTHON:-python3}
program=${1:-target/release/meerkat}

failed=0
row() { # name, what was reached, bound, whether it is kept
    local verdict=ok
    [[ $4 == 0 ]] || { verdict=MISSED; failed=1; }
    printf '%-46s %-62s %-22s %s\n' "$1" "$2" "$3" "$verdict"
}
# What was measured before counts, also where the rest is skipped.
skip() { echo "score: skipped: $*"; exit "$failed"; }

# The analysis of tables, beside pandas: the figures of a small table and of one of a million rows.
if [[ -x $program ]] && "$python" -c 'import pandas' 2>/dev/null; then
    tables=$(mktemp -d)
    "$python" scripts/analysis_fixture.py million "$tables/million.csv"
    for table in src/analysis/fixtures/mixed.csv "$tables/million.csv"; do
        status=0
        "$program" analyse "$table" --out "$tables/out" >/dev/null 2>&1 || status=$?
        words="the analysis failed"
        if [[ $status == 0 ]]; then
            words=$("$python" scripts/analysis_fixture.py compare "$table" "$tables/out/summary.json") || status=$?
        fi
        row "analysis of $(basename "$table")" "$words" "pandas' to 1e-9" "$status"
    done
    rm -rf "$tables"
else
    echo "score: skipped: the analysis of tables beside pandas ($python has no pandas, or $program is missing)"
fi

[[ -d $data/weights ]] || skip "no test data in $data"
[[ -f $scripts/score_person.py && -f $scripts/score_faces.py ]] || skip "no scoring scripts in $scripts"
"$python" -c 'import numpy' 2>/dev/null || skip "$python has no numpy"
[[ -x $program ]] || { echo "score: $program is missing: cargo build --release --bin meerkat" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Nothing of the caller's own settings, and a data folder with nobody enrolled.
for name in ${!MEERKAT@}; do unset "$name"; done
export MEERKAT_MODELS_DIR=$data/weights MEERKAT__DATA_DIR=$work/data
program=$(realpath "$program")

printf '%-46s %-62s %-22s\n' "what" "reached" "bound"

score() { # name, bound in words, script and its arguments
    local name=$1 bound=$2 words status=0
    shift 2
    words=$("$python" "$@") || status=$?
    row "$name" "${words%%  best *}" "$bound" "$status"
}

vtest() { # network, bound
    "$program" detect person "$data/video/vtest/vtest.mp4" --json --backend candle --model "$1" --min-score 0.02 \
        > "$work/vtest.jsonl"
    score "vtest, $1" "AP50 >= $2" "$scripts/score_person.py" "$work/vtest.jsonl" \
        --mot "$data/video/mot15/PETS09-S2L1/gt/gt.txt" --scale 0.625 --every 5 --min-ap "$2"
}
vtest person-detection-retail-0013 0.84
vtest yolox-nano 0.89

for model in person-detection-retail-0013 yolox-nano; do
    "$program" detect person "$data/video/intel/car-detection.mp4" --backend candle --model "$model" \
        > "$work/cars.txt"
    found=$(wc -l < "$work/cars.txt")
    row "car-detection, $model" "$found finds" "0" "$((found > 0))"
done

"$program" embed --json "$data"/faces/lfw10x10/*/*.jpg > "$work/lfw.jsonl"
score "lfw10x10, faces found and compared" "99/100, 89/90, 0.99" "$scripts/score_faces.py" "$work/lfw.jsonl" \
    --min-found 0.99 --min-rank1 0.9888 --min-tar 0.99
"$program" embed --json --model face-detection-retail-0004 "$data"/faces/lfw10x10/*/*.jpg > "$work/lfw.jsonl"
score "lfw10x10, with face-detection-retail-0004" "(none)" "$scripts/score_faces.py" "$work/lfw.jsonl"

faces=$data/faces/dlib/faces
"$program" detect face --json --backend candle "$faces"/*.jpg > "$work/dlib.jsonl"
status=0
words=$("$python" - "$work/dlib.jsonl" "$faces" 42 <<'PY'
import json, os, sys, xml.etree.ElementTree as tree

def overlap(a, b):
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)

found = {}
for line in open(sys.argv[1]):
    row = json.loads(line)
    found[os.path.basename(row["source"])] = [[d[k] for k in ("x", "y", "width", "height")] for d in row["detections"]]
hits = total = 0
for name in ("testing.xml", "training.xml"):
    for image in tree.parse(os.path.join(sys.argv[2], name)).iter("image"):
        own = list(found[image.get("file")])
        for box in image.iter("box"):
            total += 1
            want = [float(box.get(k)) for k in ("left", "top", "width", "height")]
            # The boxes there are squares around eyes to chin, tighter or wider than any network's.
            best = max(own, key=lambda have: overlap(have, want), default=None)
            if best is not None and overlap(best, want) >= 0.3:
                hits += 1
                own.remove(best)
print(f"{hits}/{total} faces found")
sys.exit(hits < int(sys.argv[3]))
PY
) || status=$?
row "dlib, faces found" "$words" "42/43" "$status"

images=$data/stills/coco_lightly/images/train2017
labels=$data/stills/coco_lightly/object_detection/labels/train2017
empty=()
for image in "$images"/*.jpg; do
    label=$labels/$(basename "${image%.jpg}").txt
    grep -qs '^0 ' "$label" || empty+=("$image")
done
"$program" detect face --json --backend candle "${empty[@]}" > "$work/empty.jsonl"
wrong=$(grep -vc '"detections":\[\]' "$work/empty.jsonl" || true)
row "pictures without people, with a false face" "$wrong of ${#empty[@]}" "at most 1 of 15" "$((wrong > 1))"

# What a picture shows: the same five best as torchvision's own network and transforms, on weights that a formula makes.
torch=
for candidate in ${TORCH_PYTHON:-"$python" /usr/bin/python3}; do
    if "$candidate" -c 'import numpy, torchvision, PIL' 2>/dev/null; then torch=$candidate; break; fi
done
if [[ -n $torch ]]; then
    own=scripts/googlenet_torchvision.py
    status=0
    words=$("$torch" "$own" check models/networks/googlenet/torchvision.json) || status=$?
    row "googlenet, what the test compares with" "$words" "1e-4 of a deviation" "$status"
    "$torch" "$own" network "$work"
    for form in archive parts; do
        "$program" detect objects --classify --json --device cpu --model "$work/$form.pth" "$work/noise.png"
    done > "$work/guesses.jsonl"
    status=0
    words=$("$torch" "$own" compare "$work" "$work/guesses.jsonl") || status=$?
    row "googlenet, picture to names, as torchvision" "$words" "1e-4" "$status"
else
    echo "score: skipped: googlenet beside torchvision: no Python here has it (Debian: python3-torchvision)"
fi

exit "$failed"
