#!/bin/sh
# Builds the dashboard's bundle, pkg/dashboard/dist, from the versions in the lock file.
set -eu
cd "$(dirname "$0")"
. ./node.sh
# What is installed is of this lock file, or is installed anew.
stamp=node_modules/.of-lock
if [ ! -e "$stamp" ] || ! cmp -s package-lock.json "$stamp"; then
    npm ci --omit=dev --no-audit --no-fund --loglevel=error
    cp package-lock.json "$stamp"
fi
node_modules/.bin/vite build --logLevel warn
