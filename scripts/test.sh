#!/bin/sh
# All tests. As root nothing is left out; without root, what needs namespaces
# and eBPF is, and is named.
set -eu
cd "$(dirname "$0")/.."

# Packages whose tests use the kernel run one after the other: each makes
# namespaces, cgroups and pins, and two cores are no place for several labs. They
# run programs that Go's cache of test results knows nothing of.
kernel='/test/|/pkg/redirect'

packages=$(go list ./...)
echo "== unit"
# shellcheck disable=SC2046
go test -race -timeout 15m $(echo "$packages" | grep -vE "$kernel")
echo "== the test cluster's own parts"
# shellcheck disable=SC2046
(cd test/cluster && go test -timeout 5m $(go list ./... | grep -v /e2e))
echo "== what the conformance suite needs"
(cd test/conformance && go test -timeout 5m -skip '^Test(Conformance|Routes)$' ./...)
if [ "$(id -u)" -ne 0 ]; then
    echo "== left out, for they need root (network namespaces, cgroups, eBPF):"
    echo "$packages" | grep -E "$kernel"
    exit 0
fi
echo "== eBPF on $(uname -r), the lab, and end to end"
# shellcheck disable=SC2046
go test -count=1 -p 1 -timeout 40m $(echo "$packages" | grep -E "$kernel")
