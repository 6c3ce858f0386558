#!/usr/bin/env bash
# Tests the cache against a real Redis. Installs redis-server where that takes no questions: on Debian or Ubuntu, as root.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:/usr/sbin"

if ! command -v redis-server >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        # RUNLEVEL keeps the package from starting a server of its own.
        export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
        apt-get install -y -qq redis-server >/dev/null 2>&1 ||
            { apt-get update -qq && apt-get install -y -qq redis-server >/dev/null; }
    fi
fi
command -v redis-server >/dev/null || {
    echo "redis-server is needed: sudo apt-get install redis-server (Debian, Ubuntu), dnf install redis, brew install redis" >&2
    exit 1
}
redis-server --version
# The library with this feature alone, then the tests.
cargo check --no-default-features --features redis --lib
cargo test --features redis --test redis
cargo test --features redis --doc cache::
