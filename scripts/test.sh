#!/bin/sh
# All tests. As root nothing is left out; without root, what needs namespaces
# and eBPF is, and is named. FULL=1 is `make test-full`: with what takes long and
# rarely fails (tests whose names begin with TestFull, and all ways of
# test/programs). PART=unit and PART=kernel are the two parts of it.
set -eu
cd "$(dirname "$0")/.."
# What is temporary is in a directory of this run, and goes with it.
[ -n "${UNDERLANE_TMP:-}" ] || exec scripts/tmp.sh scripts/test.sh

# Packages whose tests use the kernel run one after the other, because some of their
# tests measure time and must be alone. Within test/e2e those that may run two at a
# time do. All of them run programs that Go's cache of test results does not know.
kernel='/test/|/pkg/redirect'
# Packages whose tests read and build this tree, or run programs, in one goroutine: there
# is no race to find, and the race detector makes them three times as slow.
plain='/internal/(archtest|docstest|scriptstest|tools/)'
skip='^TestFull' unit=$skip
if [ -n "${FULL:-}" ]; then
    skip='^$' unit='^TestFullRelease$' # that has a step of its own
    export UNDERLANE_TEST_FULL=1
fi
packages=$(go list ./...)

# `make lint` vets.
tests() { go test -vet=off "$@"; }

unit_part() {
    # Three packages at a time, on however few processors: their tests wait half of the time.
    echo "== unit"
    # shellcheck disable=SC2046
    tests -p 3 -race -timeout 15m -skip "$unit" $(echo "$packages" | grep -vE "$kernel|$plain")
    echo "== without the race detector, for which they take too long or count what it changes"
    # shellcheck disable=SC2046
    tests -timeout 15m -skip "$unit" $(echo "$packages" | grep -E "$plain")
    tests -timeout 5m -run '(Allocations|Memory)$' ./pkg/l7proxy/...
    tests -timeout 15m -skip "$skip" ./pkg/controller/history
    if [ -n "${FULL:-}" ]; then
        echo "== a release of all platforms, twice"
        tests -timeout 90m -run '^TestFullRelease$' ./internal/tools/release
    fi
    echo "== the test cluster's own parts"
    # shellcheck disable=SC2046
    (cd test/cluster && tests -timeout 5m $(go list ./... | grep -v /e2e))
    echo "== what the conformance suite needs"
    (cd test/conformance && tests -timeout 5m -skip '^Test(Conformance|Routes)$' ./...)
    echo "== what an API server says of objects of our kinds"
    (cd test/crds && tests -timeout 5m ./...)
}

kernel_part() {
    if [ "$(id -u)" -ne 0 ]; then
        echo "== left out, for they need root (network namespaces, cgroups, eBPF):"
        echo "$packages" | grep -E "$kernel"
        return
    fi
    echo "== eBPF on $(uname -r), the lab, and end to end"
    # The programs of the lab are built once for all packages.
    export UNDERLANE_TEST_BIN="$UNDERLANE_TMP/lab"
    CGO_ENABLED=0 go build -o "$UNDERLANE_TEST_BIN/" ./cmd/agent ./cmd/controller ./test/lab/cmd/lab ./test/lab/labtest
    # shellcheck disable=SC2046
    tests -count=1 -p 1 -timeout 40m -skip "$skip" $(echo "$packages" | grep -E "$kernel")
}

case "${PART:-}" in
unit) unit_part ;;
kernel) kernel_part ;;
'')
    unit_part
    kernel_part
    ;;
*)
    echo "PART=$PART: it is unit, kernel or nothing" >&2
    exit 2
    ;;
esac
