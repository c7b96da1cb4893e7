#!/bin/sh
# apt-get that waits for a lock which another process holds, such as an upgrade of
# the machine or `make` in another checkout: apt.sh update|install ARGS...
# APT_LOCK_WAIT is how long it waits at most, in seconds (300).
set -eu
limit=${APT_LOCK_WAIT:-300}
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# DPkg::Lock::Timeout covers only dpkg's locks, not those of the package lists and
# the archives, and apt says nothing while it waits.
waited=0
while :; do
    status=0
    LC_ALL=C apt-get "$@" 2>"$errors" || status=$?
    if [ "$status" -eq 0 ] || ! grep -q 'Could not get lock' "$errors"; then
        cat "$errors" >&2
        exit "$status"
    fi
    lock=$(grep -m 1 'Could not get lock' "$errors")
    if [ "$waited" -ge "$limit" ]; then
        echo "apt-get $1: ${lock#E: }: still so after $limit s: wait for that process to end, and try again" >&2
        exit "$status"
    fi
    if [ "$waited" -eq 0 ]; then
        echo "apt-get $1: ${lock#E: }: waiting up to $limit s" >&2
    fi
    sleep 1
    waited=$((waited + 1))
done
