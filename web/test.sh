#!/bin/sh
# Tests the dashboard: types, what is pure, and all of it in Chromium with generated
# data. Usage: test.sh [WORDS of the names of the tests in the browser]
set -eu
cd "$(dirname "$0")"
. ./node.sh
stamp=node_modules/.of-lock-with-tests
if [ ! -e "$stamp" ] || ! cmp -s package-lock.json "$stamp"; then
    npm ci --no-audit --no-fund --loglevel=error
    cp package-lock.json "$stamp"
    cp package-lock.json node_modules/.of-lock
fi
npm run --silent check
npm run --silent test
(cd .. && CGO_ENABLED=0 go build -o bin/dashboard-sample ./test/dashboard/cmd/sample)
node e2e/run.mjs "$@"
