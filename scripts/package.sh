#!/usr/bin/env bash
# Builds the packages of the command from one static binary, into target/dist/out; with --test it tries each of them.
# Needs: a Rust toolchain with the target x86_64-unknown-linux-musl, musl-gcc, npm, Python; maturin and cargo-deb are
# installed into target/dist if they are missing.
set -euo pipefail
cd "$(dirname "$0")/.."
top=$PWD
target=x86_64-unknown-linux-musl
work=$top/target/dist
out=$work/out
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
export CARGO_TARGET_DIR=$work PATH="$work/tools/bin:$PATH"
step() { printf '+ %s\n' "$*" >&2; }

tools() {
    if ! rustup target list --installed | grep -q "^$target$"; then rustup target add "$target"; fi
    if ! command -v musl-gcc >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get install -y -qq musl-tools >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq musl-tools >/dev/null; }
    fi
    command -v musl-gcc >/dev/null || { echo "musl-gcc is needed: install musl-tools" >&2; exit 1; }
    if ! [ -x "$work/venv/bin/maturin" ]; then
        python3 -m venv "$work/venv"
        "$work/venv/bin/pip" install --quiet --disable-pip-version-check maturin==1.16.0
    fi
    command -v cargo-deb >/dev/null || cargo install --quiet --locked cargo-deb@3.8.0 --root "$work/tools"
}

binary() {
    step "static binary"
    # For the C code of a dependency. Linking is left to the Rust toolchain: what musl-gcc links as a static PIE does not start.
    export CC_x86_64_unknown_linux_musl=musl-gcc
    cargo build --quiet --release --locked --target "$target" --bin cgk
    bin=$work/$target/release/cgk
    tar -C "$work/$target/release" -czf "$out/cgk-$version-x86_64-linux.tar.gz" cgk
}

wheel() {
    step "wheel"
    # A static binary runs with any C library, so both kinds of tag are true.
    (cd packaging/wheel && "$work/venv/bin/maturin" build --quiet --release --locked --target "$target" \
        --compatibility manylinux2014 musllinux_1_1 --out "$out")
}

npm_packages() {
    step "npm packages"
    local staged=$work/npm
    rm -rf "$staged" && mkdir -p "$staged/cgk-linux-x64/bin"
    cp -r packaging/npm/cgk "$staged/cgk"
    # It depends on no package: a registry would be asked for the names, and they are left to whoever registers them first.
    (cd "$staged/cgk" && npm pkg set "version=$version")
    cp "$bin" "$staged/cgk-linux-x64/bin/cgk"
    cat >"$staged/cgk-linux-x64/package.json" <<JSON
{
  "name": "cgk-linux-x64",
  "version": "$version",
  "description": "The binary of cgk for Linux on x86-64",
  "license": "MIT OR Apache-2.0",
  "os": ["linux"],
  "cpu": ["x64"],
  "files": ["bin"]
}
JSON
    (cd "$out" && npm pack --silent "$staged/cgk" "$staged/cgk-linux-x64" >/dev/null)
}

debian() {
    step "Debian package"
    cargo deb --quiet --no-build --no-strip --target "$target" --output "$out/cgk_$version-1_amd64.deb" >/dev/null
}

container() {
    step "container"
    mkdir -p "$out/container"
    cp packaging/container/Dockerfile "$bin" "$out/container/"
    cp /etc/ssl/certs/ca-certificates.crt "$out/container/"
}

crate() {
    step "crate"
    # The test of the packages builds it.
    cargo package --quiet --locked --no-verify --allow-dirty 2>/dev/null
    cp "$work/package/cgk-$version.crate" "$out/"
}

checksums() {
    step "checksums"
    # What a release attaches, and packaging/action.sh verifies.
    (cd "$out" && for file in *.tar.gz *.whl *.tgz *.deb; do sha256sum "$file" >"$file.sha256"; done)
}

rm -rf "$out" && mkdir -p "$out"
tools
binary
wheel
npm_packages
debian
container
crate
checksums
ls -l "$out" >&2
if [ "${1:-}" = --test ]; then scripts/package-test.sh "$out"; fi
