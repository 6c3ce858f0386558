#!/usr/bin/env bash
# Tests examples/clients: services in other languages that enter tenants by cgk_enter, on a direct connection and behind
# PgBouncer in transaction mode. Installs the packages of Python and Node, in pinned versions, into target/clients; Debian's
# packages where it may. With --available it is no error if a package cannot be installed; --all also installs what Go, Java and
# Ruby need. Further options are passed on to the test binary: scripts/client-tests.sh -- --nocapture
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:/usr/sbin"
root=$PWD/target/clients
examples=$PWD/examples/clients

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

# Copies what changed, so that a second run compiles little.
mkdir -p "$root/python" "$root/node/src"
cp "$examples"/python/* tests/clients/spec.py "$root/python/"
cp -r "$examples"/node/* "$root/node/"
cp tests/clients/spec.ts "$root/node/src/"

cd "$root/python"
if ! cmp -s requirements.txt venv/requirements.txt; then
    rm -rf venv
    python3 -m venv venv
    venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-check.txt ||
        absent "Python's packages cannot be installed"
    cp requirements.txt venv/requirements.txt
fi
venv/bin/mypy --strict tenant_*.py

cd "$root/node"
if ! cmp -s package-lock.json node_modules/.package-lock-installed.json; then
    npm ci --no-audit --no-fund --ignore-scripts --loglevel=error || absent "Node's packages cannot be installed"
    cp package-lock.json node_modules/.package-lock-installed.json
fi
# `prisma generate` would download the engine of Prisma's migrations, which nothing here uses.
export PRISMA_SCHEMA_ENGINE_BINARY=${PRISMA_SCHEMA_ENGINE_BINARY:-/bin/true}
npm run --silent build >build.log 2>&1 || { cat build.log >&2; exit 1; }

# The projects of docs/other-languages.md.
cp "$examples/django_project/shop.py" "$root/python/"
mkdir -p "$root/prisma_project/src"
cd "$root/prisma_project"
cp -r "$examples/prisma_project/prisma" .
cp "$examples/prisma_project/server.ts" "$examples/node/src/prisma.ts" src/
cp "$examples/prisma_project/tsconfig.json" .
# Nothing else of the page is a file. Its packages are those that are installed above, in pinned versions.
rm -f prisma.config.ts
echo '{}' >package.json
npm pkg set type=module
ln -sfn ../node/node_modules node_modules
{ npx --no-install prisma generate && npx --no-install tsc; } >build.log 2>&1 || { cat build.log >&2; exit 1; }

# Go, Java and Ruby with Debian's packages, where those are there: their registries are not used. --all installs them.
debian=/usr/share/gocode/src/github.com/jackc/pgx/v4
if [ -n "$all" ]; then
    need go golang-go
    need javac default-jdk-headless
    need ruby ruby
    [ -d $debian ] && [ -e /usr/share/java/spring3-jdbc.jar ] && ruby -e 'require "active_record"' 2>/dev/null ||
        apt-get install -y -qq --no-install-recommends golang-github-jackc-pgx-v4-dev libpostgresql-jdbc-java \
            libspring-jdbc-java libspring-transaction-java ruby-pg ruby-activerecord >/dev/null
fi
if command -v go >/dev/null && [ -d $debian ]; then
    mkdir -p "$root/go/src/cgk/tenant" "$root/go/src/spec"
    cp "$examples/go/tenant.go" "$root/go/src/cgk/tenant/"
    cp "$root/../../tests/clients/spec.go" "$root/go/src/spec/"
    GO111MODULE=off GOPATH="$root/go:/usr/share/gocode" GOFLAGS= go build -o "$root/go/spec" spec
fi
if command -v javac >/dev/null && [ -e /usr/share/java/spring3-jdbc.jar ] && [ -e /usr/share/java/postgresql.jar ]; then
    mkdir -p "$root/java"
    cp /usr/share/java/{postgresql,spring3-jdbc,spring3-transaction,spring3-core,spring3-beans,commons-logging}.jar "$root/java/"
    javac -Xlint:all,-classfile,-path -cp "$root/java/*" -d "$root/java" "$examples"/java/*.java "$root/../../tests/clients/Spec.java"
fi
if command -v ruby >/dev/null && ruby -e 'require "active_record"; require "pg"' 2>/dev/null; then
    mkdir -p "$root/ruby"
    cp "$examples/ruby/tenant.rb" "$root/../../tests/clients/spec.rb" "$root/ruby/"
fi

cd "$root/../.."
exec </dev/null
cargo test --test clients "$@"
