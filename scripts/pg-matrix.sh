#!/usr/bin/env bash
# Runs the integration tests against several major versions of PostgreSQL, each fetched once into the user's cache.
#
#   scripts/pg-matrix.sh [--available] [MAJOR...]     (default: 14 15 16 17 18)
#
# A version that is not built for this machine is skipped, and said so. With --available so is one that cannot be
# downloaded. It is an error when no version at all was tested.
set -euo pipefail
cd "$(dirname "$0")/.."

available=
if [ "${1-}" = --available ]; then
    available=1
    shift
fi
[ $# -gt 0 ] || set -- 14 15 16 17 18

tested=() skipped=() failed=()
for major in "$@"; do
    printf '\n== PostgreSQL %s\n' "$major"
    status=0
    bin_dir=$(cargo run --quiet --example fetch_postgres -- "$major") || status=$?
    if [ $status = 3 ] || { [ $status = 4 ] && [ -n "$available" ]; }; then
        skipped+=("$major")
    elif [ $status != 0 ]; then
        failed+=("$major")
    elif CGK_PG_BIN=$bin_dir cargo test --quiet --test it; then
        tested+=("$major")
    else
        failed+=("$major")
    fi
done

printf '\nPostgreSQL: passed %s, failed %s, skipped %s\n' "${tested[*]:-none}" "${failed[*]:-none}" "${skipped[*]:-none}"
[ ${#failed[@]} = 0 ] && [ ${#tested[@]} != 0 ]
