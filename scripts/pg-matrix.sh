#!/usr/bin/env bash
# Runs the integration tests against several major versions of PostgreSQL, each fetched once into the user's cache.
#
#   scripts/pg-matrix.sh [--available] [--tested MAJOR] [--without-templates] [MAJOR...]     (default: 14 15 16 17 18)
#
# A version that is not built for this machine is skipped, and said so. With --available so is one that cannot be
# downloaded. It is an error when no version at all was tested. The version of --tested has passed the tests before; only
# its files of tenant:export are exchanged with those of the others. The tests of what `cgk init` writes can be left out.
set -euo pipefail
cd "$(dirname "$0")/.."

available='' before='' templates=1 what='every integration test'
while [[ ${1-} = --* ]]; do
    case $1 in
        --available) available=1 ;;
        --tested) before=$2 && shift ;;
        --without-templates) templates='' what='every integration test, without those of cgk init' ;;
        *) echo "usage: pg-matrix.sh [--available] [--tested MAJOR] [--without-templates] [MAJOR...]" >&2; exit 2 ;;
    esac
    shift
done
[ $# -gt 0 ] || set -- 14 15 16 17 18

# The tests of tenant:export leave their files here, and each server imports those of the others.
CGK_TRANSFER_FOLDER=$(mktemp -d "${TMPDIR:-/var/tmp}/cgk-transfer.XXXXXX")
export CGK_TRANSFER_FOLDER
trap 'rm -rf "$CGK_TRANSFER_FOLDER"' EXIT

# Imports the files of every server into this one: when it was tested, the later ones had not left theirs yet.
exchange() {
    env -u CGK_SCOREBOARD CGK_PG_BIN="$1" cargo test --quiet --test operations -- transfer_versions:: --nocapture >&2
}

# Runs the tests and says how many there were; their own lines are not for the scoreboard, which counts each claim once.
run() {
    env -u CGK_SCOREBOARD CGK_PG_BIN="$1" cargo test --quiet --no-fail-fast --test it --test platform --test operations \
        --test flags ${templates:+--test templates} 2>&1 | tee >(cat >&2) |
        sed -n 's/^test result: ok\. \([0-9]*\) passed.*/\1/p' | awk '{ n += $1 } END { print n }'
}

# One line for the scoreboard, if it is being made.
score() {
    [ -n "${CGK_SCOREBOARD-}" ] || return 0
    printf '{"row":17,"what":"PostgreSQL %s, integration tests that failed","tried":%s,"bad":0,"note":"%s","control":false,"seed":null,"server":"%s","target":"scripts","test":"pg-matrix.sh"}\n' \
        "$1" "$3" "$what" "$("$2/postgres" --version | sed 's/[^0-9]*\([^ ]*\).*/\1/')" >>"$CGK_SCOREBOARD"
}

tested=() skipped=() failed=() folders=()
for major in $before "$@"; do
    printf '\n== PostgreSQL %s\n' "$major"
    status=0
    bin_dir=$(cargo run --quiet --example fetch_postgres -- "$major") || status=$?
    if [ $status = 3 ] || { [ $status = 4 ] && [ -n "$available" ]; }; then
        skipped+=("$major")
    elif [ $status != 0 ]; then
        failed+=("$major")
    elif [ "$major" = "$before" ]; then
        # Leaves its files for the others.
        exchange "$bin_dir" || failed+=("$major")
        folders+=("$bin_dir")
    elif tests=$(run "$bin_dir"); then
        tested+=("$major")
        folders+=("$bin_dir")
        score "$major" "$bin_dir" "$tests"
    else
        failed+=("$major")
    fi
done

if [ ${#folders[@]} -gt 1 ]; then
    printf '\n== Files of tenant:export, from every version into every version\n'
    for bin_dir in "${folders[@]}"; do
        exchange "$bin_dir" || failed+=("files into $bin_dir")
    done
fi

printf '\nPostgreSQL: passed %s, failed %s, skipped %s\n' "${tested[*]:-none}" "${failed[*]:-none}" "${skipped[*]:-none}"
[ ${#failed[@]} = 0 ] && [ ${#tested[@]} != 0 ]
