#!/bin/sh
# Runs the commands of the lab that democheck uses on the cluster: pods, exec,
# node-exec and agent, with the arguments of bin/lab.
set -eu
cd "$(dirname "$0")/../../.."

kubectl() { bin/cluster kubectl -- "$@"; }

# agent_on NAME prints the name of the agent's pod on a node.
agent_on() {
    kubectl get pods -n underlane-system -l app.kubernetes.io/name=underlane-agent \
        --field-selector "spec.nodeName=$1" -o 'jsonpath={.items[0].metadata.name}'
}

verb=$1
shift
case $verb in
pods)
    kubectl get pods -A --field-selector status.phase=Running -o custom-columns=NAMESPACE:.metadata.namespace,NAME:.metadata.name,NODE:.spec.nodeName,IP:.status.podIP ;;
exec) # -n NAMESPACE POD -- PROGRAM ARGS...
    namespace=$2 pod=$3 program=$5
    shift 5
    kubectl exec -n "$namespace" "$pod" -- "$program" "$@" ;;
node-exec) # NODE -- COMMAND...
    exec bin/cluster exec "$@" ;;
agent) # NODE -- ARGS...
    pod=$(agent_on "$1")
    shift 2
    kubectl exec -n underlane-system "$pod" -- /agent "$@" ;;
*)
    echo "lab.sh: unknown verb $verb" >&2
    exit 2 ;;
esac
