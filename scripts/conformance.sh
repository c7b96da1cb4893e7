#!/bin/sh
# Makes a cluster of its own, installs the Gateway API and Underlane on it as a
# user would, runs the Gateway API's conformance suite, and takes the cluster
# away; KEEP=1 leaves it, and what is there already is used.
#
#   TestConformance   the suite's tests for meshes; writes the report
#   TestRoutes        its tests of routes at gateways, with Services as parents
#
# What they say, much, is in bin/conformance; what came of each test is printed.
#
# RUN=MeshPorts is one of the suite's tests, without a report.
# CHANNEL=experimental is the API's other channel, which has retries.
set -eu
cd "$(dirname "$0")/.."

export UNDERLANE_CLUSTER_NAME="${UNDERLANE_CLUSTER_NAME:-conformance}"
export GATEWAY_API_CHANNEL="${CHANNEL:-standard}"
UNDERLANE_VERSION="${VERSION:-$(git describe --tags --always --dirty 2>/dev/null || echo dev)}"
export UNDERLANE_VERSION
module=test/conformance
report="$PWD/$module/reports/v1.6/$GATEWAY_API_CHANNEL-$UNDERLANE_VERSION-default-report.yaml"

step() { echo "== $*"; "$@"; }
kubectl() { bin/cluster kubectl -- "$@"; }
runner() { kubectl -n gateway-conformance-runner "$@"; }

step bin/cluster images echo echo-basic conformance
crds=$(cd $module && go list -m -f '{{.Dir}}' sigs.k8s.io/gateway-api)/config/crd/$GATEWAY_API_CHANNEL

keep=true
if [ "${KEEP:-}" != 1 ]; then
    keep=false
    trap 'bin/cluster down' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
fi
# One that somebody made with options of its own is good as it is.
kubectl get nodes >/dev/null 2>&1 || step bin/cluster up
step bin/cluster load bin/images/echo.tar bin/images/echo-basic.tar bin/images/conformance.tar
for file in "$crds"/gateway.networking.*.yaml; do
    kubectl apply --server-side -f "$file"
done
if ! kubectl get -n underlane-system deploy/underlane-controller >/dev/null 2>&1; then
    step bin/cluster exec -- "$PWD/bin/underlane" install --apply \
        --set image.registry=registry.underlane.test --set image.tag=dev
fi
step bin/cluster exec -- "$PWD/bin/underlane" check --wait 3m

# run NAME COMMAND...: a test with its log in a file.
failed=
logs=bin/conformance
mkdir -p "$logs"
run() {
    name=$1
    shift
    echo "== $* >$logs/$name.log"
    "$@" >"$logs/$name.log" 2>&1 || failed="$failed $name"
    grep -E '^ {0,8}--- |^panic|^ +--- FAIL' "$logs/$name.log" || tail "$logs/$name.log"
}

# TestRoutes, in its pod.
routes() {
    kubectl apply -f $module/runner.yaml
    runner delete pod routes --ignore-not-found
    runner run routes --image=registry.underlane.test/conformance:dev --restart=Never \
        --env=GATEWAY_API_CHANNEL="$GATEWAY_API_CHANNEL" --overrides='{"spec": {"serviceAccountName": "runner"}}' \
        -- -test.run='^TestRoutes$' "$@"
    runner wait pod routes --for=jsonpath='{.status.containerStatuses[0].started}'=true --timeout=180s
    runner logs -f routes
    runner wait pod routes --for=jsonpath='{.status.phase}'=Succeeded --timeout=60s
}

# Flags of the suite, for both tests.
set -- -test.v -test.timeout=30m -cleanup-base-resources="$([ $keep = true ] && echo false || echo true)" ${RUN:+-run-test="$RUN"}
case "${RUN:-Mesh}" in Mesh*)
    mkdir -p "${report%/*}"
    if [ -n "${RUN:-}" ]; then
        report=
    fi
    run TestConformance bin/cluster exec -- "$PWD/bin/images/bin/conformance" -test.run='^TestConformance$' "$@" -report-output="$report"
esac
case "${RUN:-HTTPRoute}" in HTTPRoute* | GRPC*)
    run TestRoutes routes "$@"
esac
if [ -n "$failed" ]; then
    echo "failed:$failed" >&2
    exit 1
fi
