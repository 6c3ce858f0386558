#!/usr/bin/env bash
# What action.yml runs: installs the command, and checks that nothing is pending. Exit codes are the command's.
set -euo pipefail
binary=${CGK_BINARY:-}
if [ -z "$binary" ]; then
    : "${CGK_VERSION:?say which release: with: version: v0.1.0}"
    case "$(uname -s) $(uname -m)" in
        "Linux x86_64") platform=x86_64-linux ;;
        "Linux aarch64" | "Linux arm64") platform=aarch64-linux ;;
        "Darwin arm64" | "Darwin aarch64") platform=aarch64-darwin ;;
        "Darwin x86_64") platform=x86_64-darwin ;;
        *) echo "there is no release for $(uname -s) $(uname -m): build cgk, and give its file as the input binary" >&2; exit 1 ;;
    esac
    file=cgk-${CGK_VERSION#v}-$platform.tar.gz
    directory=$(mktemp -d)
    for part in "$file" "$file.sha256"; do
        curl --fail --silent --show-error --location --output "$directory/$part" \
            "$CGK_SERVER/$CGK_REPOSITORY/releases/download/$CGK_VERSION/$part"
    done
    # macOS has shasum, and most Linux distributions sha256sum.
    check=(sha256sum --check)
    command -v sha256sum >/dev/null || check=(shasum -a 256 --check)
    (cd "$directory" && "${check[@]}" "$file.sha256" >/dev/null && tar -xzf "$file")
    binary=$directory/cgk
fi
# Words, as in a shell: the arguments are the workflow author's own.
read -r -a arguments <<<"${CGK_ARGUMENTS:-}"
exec "$binary" migrate --check ${arguments[@]+"${arguments[@]}"}
