#!/bin/sh
# Tests the dashboard on the demo that runs, in Chromium (root). What the demo needs is to be
# built. Usage: test-demo.sh [WORDS of the names of the tests]; SHOTS=directory keeps pictures
set -eu
if [ -n "${SHOTS:-}" ]; then
    SHOTS=$(realpath -m "$SHOTS")
    export SHOTS
fi
cd "$(dirname "$0")"
. ./node.sh
stamp=node_modules/.of-lock-with-tests
if [ ! -e "$stamp" ] || ! cmp -s package-lock.json "$stamp"; then
    npm ci --no-audit --no-fund --loglevel=error
    cp package-lock.json "$stamp"
    cp package-lock.json node_modules/.of-lock
fi
node e2e/demo.mjs "$@"
# Pictures for docs/images are small.
if [ -n "${SHOTS:-}" ] && command -v pngquant >/dev/null 2>&1; then
    pngquant --force --ext .png --skip-if-larger --quality 60-90 --speed 1 "$SHOTS"/dashboard-demo*.png || true
fi
