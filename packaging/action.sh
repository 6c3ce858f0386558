#!/usr/bin/env bash
# What action.yml runs: installs the command, and checks that nothing is pending. Exit codes are the command's.
set -euo pipefail
binary=${CGK_BINARY:-}
if [ -z "$binary" ]; then
    : "${CGK_VERSION:?say which release: with: version: v0.1.0}"
    directory=$(mktemp -d)
    curl --fail --silent --show-error --location \
        "$CGK_SERVER/$CGK_REPOSITORY/releases/download/$CGK_VERSION/cgk-${CGK_VERSION#v}-$(uname -m)-linux.tar.gz" |
        tar -xz -C "$directory"
    binary=$directory/cgk
fi
# Words, as in a shell: the arguments are the workflow author's own.
read -r -a arguments <<<"${CGK_ARGUMENTS:-}"
exec "$binary" migrate --check "${arguments[@]}"
