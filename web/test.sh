#!/bin/sh
# Tests the dashboard: types, what is pure, and all of it in Chromium with generated
# data. Usage: test.sh [WORDS of the names of the tests in the browser]; SHORT=1 is what CI
# runs, and takes about a minute
set -eu
cd "$(dirname "$0")"
. ./node.sh
stamp=node_modules/.of-lock-with-tests
if [ ! -e "$stamp" ] || ! cmp -s package-lock.json "$stamp"; then
    npm ci --no-audit --no-fund --loglevel=error
    cp package-lock.json "$stamp"
    cp package-lock.json node_modules/.of-lock
fi
# What hangs is ended; how long each part took is said.
part() { # name command...
    began=$(date +%s)
    name=$1
    shift
    status=0
    timeout --kill-after=10 900 "$@" || status=$?
    [ "$status" -ne 124 ] || echo "test-web: $name was not done after 900 s" >&2
    [ "$status" -eq 0 ] || { echo "test-web: $name failed" >&2; exit "$status"; }
    echo "test-web: $name took $(($(date +%s) - began)) s"
}
part types npm run --silent check
part "pure parts" npm run --silent test
(cd .. && part "building the server" env CGO_ENABLED=0 go build -o bin/dashboard-sample ./test/dashboard/cmd/sample)
[ $# -gt 0 ] || [ -n "${SHORT:-}" ] || part "the harness" node e2e/limits.mjs
# Each test in the browser has a limit of its own.
began=$(date +%s)
node e2e/run.mjs "$@"
echo "test-web: the browser took $(($(date +%s) - began)) s"
