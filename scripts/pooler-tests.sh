#!/usr/bin/env bash
# Tests cgk behind PgBouncer in transaction mode. Installs PgBouncer where that takes no questions: on Debian or Ubuntu, as
# root.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:/usr/sbin"

if ! command -v pgbouncer >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then

        export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
        apt-get install -y -qq pgbouncer >/dev/null 2>&1 ||
            { apt-get update -qq && apt-get install -y -qq pgbouncer >/dev/null; }
    fi
fi
command -v pgbouncer >/dev/null || {
    echo "PgBouncer is needed: sudo apt-get install pgbouncer (Debian, Ubuntu), dnf install pgbouncer, brew install pgbouncer" >&2
    exit 1
}
pgbouncer --version | head -1
cargo test --test pooler
