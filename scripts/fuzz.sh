#!/usr/bin/env bash
# Runs the fuzz targets in tests/fuzz for a while each: scripts/fuzz.sh [SECONDS] [TARGET]...
# Needs a nightly compiler. With cargo-fuzz installed it is used; without it the target is built with the same flags.
# Findings land in tests/fuzz/artifacts/<target>/ and make the script fail.
set -euo pipefail
cd "$(dirname "$0")/../tests/fuzz"

seconds=${1:-60}
if [ $# -gt 0 ]; then shift; fi
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    for file in fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "fuzz.sh: no nightly compiler; install one with: rustup toolchain install nightly" >&2
    exit 2
fi
host=$(rustc +nightly -vV | sed -n 's/^host: //p')

for target in "${targets[@]}"; do
    mkdir -p "corpus/$target" "artifacts/$target"
    options=(-max_total_time="$seconds" -max_len=16384 -timeout=10 -rss_limit_mb=2048)
    if [ -f "$target.dict" ]; then options+=(-dict="$target.dict"); fi
    echo "fuzz.sh: $target for $seconds s"
    if cargo fuzz --version >/dev/null 2>&1; then
        cargo +nightly fuzz run --fuzz-dir . "$target" -- "${options[@]}"
    else
        RUSTFLAGS="${RUSTFLAGS:-} --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Ccodegen-units=1 -Zsanitizer=address" \
            cargo +nightly build --release --target "$host" --bin "$target"
        # SQLite, which the evidence needs, has constants of one name twice. cargo-fuzz says the same.
        ASAN_OPTIONS="detect_odr_violation=0:${ASAN_OPTIONS:-}" \
            "target/$host/release/$target" -artifact_prefix="artifacts/$target/" "${options[@]}" "corpus/$target"
    fi
done
