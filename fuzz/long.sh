#!/usr/bin/env bash
# Fuzzes each target in turn with libFuzzer, for MINUTES in all (default 22: one each), or only the targets that are named.
#
#   fuzz/long.sh [MINUTES [TARGET...]]
#
# Needs no more than the stable compiler and a C++ compiler. What it learns is kept in fuzz/target/corpus/TARGET, what fails in
# fuzz/target/artifacts/TARGET: make that a seed in fuzz/seeds/TARGET, where every test run replays it.
#
#   FUZZ_MERGE=yes   instead of fuzzing, copies to fuzz/seeds what the corpus has and the seeds lack, smallest first
#   FUZZ_MEMORY=MB   limit of memory (default 1024)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

minutes="${1:-22}"
shift || true
mapfile -t all < <(cd fuzz_targets && ls | sed 's/\.rs$//')
targets=("$@")
[ "${#targets[@]}" -gt 0 ] || targets=("${all[@]}")
seconds=$((minutes * 60 / ${#targets[@]}))
[ "$seconds" -gt 0 ] || seconds=1

# What cargo-fuzz would set: coverage for libFuzzer, addresses checked, arithmetic checked.
host="$(rustc -vV | sed -n 's/^host: //p')"
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address -Ccodegen-units=1 \
-Cdebug-assertions -Coverflow-checks --cfg fuzzing"
build=(cargo build --locked --release --target "$host" --target-dir target --features libfuzzer)
export CARGO_PROFILE_RELEASE_LTO=off
"${build[@]}" $(printf -- '--bin %s ' "${targets[@]}")

failed=0
for target in "${targets[@]}"; do
    binary="target/$host/release/$target"
    corpus="target/corpus/$target"
    artifacts="target/artifacts/$target"
    mkdir -p "$corpus" "$artifacts"
    # No input is worth more than 10 s. Leaks are not looked for: what is kept for the length of the process is no leak.
    options=(-timeout=10 -rss_limit_mb="${FUZZ_MEMORY:-1024}" -max_len=65536 -artifact_prefix="$artifacts/" -detect_leaks=0)
    if [ "${FUZZ_MERGE:-no}" = yes ]; then
        "$binary" "${options[@]}" -merge=1 "seeds/$target" "$corpus" 2>&1 | tail -n 1
        continue
    fi
    printf '\n== %s, %d s\n' "$target" "$seconds"
    if ! "$binary" "${options[@]}" -max_total_time="$seconds" -print_final_stats=1 "$corpus" "seeds/$target" \
        >"$artifacts/log" 2>&1; then
        failed=$((failed + 1))
        tail -n 40 "$artifacts/log"
    fi
    grep -E '^stat::(number_of_executed_units|peak_rss_mb)' "$artifacts/log" || true
done
[ "$failed" -eq 0 ]
