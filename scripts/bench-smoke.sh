#!/usr/bin/env bash
# Runs every benchmark with its smallest sizes and without optimization, to see that it still runs. The figures mean nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
unset CGK_SCOREBOARD
export CGK_BENCH_ROUNDS=1 CGK_BENCH_SIZES=3 CGK_BENCH_TENANTS=3
for file in benches/*.rs; do
    name=$(basename "$file" .rs)
    printf '\n+ bench %s\n' "$name"
    cargo bench --quiet --profile dev --bench "$name"
done
