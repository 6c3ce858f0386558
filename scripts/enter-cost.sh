#!/usr/bin/env bash
# Measures what cgk_enter and cgk_check cost against `set local` by hand, with pgbench, in one run. Wants a quiet machine.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null
command -v pgbench >/dev/null || { echo "pgbench is needed: install postgresql-contrib" >&2; exit 1; }
cargo test --test clients -- --ignored cost --nocapture
