#!/usr/bin/env bash
# Tests examples/repositories-api over HTTP: its own tests, with --own nothing else; schemathesis over the description that it
# serves; and, unless --short is given, a load with 200 tenants in which the database server crashes and Redis is killed. --bench
# also prints what the guards cost. With --available it is no error if schemathesis cannot be downloaded.
# Needs redis-server, and Python 3 with venv; --bench needs wrk. Installs redis-server and wrk where that takes no questions.
set -euo pipefail
cd "$(dirname "$0")/../examples/repositories-api"
export CARGO_INCREMENTAL=0 PATH="$PATH:/usr/sbin"
# Beside the library's own, with which it shares nothing but a few crates.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/../../target/service}

own='' short='' bench='' available='' requests=${REQUESTS:-20000}
for word in "$@"; do
    case $word in
        --own) own=1 ;;
        --short) short=1 ;;
        --bench) bench=1 ;;
        --available) available=1 ;;
        *) echo "usage: service-tests.sh [--own | --short] [--available] [--bench]" >&2; exit 2 ;;
    esac
done

needs() { # program, package
    if ! command -v "$1" >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        # RUNLEVEL keeps the package from starting a server of its own.
        export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
        apt-get install -y -qq "$2" >/dev/null 2>&1 ||
            { apt-get update -qq && apt-get install -y -qq "$2" >/dev/null; }
    fi
    command -v "$1" >/dev/null || { echo "$1 is needed: sudo apt-get install $2" >&2; exit 1; }
}

cargo fmt --check
cargo clippy --locked --all-targets -- -D warnings
cargo test --locked
[ -z "$own" ] || exit 0

# The service as `cargo run` starts it, on a throw-away server.
cargo build --locked
scratch=$(mktemp -d)
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
env -u DATABASE_URL LISTEN=127.0.0.1:"$port" RUST_LOG=warn "$CARGO_TARGET_DIR/debug/repositories-api" \
    >"$scratch/session" 2>"$scratch/log" &
service=$!
trap 'kill $service 2>/dev/null || true; wait $service 2>/dev/null || true; rm -rf "$scratch"' EXIT
until grep -q 'Ctrl-C' "$scratch/session"; do
    kill -0 $service 2>/dev/null || { cat "$scratch/log" >&2; exit 1; }
    sleep 0.2
done

# The session that it prints works when it is pasted.
sed -n '/^  api=/,/openapi.json |/p' "$scratch/session" >"$scratch/paste"
bash -euo pipefail "$scratch/paste" >"$scratch/pasted" 2>/dev/null
for line in 'HTTP/1.1 201' '"name":"website"' '{"items":\[\],"next":null}' 'HTTP/1.1 404' 'HTTP/1.1 403' 'HTTP/1.1 202' '"/organizations/{organization_id}/repositories": {'; do
    grep -q "$line" "$scratch/pasted" || { echo "the pasted session has no $line:" >&2; cat "$scratch/pasted" >&2; exit 1; }
done

# Everything that the description allows, and much that it does not.
venv=$CARGO_TARGET_DIR/schemathesis-venv
if ! [ -x "$venv/bin/schemathesis" ] && ! { python3 -m venv "$venv" && "$venv/bin/pip" install -q 'schemathesis>=4,<5'; }; then
    echo "schemathesis cannot be installed: what it tests was not tested" >&2
    exit $((available ? 0 : 1))
fi
owner=$(sed -n 's/^  owner=//p' "$scratch/session")
key=$(sed -n 's/.*acme_key=//p' "$scratch/session" | head -1)
acme=$(sed -n 's/^  acme=\([^ ]*\) .*/\1/p' "$scratch/session")
api=http://127.0.0.1:$port
made() { # path, body: the id of what is created
    curl -sf "$api/$1" -H "authorization: Bearer $key" -H 'content-type: application/json' -d "$2" |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])'
}
repository=$(made "organizations/$acme/repositories" '{"name": "described"}')
job=$(made "organizations/$acme/repositories/$repository/jobs" '{"kind": "analyze"}')
printf '[parameters]\norganization_id = "%s"\nrepository_id = "%s"\njob_id = "%s"\n' "$acme" "$repository" "$job" \
    >"$scratch/schemathesis.toml"
describe() { # examples, further arguments
    # One worker: with two, ast.parse of Python 3.11 fails now and then. Closing the organization and signing out would end the run.
    (cd "$scratch" && "$venv/bin/schemathesis" "${@:2}" run "$api/openapi.json" \
        --header "authorization: Bearer $owner" --workers 1 --seed "${SEED:-1}" --max-examples "$1" \
        --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,response_headers_conformance,unsupported_method \
        --exclude-operation-id close_organization --exclude-operation-id sign_out)
}
# With ids that there are, and with any.
describe "${EXAMPLES:-20}" --config-file "$scratch/schemathesis.toml"
describe "${EXAMPLES:-10}"

kill -TERM $service
wait $service
trap 'rm -rf "$scratch"' EXIT
if grep '"level":"ERROR"' "$scratch/log"; then
    echo "the service has logged errors" >&2
    exit 1
fi

if [ -z "$short" ]; then
    needs redis-server redis-server
    cargo test --locked --test load -- --requests "$requests"
fi
if [ -n "$bench" ]; then
    needs wrk wrk
    cargo bench --locked --bench by_hand
fi
