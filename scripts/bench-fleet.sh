#!/usr/bin/env bash
# Runs the benchmark of fleets with every baseline, and fetches what that needs: dbmate, from the npm registry.
# Usage: scripts/bench-fleet.sh [sizes], for instance scripts/bench-fleet.sh 100,1000
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${CGK_BENCH_DBMATE:-}" ]; then
    tools=target/bench-tools
    if [ ! -x "$tools/node_modules/.bin/dbmate" ]; then
        command -v npm > /dev/null || {
            echo "bench-fleet: npm is missing; install Node.js, or set CGK_BENCH_DBMATE to a dbmate program" >&2
            exit 1
        }
        npm install --silent --no-fund --no-audit --prefix "$tools" dbmate@2
    fi
    # The program itself, without the script in front of it.
    CGK_BENCH_DBMATE=$(find "$PWD/$tools/node_modules/@dbmate" -type f -name dbmate | head -1)
    export CGK_BENCH_DBMATE
fi
[ $# -eq 0 ] || export CGK_BENCH_SIZES=$1
exec cargo bench --bench fleet_scale
