# Lists the recipes.
default:
    @just --list

# Formats the code.
fmt:
    cargo fmt

# Checks the format, and the code with clippy.
lint:
    cargo fmt --check
    cargo clippy --all-targets --all-features -- -D warnings
    cargo clippy --no-default-features --lib -- -D warnings
    cargo clippy --no-default-features --features platform --lib -- -D warnings
    cargo clippy --no-default-features --features axum --lib -- -D warnings
    cargo clippy --no-default-features --features migrate --lib -- -D warnings
    cargo clippy --no-default-features --features report --lib -- -D warnings
    cargo clippy --no-default-features --features cli --lib --bins -- -D warnings

# Runs the tests on the PostgreSQL of this machine, or on one that is fetched.
test *ARGS:
    cargo test {{ARGS}}

# Runs the integration tests on every supported PostgreSQL, or on the majors given.
matrix *MAJORS:
    scripts/pg-matrix.sh {{MAJORS}}

# Tests the clients in other languages.
clients *ARGS:
    scripts/client-tests.sh {{ARGS}}

# Builds the packages of the command and tries each of them.
package:
    scripts/package.sh --test

# Migrates fleets while clients are killed, the server goes down and the disk is full.
faults *ARGS:
    scripts/fault-runs.sh {{ARGS}}

# Runs every benchmark once with small sizes, to see that it still runs
bench-smoke:
    scripts/bench-smoke.sh

# Counts what the tests cannot break, and makes docs/SCOREBOARD.md of it (some twenty minutes; --short: a few).
scoreboard *ARGS:
    scripts/scoreboard.sh {{ARGS}}

# Builds the API documentation.
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --all-features

# Runs what a change must pass.
ci:
    .ci/run

# Runs the demo, on DATABASE_URL if it is set and else on a throw-away PostgreSQL.
demo *ARGS:
    cargo run --release -- demo {{ARGS}}

# Runs the benchmarks.
bench *ARGS:
    cargo bench {{ARGS}}
