#!/usr/bin/env bash
# Tries the packages that scripts/package.sh has built, each from its file in a place where nothing else of the project is: version,
# exit codes, and that SIGINT and SIGTERM reach the command through every shim. Argument: the directory with the files.
set -euo pipefail
out=$(cd "$1" && pwd)
action=$(cd "$(dirname "$0")/.." && pwd)/packaging/action.sh
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
version=$(tar -xzOf "$out"/cgk-*-x86_64-linux.tar.gz cgk >cgk && chmod +x cgk && ./cgk --version)
sum=$(sha256sum <cgk)
fail() { echo "package test: $*" >&2; exit 1; }

for file in "$out"/*.tar.gz "$out"/*.whl "$out"/*.tgz "$out"/*.deb; do
    (cd "$out" && sha256sum --check --quiet "${file##*/}.sha256") || fail "the checksum of $file"
done
echo "ok checksums"

# A server that takes a connection and never answers: the command waits for it until a signal comes.
cat >silent.py <<'PY'
import socket, sys, time
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
kept = []
while True:
    kept.append(server.accept()[0])
    print("connected", flush=True)
PY
python3 silent.py >silent.log &
silent=$!
trap 'kill $silent; rm -rf "$scratch"' EXIT
until [ -s silent.log ]; do sleep 0.05; done
port=$(head -1 silent.log)

# $1: what it is; the rest: the command.
try() {
    local what=$1 code; shift
    [ "$("$@" --version)" = "$version" ] || fail "$what: another version"
    code=0; "$@" no-such-command >/dev/null 2>&1 || code=$?
    [ $code = 2 ] || fail "$what: misuse exits $code and not 2"
    code=0; DATABASE_URL=postgresql://x@127.0.0.1:1/x "$@" migrate --check >/dev/null 2>&1 || code=$?
    [ $code = 5 ] || fail "$what: no server exits $code and not 5"
    for signal in INT:130 TERM:143; do
        local before; before=$(grep -c connected silent.log || true)
        # A background job of this shell would ignore SIGINT; Python gives the child the default again.
        python3 - "$signal" "$before" "$port" "$@" <<'PY' || fail "$what: ${signal%:*}"
import os, signal, subprocess, sys, time
(name, expected), before, port, command = sys.argv[1].split(":"), int(sys.argv[2]), sys.argv[3], sys.argv[4:]
number = getattr(signal, "SIG" + name)
environment = {**os.environ, "DATABASE_URL": f"postgresql://x@127.0.0.1:{port}/x?sslmode=disable&connect_timeout=60"}
process = subprocess.Popen(command + ["migrate", "--check"], env=environment, stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                           preexec_fn=lambda: [signal.signal(s, signal.SIG_DFL) for s in (signal.SIGINT, signal.SIGTERM)])
started = time.monotonic()
while open("silent.log").read().count("connected") <= before:
    if process.poll() is not None or time.monotonic() - started > 20:
        sys.exit(f"never waited for the server: {process.poll()} {process.stderr.read()!r}")
    time.sleep(0.02)
process.send_signal(number)
code = process.wait(20)
# A command that ended by the signal itself has the same meaning for a shell.
if code not in (int(expected), -number):
    sys.exit(f"{name} ended it with {code}, expected {expected}")
PY
    done
    echo "ok $what"
}

try "archive" "$scratch/cgk"
ldd cgk 2>&1 | grep -qE "not a dynamic executable|statically linked" || fail "the binary is not static"

# The whole command, on a private server of its own.
./cgk demo --quiet >demo.log 2>&1 || fail "demo: $(tail -5 demo.log)"
echo "ok demo"

# A server that takes TLS alone, by a name that must be looked up and a certificate that must be verified.
programs=${CGK_PG_BIN:-$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)}
if [ -x "$programs/initdb" ] && command -v openssl >/dev/null; then
    server() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }
    mkdir tls && chmod 711 . && chmod 777 tls
    (
        cd tls
        server "$programs/initdb" -D data -U postgres -A trust --no-sync >initdb.log
        server openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
            -addext basicConstraints=critical,CA:FALSE -keyout data/server.key -out data/server.crt 2>openssl.log
        server sh -c 'printf "hostssl all all all trust\nlocal all all trust\n" >data/pg_hba.conf; chmod 600 data/server.key'
        cp data/server.crt authority.pem
    )
    tls_port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    server "$programs/pg_ctl" -s -w -D tls/data -l "$scratch/tls/log" -o "-p $tls_port -c ssl=on -c fsync=off -c listen_addresses=localhost -k $scratch/tls" start
    trap 'kill $silent; server "$programs/pg_ctl" -s -m immediate -D "$scratch/tls/data" stop; rm -rf "$scratch"' EXIT
    server createdb -h "$scratch/tls" -p "$tls_port" -U postgres app
    url="postgresql://postgres@localhost:$tls_port/app?sslmode=verify-full"
    DATABASE_URL="$url&sslrootcert=$scratch/tls/authority.pem" ./cgk setup:database >tls.log 2>&1 || fail "TLS: $(tail -5 tls.log)"
    # The controls: an authority that nobody trusts, and no TLS.
    for refused in "$url=invalid peer certificate" "postgresql://postgres@localhost:$tls_port/app?sslmode=disable=no pg_hba.conf entry"; do
        if DATABASE_URL=${refused%=*} ./cgk migrate --check >tls.log 2>&1; then fail "TLS: ${refused%=*} connects"; fi
        grep -q "${refused##*=}" tls.log || fail "TLS: ${refused%=*}: $(cat tls.log)"
    done
    echo "ok TLS"
else
    echo "-- no PostgreSQL or no openssl here: TLS was not tried"
fi

# The composite action, with the binary that is here: the command's exit code is the step's.
code=0
CGK_BINARY=$scratch/cgk CGK_ARGUMENTS="--public --json" DATABASE_URL=postgresql://x@127.0.0.1:1/x "$action" >action.log 2>&1 || code=$?
[ $code = 5 ] && grep -q '"exit":5' action.log || fail "action: exits $code: $(cat action.log)"
code=0; env -u CGK_BINARY "$action" >/dev/null 2>&1 || code=$?
[ $code = 1 ] || fail "action without a version exits $code"
# From a release, which is here a folder: the file of this platform, and only with its own checksum.
release=$scratch/server/team/cgk/releases/download/v9.9.9
file=cgk-9.9.9-$(uname -m)-linux.tar.gz
mkdir -p "$release"
tar -C "$scratch" -czf "$release/$file" cgk
(cd "$release" && sha256sum "$file" >"$file.sha256")
from_release() {
    code=0
    env -u CGK_BINARY CGK_SERVER="file://$scratch/server" CGK_REPOSITORY=team/cgk CGK_VERSION=v9.9.9 CGK_ARGUMENTS=--public \
        DATABASE_URL=postgresql://x@127.0.0.1:1/x "$action" >action.log 2>&1 || code=$?
}
from_release
[ $code = 5 ] || fail "action from a release: exits $code: $(cat action.log)"
printf 'x' >>"$release/$file"
from_release
[ $code = 1 ] || fail "action with a file that was changed: exits $code: $(cat action.log)"
echo "ok action"

python3 -m venv wheel
wheel/bin/pip install --quiet --disable-pip-version-check --no-index "$out"/cgk-*.whl
[ "$(sha256sum <wheel/bin/cgk)" = "$sum" ] || fail "the wheel holds another binary"
try "wheel" "$scratch/wheel/bin/cgk"

mkdir npm
(cd npm && npm init -y >/dev/null &&
    npm install --silent --offline --no-audit --no-fund "$out"/cgk-linux-x64-*.tgz "$out"/cgk-[0-9]*.tgz >/dev/null)
[ "$(sha256sum <npm/node_modules/cgk-linux-x64/bin/cgk)" = "$sum" ] || fail "the npm package holds another binary"
try "npm" "$scratch/npm/node_modules/.bin/cgk"
mkdir alone && tar -xzf "$out"/cgk-[0-9]*.tgz -C alone
grep -qi dependencies alone/package/package.json && fail "npm: a registry would be asked for a package: $(cat alone/package/package.json)"
code=0; node alone/package/bin/cgk.js --version 2>alone/log || code=$?
[ $code = 1 ] && grep -q "package cgk-linux-x64 is not installed" alone/log || fail "npm without the platform's package exits $code: $(cat alone/log)"

# dpkg installs it into a root directory of its own; anybody else unpacks it.
if [ "$(id -u)" = 0 ]; then
    mkdir -p deb/var/lib/dpkg/{info,updates} && touch deb/var/lib/dpkg/{status,available}
    dpkg --root="$scratch/deb" --log=/dev/null --force-script-chrootless --install "$out"/cgk_*.deb >/dev/null
    dpkg-query --admindir="$scratch/deb/var/lib/dpkg" --show --showformat '${Status}' cgk | grep -q "install ok installed" || fail "dpkg has not installed it"
else
    dpkg-deb --extract "$out"/cgk_*.deb deb
fi
[ "$(sha256sum <deb/usr/bin/cgk)" = "$sum" ] || fail "the Debian package holds another binary"
try "deb" "$scratch/deb/usr/bin/cgk"

# What the container is: a root with these files alone.
mkdir -p root/usr/local/bin root/etc/ssl/certs root/work
cp "$out/container/cgk" root/usr/local/bin/
cp "$out/container/ca-certificates.crt" root/etc/ssl/certs/
if [ "$(id -u)" = 0 ]; then
    # With the user and the folder of the container file.
    try "container's root" chroot --userspec=65534:65534 "$scratch/root" /usr/local/bin/cgk
fi
# Built as users build it, and by buildah, which needs no daemon.
built=''
if docker info >/dev/null 2>&1; then
    docker build --quiet --tag cgk-package-test "$out/container" >/dev/null
    [ "$(docker run --rm cgk-package-test --version)" = "$version" ] || fail "container: another version"
    echo "ok container (docker)"
    built=1
fi
if ! command -v buildah >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get install -y -qq buildah >/dev/null 2>&1 || true
fi
if command -v buildah >/dev/null && [ "$(id -u)" = 0 ]; then
    images() { buildah --root "$scratch/images" --runroot "$scratch/images-run" --storage-driver vfs "$@"; }
    images build --isolation chroot --quiet --tag cgk-package-test "$out/container" >/dev/null
    image=$(images from cgk-package-test)
    [ "$(images inspect --format '{{.OCIv1.Config.User}} {{.OCIv1.Config.Entrypoint}}' "$image")" = "65534:65534 [/usr/local/bin/cgk]" ] ||
        fail "container: another user or another command"
    contents=$(cd "$(images mount "$image")" && find . -type f | sort | tr '\n' ' ')
    [ "$contents" = "./etc/ssl/certs/ca-certificates.crt ./usr/local/bin/cgk " ] || fail "container: it has $contents"
    [ "$(images run --isolation chroot "$image" -- /usr/local/bin/cgk --version)" = "$version" ] || fail "container: another version"
    code=0; images run --isolation chroot "$image" -- /usr/local/bin/cgk no-such-command >/dev/null 2>&1 || code=$?
    [ $code = 2 ] || fail "container: misuse exits $code and not 2"
    images rm --all >/dev/null
    echo "ok container (buildah)"
    built=1
fi
[ -n "$built" ] || echo "-- neither a Docker daemon nor buildah as root: the container file was not built"

# The crate, as a registry would have it: its own files are enough to build the command.
mkdir crate && tar -xzf "$out"/cgk-*.crate -C crate --strip-components 1
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$scratch/target} cargo build --quiet --locked --bin cgk --manifest-path crate/Cargo.toml
built=${CARGO_TARGET_DIR:-$scratch/target}/debug/cgk
[ "$("$built" --version)" = "$version" ] || fail "crate: another version"
"$built" demo --quiet >demo.log 2>&1 || fail "crate: demo: $(tail -5 demo.log)"
echo "ok crate"

"$(dirname "$action")/../scripts/workflow-test.sh"
