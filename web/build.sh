#!/bin/sh
# Builds the dashboard's bundle, pkg/dashboard/dist, from the versions in the lock file.
set -eu
cd "$(dirname "$0")"
need='import process from "node:process"; const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)'
if ! node --input-type=module -e "$need" 2>/dev/null; then
    echo "building the dashboard needs Node 20.19 or newer, this is $(node --version 2>/dev/null || echo none); Go builds with the bundle that is in the repository" >&2
    exit 1
fi
# What is installed is of this lock file, or is installed anew.
stamp=node_modules/.of-lock
if [ ! -e "$stamp" ] || ! cmp -s package-lock.json "$stamp"; then
    npm ci --omit=dev --no-audit --no-fund --loglevel=error
    cp package-lock.json "$stamp"
fi
node_modules/.bin/vite build --logLevel warn
