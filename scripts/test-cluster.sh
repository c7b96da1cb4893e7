#!/bin/sh
# Makes a cluster of its own, installs Underlane on it as a user would, proves
# what it promises, and takes it away; KEEP=1 leaves it for looking around.
# RUN=REGEXP chooses tests. CGROUP=v1,v2 makes a node with cgroup v1 alone and
# one with v2 alone, and chooses the tests that could tell them apart. FULL=1 also
# runs the chart's Prometheus and the ingress controller Traefik, which take minutes to build
# the first time.
set -eu
cd "$(dirname "$0")/.."

export UNDERLANE_CLUSTER_NAME="${UNDERLANE_CLUSTER_NAME:-e2e}"
if [ "${KEEP:-}" != 1 ]; then
    trap 'bin/cluster down' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
fi
if [ -n "${CGROUP:-}" ]; then
    export CGROUP
    RUN="${RUN:-TestLabel|TestProbes|TestEveryNode|TestUninstall}"
fi
tests=$PWD/bin/cluster-e2e.test
(cd test/cluster && go test -c -o "$tests" ./e2e)
# run FLAG...: the tests, in the directory of their package.
run() { (cd test/cluster/e2e && "$tests" -test.timeout 40m -test.v "$@"); }
# Three at a time of those that may run beside others: they wait for pods. The test that
# rolls all agents comes late: Kubernetes may stand still for minutes when a DaemonSet is
# updated seconds after it was made. The last test takes Underlane away.
late='^TestEveryNode' last='^TestUninstall'
bare='^TestReleases' # scripts/test-upgrade-cluster.sh runs it
full=
for name in Prometheus IngressController; do
    case "${FULL:+$name}${RUN:-}" in
    *$name*) ;;
    *) full="$full|^Test$name" ;;
    esac
done
run -test.parallel 3 ${RUN:+-test.run "$RUN"} -test.skip "$late|$last|$bare$full"
case "${RUN:-TestEveryNode}" in *EveryNode*)
    run -test.run "$late"
esac
case "${RUN:-TestUninstall}" in *Uninstall*)
    run -test.run "$last"
esac
