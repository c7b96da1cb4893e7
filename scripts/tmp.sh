#!/bin/sh
# tmp.sh COMMAND...: runs it with a directory of its own for what is temporary (TMPDIR), and
# removes the directory at its end: tests that fail or are killed leave nothing in /tmp. What
# this script leaves when it is killed itself, the next run in this tree removes. The name is
# the same in each run, because Go's cache of test results goes by TMPDIR, and short, because
# the paths of unix sockets have to be.
set -eu
tree=$(cd "$(dirname "$0")/.." && pwd)
sum=$(printf %s "$tree" | cksum | cut -d' ' -f1)
TMPDIR=${TMPDIR:-/tmp}/ul-$(printf %04x $((sum & 0xffff)))

# A run holds a lock on its directory. What is run does not inherit it.
mkdir -p "$TMPDIR"
exec 9<"$TMPDIR"
if flock -n 9; then
    for old in "$TMPDIR".??????; do
        [ ! -d "$old" ] || flock -n "$old" rm -rf --one-file-system "$old" || true
    done
    find "$TMPDIR" -xdev -mindepth 1 -delete || true
else # another run in this tree has it
    TMPDIR=$(mktemp -d "$TMPDIR.XXXXXX")
    exec 9<"$TMPDIR"
    flock -n 9
fi
chmod 1777 "$TMPDIR" # as /tmp: tests run programs of other users
export TMPDIR UNDERLANE_TMP="$TMPDIR"

trap 'rm -rf --one-file-system "$TMPDIR"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
"$@" 9<&-
