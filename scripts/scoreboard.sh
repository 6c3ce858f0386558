#!/usr/bin/env bash
# Runs what the tests can break, counts, and makes docs/SCOREBOARD.md of it.
#
#   scripts/scoreboard.sh              the long run: some twenty minutes on two idle cores, writes docs/SCOREBOARD.md
#   scripts/scoreboard.sh --short      each test as `cargo test` has it, prints the document and writes nothing
#   scripts/scoreboard.sh --check FILE [--without ROW...]   judges the lines of a run that was made already
#
# Fails when anything went wrong, when a claim has no line, or when a control did not go wrong. The long run takes its seed
# from CGK_TEST_SEED, or makes one; CGK_SCOREBOARD_MAJORS="14 18" leaves the versions between out, CGK_BENCH_ROUNDS=0 the
# benchmark.
set -euo pipefail
cd "$(dirname "$0")/.."
# rustc 1.95 can stop with an internal error when it builds the tests incrementally.
export CARGO_INCREMENTAL=0

render() {
    cargo run --quiet --example scoreboard -- "$@"
}

if [ "${1-}" = --check ]; then
    shift
    render "$@" >/dev/null
    exit
fi

export CGK_SCOREBOARD=$PWD/target/scoreboard.jsonl
mkdir -p target
rm -f "$CGK_SCOREBOARD"

if [ "${1-}" = --short ]; then
    cargo test --quiet --test it
    scripts/pooler-tests.sh
    render "$CGK_SCOREBOARD" --without 5 17
    exit
fi

export CGK_TEST_SEED=${CGK_TEST_SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}
printf 'CGK_TEST_SEED=%s\n' "$CGK_TEST_SEED"

cargo test --quiet --test it --no-run

# What each multiplier comes to is in the comment; all tests that a filter names are run.
long() {
    local started=$SECONDS filter
    for filter in "${@:2}"; do
        # A filter that names no test would count nothing.
        cargo test --quiet --test it -- --list "$filter" | grep -q ': test$' || {
            echo "scoreboard: no test is named $filter" >&2
            exit 1
        }
    done
    CGK_TEST_LONG=$1 cargo test --quiet --test it -- "${@:2}"
    printf '+ CGK_TEST_LONG=%s %s: %s s\n' "$1" "${*:2}" $((SECONDS - started))
}

# Each on a server of its own, side by side: the first mostly waits, the second is all work.
(
    # 30,000 closures ended at random.
    long 75 tenancy::cancel
) &
cancelling=$!
(
    # 1,000,000 switches.
    long 50 tenancy::switch
    # 10,000,000 texts.
    long 100 tenancy::slugs
) &
switching=$!
(
    # Every byte of three conversations.
    long 1 tenancy::wire_protocol
    # 486 terminated sessions; the fleet's files get more with every round.
    long 6 killed_at_any_moment interrupted_at_any_moment
    # These have no random part: once.
    long 1 tenancy::guard tenancy::state tenancy::attacks tenancy::injection tenancy::statement_order \
        tenancy::interleaving tenancy::enter tenancy::settings tenancy::commit access::harden drift::roles \
        registry::schema_identity registry::database_identity lifecycle::setup_and_create \
        a_fleet_is_made_side_by_side records_in_a_second_transaction cut_at_any_message runner_that_records_apart \
        control_without_the_role
) &
once=$!
wait $cancelling
wait $switching
wait $once

scripts/pooler-tests.sh
# Fleets under kill -9, restarts and full disks.
scripts/fault-runs.sh "${CGK_SCOREBOARD_FAULTS:-100}"
# A latency under load says nothing, so it comes when all else is done.
rounds=${CGK_BENCH_ROUNDS:-10}
[ "$rounds" = 0 ] || CGK_BENCH_ROUNDS=$rounds cargo bench --bench tenant_tx
# shellcheck disable=SC2086
scripts/pg-matrix.sh --available ${CGK_SCOREBOARD_MAJORS-}
# Beside it first: a document that is being written is a change, and would be told as one.
render "$CGK_SCOREBOARD" >target/SCOREBOARD.md
mv target/SCOREBOARD.md docs/
printf '\ndocs/SCOREBOARD.md is written\n'
