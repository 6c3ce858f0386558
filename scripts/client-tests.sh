#!/usr/bin/env bash
# Tests examples/clients: services in other languages that enter tenants by cgk_enter, on a direct connection and behind
# PgBouncer in transaction mode. Installs the packages of Python and Node, in pinned versions, into target/clients; Debian's
# packages where it may. With --available it is no error if a package cannot be installed; --all also installs what Go, Java and
# Ruby need. Further options are passed on to the test binary: scripts/client-tests.sh -- --nocapture
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:/usr/sbin"
top=$PWD
root=$top/target/clients
examples=$top/examples/clients

available='' all=''
while :; do
    case ${1:-} in
        --available) available=1 ;;
        --all) all=1 ;;
        *) break ;;
    esac
    shift
done

absent() {
    echo "-- the clients in other languages were not tested: $1" >&2
    exit $((available ? 0 : 1))
}

# Packages of the system, where that takes no questions.
need() {
    command -v "$1" >/dev/null && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
        apt-get install -y -qq "$2" >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq "$2" >/dev/null; } ||
            true
    fi
    command -v "$1" >/dev/null || absent "$1 is needed: install $2"
}
need pgbouncer pgbouncer
need python3 python3-venv
need node nodejs
need npm npm
# Go, Java and Ruby with Debian's packages, where those are there: their registries are not used. --all installs them.
pgx=/usr/share/gocode/src/github.com/jackc/pgx/v4
if [ -n "$all" ]; then
    need go golang-go
    need javac default-jdk-headless
    need ruby ruby
    [ -d $pgx ] && [ -e /usr/share/java/spring3-jdbc.jar ] && ruby -e 'require "active_record"' 2>/dev/null ||
        apt-get install -y -qq --no-install-recommends golang-github-jackc-pgx-v4-dev libpostgresql-jdbc-java \
            libspring-jdbc-java libspring-transaction-java ruby-pg ruby-activerecord >/dev/null
fi

# The parts are made side by side, each in a folder of its own; 75: its packages cannot be installed.
python_() {
    cp "$examples"/python/* "$examples/django_project/shop.py" "$top/tests/clients/spec.py" .
    if ! cmp -s requirements.txt venv/requirements.txt; then
        rm -rf venv
        python3 -m venv venv
        venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-check.txt || exit 75
        cp requirements.txt venv/requirements.txt
    fi
    venv/bin/mypy --strict tenant_*.py
}

node_() {
    cp -r "$examples"/node/* .
    cp "$top/tests/clients/spec.ts" src/
    if ! cmp -s package-lock.json node_modules/.package-lock-installed.json; then
        npm ci --no-audit --no-fund --ignore-scripts --loglevel=error || exit 75
        cp package-lock.json node_modules/.package-lock-installed.json
    fi
    # `prisma generate` would download the engine of Prisma's migrations, which nothing here uses.
    export PRISMA_SCHEMA_ENGINE_BINARY=${PRISMA_SCHEMA_ENGINE_BINARY:-/bin/true}
    npm run --silent build
    # The project of docs/other-languages.md. Its packages are those that are installed above, in pinned versions.
    mkdir -p "$root/prisma_project/src"
    cd "$root/prisma_project"
    cp -r "$examples/prisma_project/prisma" "$examples/prisma_project/tsconfig.json" .
    cp "$examples/prisma_project/server.ts" "$examples/node/src/prisma.ts" src/
    rm -f prisma.config.ts
    echo '{}' >package.json
    npm pkg set type=module
    ln -sfn ../node/node_modules node_modules
    npx --no-install prisma generate
    npx --no-install tsc
}

go_() {
    command -v go >/dev/null && [ -d $pgx ] || return 0
    mkdir -p src/cgk/tenant src/spec
    cp "$examples/go/tenant.go" src/cgk/tenant/
    cp "$top/tests/clients/spec.go" src/spec/
    GO111MODULE=off GOPATH="$PWD:/usr/share/gocode" GOFLAGS='' go build -o spec spec
}

java_() {
    command -v javac >/dev/null && [ -e /usr/share/java/spring3-jdbc.jar ] && [ -e /usr/share/java/postgresql.jar ] || return 0
    cp /usr/share/java/{postgresql,spring3-jdbc,spring3-transaction,spring3-core,spring3-beans,commons-logging}.jar .
    javac -Xlint:all,-classfile,-path -cp '*' -d . "$examples"/java/*.java "$top/tests/clients/Spec.java"
}

ruby_() {
    command -v ruby >/dev/null && ruby -e 'require "active_record"; require "pg"' 2>/dev/null || return 0
    cp "$examples/ruby/tenant.rb" "$top/tests/clients/spec.rb" .
}

part() {
    mkdir -p "$root/$1"
    cd "$root/$1"
    "${1}_" >part.log 2>&1
}

exec </dev/null
declare -A running
for name in python node go java ruby; do
    (part $name) &
    running[$name]=$!
done
(cargo test --quiet --test clients --no-run) &
running[cargo]=$!
failed=''
for name in "${!running[@]}"; do
    code=0
    wait "${running[$name]}" || code=$?
    [ $code = 0 ] && continue
    [ $name = cargo ] || cat "$root/$name/part.log" >&2
    [ $code = 75 ] && missing=$name || failed="$failed $name"
done
[ -z "$failed" ] || { echo "these could not be built:$failed" >&2; exit 1; }
[ -z "${missing:-}" ] || absent "the packages of $missing cannot be installed"

cargo test --test clients "$@"
