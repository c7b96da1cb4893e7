#!/bin/sh
# The demo on a real cluster: installs Underlane as a user would, runs the same
# application, and checks it as `make demo ONCE=1` does on the lab. The cluster
# stays up; KEEP=1 leaves the application there as well.
set -eu
cd "$(dirname "$0")/../../.."

step() { echo "== $*"; "$@"; }
kubectl() { bin/cluster kubectl -- "$@"; }

step bin/cluster up ${CGROUP:+--cgroup "$CGROUP"}
if ! kubectl get -n underlane-system deploy/underlane-controller >/dev/null 2>&1; then
    step bin/cluster exec -- "$PWD/bin/underlane" install --apply \
        --set image.registry=registry.underlane.test --set image.tag=dev
fi
step bin/cluster exec -- "$PWD/bin/underlane" check --wait 3m

# The lab takes programs from the host, a cluster from an image.
manifests=bin/demo
mkdir -p "$manifests"
for file in test/demo/manifests/*.yaml; do
    sed 's|image: emojivote.*|image: registry.underlane.test/emojivote:dev|' "$file" >"$manifests/${file##*/}"
done
if [ "${KEEP:-}" != 1 ]; then
    trap 'kubectl delete --ignore-not-found --wait=false -f "$manifests"' EXIT
fi
kubectl apply -f "$manifests/namespace.yaml"
kubectl apply -f "$manifests"
for deployment in web emoji voting banner vote-bot; do
    kubectl rollout status -n emojivote "deploy/$deployment" --timeout 300s
done
kubectl wait --for=condition=Ready --timeout=300s pod/outsider
# A rolled out deployment has only started. The page is complete when all servers
# listen and DNS and endpoints are up to date.
page() { kubectl exec -n emojivote deploy/vote-bot -- emojivote get http://web/ | grep -q 'May the best emoji win!'; }
tries=60
until page; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || { echo "the page is not there" >&2; exit 1; }
    sleep 1
done
bin/democheck --lab test/cluster/demo/lab.sh
