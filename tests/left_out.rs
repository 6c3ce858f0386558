//! Says what plain `cargo test` leaves out, because it needs a feature or more than PostgreSQL.
#![expect(clippy::print_stdout, reason = "saying so is all it does")]

fn main() {
    println!("left out: kill -9, restarts and a full disk    scripts/fault-runs.sh");
    println!("left out: with_tenant behind PgBouncer       scripts/pooler-tests.sh");
    println!("left out: a service on axum                  cargo test --features axum --test axum");
    println!("left out: the cache over Redis               scripts/redis-tests.sh");
    println!("left out: PostgreSQL 14, 15, 16, 17 and 18   scripts/pg-matrix.sh");
}
