#!/bin/sh
# Makes a cluster of its own, installs the release before with its command line, and
# brings it to this version and back, under traffic, with the files of a release of this
# source tree (TestReleases in test/cluster/e2e). RUN=command or Helm is one way only. KEEP=1 leaves
# the cluster, where the next run has to find no Underlane.
set -eu
cd "$(dirname "$0")/.."

export UNDERLANE_CLUSTER_NAME="${UNDERLANE_CLUSTER_NAME:-upgrade}" BARE=1
if [ "${KEEP:-}" != 1 ]; then
    trap 'bin/cluster down' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
fi
tests=$PWD/bin/cluster-e2e.test
(cd test/cluster && go test -c -o "$tests" ./e2e)
(cd test/cluster/e2e && "$tests" -test.timeout 40m -test.v -test.run "^TestReleases\$/${RUN:-.}")
