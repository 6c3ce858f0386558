#!/usr/bin/env bash
# Compares tenant:export and tenant:import with pg_dump of the tenant's schema: time, size of the files, memory of cgk.
# Starts a private server, and removes it. Usage: scripts/bench-transfer.sh [megabytes of rows, default 300]
# CGK_PG_BIN is the folder of the server's programs, CGK_BIN a release build of cgk (default: it is built).
set -euo pipefail
cd "$(dirname "$0")/.."
size=${1:-300}
bin=${CGK_PG_BIN:-$(pg_config --bindir)}
[ -n "${CGK_BIN:-}" ] || cargo build --release --quiet
cgk=${CGK_BIN:-$PWD/target/release/cgk}
work=$(mktemp -d "${TMPDIR:-/var/tmp}/cgk-bench.XXXXXX")
as() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }
[ "$(id -u)" != 0 ] || chown postgres "$work"
finish() {
    as "$bin/pg_ctl" -D "$work/data" -m immediate stop > /dev/null 2>&1 || true
    rm -rf "$work"
}
trap finish EXIT
(cd / && as "$bin/initdb" -D "$work/data" -U postgres -A trust > /dev/null &&
    as "$bin/pg_ctl" -D "$work/data" -w -l "$work/log" -o "-k $work -c listen_addresses= -c max_wal_size=8GB" start > /dev/null)

export PGHOST=$work PGUSER=postgres
sql() { "$bin/psql" -qAtX -v ON_ERROR_STOP=1 "$@"; }
on() { DATABASE_URL="postgresql://postgres@/$1?host=$work" "$cgk" --migrations "$work/set" "${@:2}" > /dev/null 2>> "$work/said"; }
mkdir -p "$work/set/public" "$work/set/tenant"
cat > "$work/set/public/001_organizations.sql" << 'SQL'
create table organizations (id uuid primary key, slug text unique not null, name text not null, status text not null,
    created_at timestamptz not null default now());
SQL
cat > "$work/set/tenant/001_events.sql" << 'SQL'
create table events (id bigint primary key, at timestamptz not null, kind text not null, amount numeric(12, 2), payload jsonb not null);
create index events_at on events (at);
create table lines (event_id bigint not null references events, place int not null, body text, primary key (event_id, place));
create table notes (id uuid primary key, body text not null);
SQL
for database in source target plain parallel; do sql -d postgres -c "create database $database"; done
for database in source target; do on $database setup:database; done
on source tenant:create acme
sql -d source << SQL
set search_path = tenant_acme;
select setseed(0.5);
insert into events select n, now() - n * interval '1 minute', (array['view', 'click', 'order'])[1 + n % 3], (random() * 1e5)::numeric(12, 2),
    jsonb_build_object('path', '/p/' || (random() * 1e4)::int, 'session', md5(random()::text), 'n', n)
from generate_series(1, $size * 3000) n;
insert into lines select n / 4 + 1, n % 4, md5(random()::text) || ' ' || n from generate_series(1, $size * 3500) n;
insert into notes select gen_random_uuid(), repeat(md5(random()::text) || ' ', 20) from generate_series(1, $size * 200) n;
vacuum analyze;
checkpoint;
SQL
# Name, command: prints the seconds and remembers them.
declare -A took
timed() {
    sync
    local start end
    start=$(date +%s.%N)
    "${@:2}"
    end=$(date +%s.%N)
    took[$1]=$(awk "BEGIN { printf \"%.1f\", $end - $start }")
}
peak() { /usr/bin/time -f %M -o "$work/peak.$1" "${@:2}"; }
dump_sql() { "$bin/pg_dump" -n tenant_acme source > "$work/plain.sql"; }
load_sql() { sql -d plain -f "$work/plain.sql" > /dev/null; }
dump_dir() { "$bin/pg_dump" -n tenant_acme -Fd -j4 -f "$work/parallel" source; }
load_dir() { "$bin/pg_restore" -j4 -d parallel "$work/parallel"; }
program() { DATABASE_URL="postgresql://postgres@/$2?host=$work" peak "$1" "$cgk" --migrations "$work/set" "${@:3}" > /dev/null 2>> "$work/said"; }

timed export program export source tenant:export acme --to "$work/acme.cgk"
timed export4 program export4 source tenant:export acme --to "$work/acme4.cgk" --jobs 4
timed import program import target tenant:import "$work/acme.cgk"
timed dump_sql dump_sql
timed load_sql load_sql
timed dump_dir dump_dir
timed load_dir load_dir
same() { sql -d "$1" -c "select count(*), sum(hashtext(e::text)::bigint) from tenant_acme.events e"; }
[ "$(same source)" = "$(same target)" ] || { echo "the copies differ" >&2; exit 1; }

mb() { awk "BEGIN { printf \"%.0f\", $1 / 1048576 }"; }
bytes() { du -sb "$1" | cut -f1; }
on_disk=$(sql -d source -c "select sum(pg_table_size(c.oid)) from pg_class c where c.relnamespace = 'tenant_acme'::regnamespace and relkind = 'r'")
echo "| $(mb "$on_disk") MB of tables, PostgreSQL $(sql -d postgres -c 'show server_version'), $(nproc) cores | write | load | file |"
echo "|---|--:|--:|--:|"
echo "| \`cgk tenant:export\`, \`tenant:import\` | ${took[export]} s | ${took[import]} s | $(mb "$(bytes "$work/acme.cgk")") MB |"
echo "| the same with \`--jobs 4\` | ${took[export4]} s | | $(mb "$(bytes "$work/acme4.cgk")") MB |"
echo "| \`pg_dump -n\`, \`psql\` | ${took[dump_sql]} s | ${took[load_sql]} s | $(mb "$(bytes "$work/plain.sql")") MB |"
echo "| \`pg_dump -Fd -j4\`, \`pg_restore -j4\` | ${took[dump_dir]} s | ${took[load_dir]} s | $(mb "$(bytes "$work/parallel")") MB |"
echo "cgk holds at most $(($(tail -1 "$work/peak.export") / 1024)) MB while it exports ($(($(tail -1 "$work/peak.export4") / 1024)) MB with --jobs 4), and $(($(tail -1 "$work/peak.import") / 1024)) MB while it imports."
