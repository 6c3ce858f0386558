#!/usr/bin/env bash
# Runs what the tests can break, counts, and makes docs/SCOREBOARD.md of it.
#
#   scripts/scoreboard.sh              the long run: about a quarter of an hour on two cores, writes docs/SCOREBOARD.md
#   scripts/scoreboard.sh --short      each test as `cargo test` has it, prints the document and writes nothing
#   scripts/scoreboard.sh --check FILE [--without ROW...]   judges the lines of a run that was made already
#
# Fails when anything went wrong, when a claim has no line, or when a control did not go wrong. The long run takes its seed
# from CGK_TEST_SEED, or makes one.
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

# What each multiplier comes to is in the comment; all tests that a filter names are run.
long() {
    printf '\n+ CGK_TEST_LONG=%s %s\n' "$1" "${*:2}"
    local started=$SECONDS
    CGK_TEST_LONG=$1 cargo test --profile bench --quiet --test it -- "${@:2}"
    printf '%s s\n' $((SECONDS - started))
}
# 30,000 closures ended at random.
long 75 tenant_cancel
# 1,000,000 switches.
long 50 tenant_switch
# 10,000,000 texts.
long 100 tenant_slugs
# Every byte of three conversations.
long 1 tenant_wire
# 810 terminated sessions.
long 10 killed_at_any_moment interrupted_at_any_moment records_in_a_second_transaction
# These have no random part: once.
long 1 tenant_guard tenant_state tenant_attacks tenant_injection tenant_order tenant_interleaving a_fleet_is_made_side_by_side

unset CGK_TEST_LONG
scripts/pooler-tests.sh
CGK_BENCH_ROUNDS=${CGK_BENCH_ROUNDS:-10} cargo bench --bench tenant_tx
scripts/pg-matrix.sh --available
render "$CGK_SCOREBOARD" --without 5 >docs/SCOREBOARD.md
printf '\ndocs/SCOREBOARD.md is written\n'
