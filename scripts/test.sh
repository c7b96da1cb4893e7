#!/bin/sh
# All tests. As root nothing is left out; without root, what needs namespaces
# and eBPF is, and is named. FULL=1 is `make test-full`: with what takes long and
# rarely fails (tests whose names begin with TestFull, and all ways of
# test/programs).
set -eu
cd "$(dirname "$0")/.."

# Packages whose tests use the kernel run one after the other, because some of their
# tests measure time and must be alone. Within test/e2e those that may run two at a
# time do. All of them run programs that Go's cache of test results does not know.
kernel='/test/|/pkg/redirect'
skip='^TestFull' unit=$skip
if [ -n "${FULL:-}" ]; then
    skip='^$' unit='^TestFullRelease$' # that has a step of its own
    export UNDERLANE_TEST_FULL=1
fi

packages=$(go list ./...)
echo "== unit"
# `make lint` vets.
# shellcheck disable=SC2046
go test -vet=off -race -timeout 15m -skip "$unit" $(echo "$packages" | grep -vE "$kernel")
echo "== without the race detector, for which they take too long or count what it changes"
go test -vet=off -timeout 5m -run 'Allocations$' ./pkg/l7proxy/...
go test -vet=off -timeout 15m -skip "$skip" ./pkg/controller/history
if [ -n "${FULL:-}" ]; then
    echo "== a release of all platforms, twice"
    go test -vet=off -timeout 90m -run '^TestFullRelease$' ./internal/tools/release
fi
echo "== the test cluster's own parts"
# shellcheck disable=SC2046
(cd test/cluster && go test -vet=off -timeout 5m $(go list ./... | grep -v /e2e))
echo "== what the conformance suite needs"
(cd test/conformance && go test -vet=off -timeout 5m -skip '^Test(Conformance|Routes)$' ./...)
echo "== what an API server says of objects of our kinds"
(cd test/crds && go test -vet=off -timeout 5m ./...)
if [ "$(id -u)" -ne 0 ]; then
    echo "== left out, for they need root (network namespaces, cgroups, eBPF):"
    echo "$packages" | grep -E "$kernel"
    exit 0
fi
echo "== eBPF on $(uname -r), the lab, and end to end"
# The programs of the lab are built once for all packages.
UNDERLANE_TEST_BIN=$(mktemp -d)
export UNDERLANE_TEST_BIN
trap 'rm -rf "$UNDERLANE_TEST_BIN"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
CGO_ENABLED=0 go build -o "$UNDERLANE_TEST_BIN/" ./cmd/agent ./cmd/controller ./test/lab/cmd/lab ./test/lab/labtest
# shellcheck disable=SC2046
go test -vet=off -count=1 -p 1 -timeout 40m -skip "$skip" $(echo "$packages" | grep -E "$kernel")
