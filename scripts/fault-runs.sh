#!/usr/bin/env bash
# Migrates fleets while clients are killed, sessions are terminated, the server is shut down and the disk is full.
#
#   scripts/fault-runs.sh [--short] [--without-full-disk] [FAULTS]     (default: 300 faults; with --short 25)
#
# The full disk wants small file systems of its own, gone when this ends: as root, or as a user who may make namespaces.
# Where neither is so it fails; --without-full-disk leaves that part out, and says so. CGK_TEST_SEED runs the faults of an
# earlier run again; CGK_SCOREBOARD names a file to which each result is added as a line of JSON.
set -euo pipefail
cd "$(dirname "$0")/.."

faults=300 with_disk=1
for argument in "$@"; do
    case $argument in
        --short) faults=25 ;;
        --without-full-disk) with_disk= ;;
        *[!0-9]* | '')
            echo "usage: $0 [--short] [--without-full-disk] [FAULTS]" >&2
            exit 2
            ;;
        *) faults=$argument ;;
    esac
done
export CGK_FAULTS=$faults

cargo build --quiet --bin cgk
if [ -z "$with_disk" ]; then
    echo "LEFT OUT: the full disk (--without-full-disk)" >&2
    exec cargo test --test faults -- --nocapture --skip full_disk::
fi

disks=$(mktemp -d "${TMPDIR:-/tmp}/cgk-disks.XXXXXX")
trap 'rmdir "$disks/data" "$disks/wal" "$disks"' EXIT
mkdir "$disks/data" "$disks/wal"
chmod 755 "$disks" "$disks/data" "$disks/wal"
export CGK_FAULTS_SMALL_DISKS=$disks

# What is mounted in a namespace of its own is gone with its last process.
mount='mount -t tmpfs -o size=160m,mode=755 tmpfs "$0/data" && mount -t tmpfs -o size=48m,mode=755 tmpfs "$0/wal"'
if [ "$(id -u)" = 0 ]; then
    within=(unshare --mount)
    back='exec "$@"'
else
    # PostgreSQL refuses to run as root, even as that of a namespace: a second one makes us who we were.
    within=(unshare --user --map-root-user --mount)
    back="exec unshare --user --map-user=$(id -u) --map-group=$(id -g) \"\$@\""
    mount=${mount//mode=755/mode=777}
fi
if ! "${within[@]}" sh -c "$mount && ${back//\"\$@\"/true}" "$disks" 2>/dev/null; then
    echo "The full disk needs small file systems, which only root may mount here: run this as root, or leave that part" >&2
    echo "out with --without-full-disk." >&2
    exit 1
fi
"${within[@]}" sh -c "$mount && $back" "$disks" cargo test --test faults -- --nocapture
