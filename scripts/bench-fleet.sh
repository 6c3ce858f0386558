#!/usr/bin/env bash
# Runs the benchmark of fleets with every baseline, and fetches what that needs: dbmate, from the npm registry.
# Usage: scripts/bench-fleet.sh [--durable] [sizes], for instance scripts/bench-fleet.sh 100,1000
# With --durable the server is set as one is that must not lose anything: every commit waits for the disk.
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
# 10,000 tenants are 15 GB: on the disk, and with buffers as a server for so many has them.
export CGK_PG_TMP=${CGK_PG_TMP:-${TMPDIR:-/var/tmp}}
settings="shared_buffers=1GB max_wal_size=16GB"
if [ "${1:-}" = --durable ]; then
    settings="$settings fsync=on synchronous_commit=on full_page_writes=on"
    shift
fi
export CGK_PG_OPTS="$settings ${CGK_PG_OPTS:-}"
[ $# -eq 0 ] || export CGK_BENCH_SIZES=$1
exec cargo bench --bench fleet_scale
