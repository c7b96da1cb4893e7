#!/bin/sh
# The dashboard with generated data, built anew as its sources change, until Ctrl-C.
set -eu
cd "$(dirname "$0")/.."
web/build.sh
go build -o bin/dashboard-sample ./test/dashboard/cmd/sample
bin/dashboard-sample -addr 127.0.0.1:8084 &
sample=$!
trap 'kill "$sample"' EXIT
cd web && node_modules/.bin/vite --port 8085 --strictPort
