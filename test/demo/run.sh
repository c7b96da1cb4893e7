#!/bin/sh
# Brings the demo up on a lab of two nodes, serves its dashboard and leaves both running
# until Ctrl-C. With ONCE=1 it checks itself instead and exits 0 or 1. Either way the lab
# is taken down again. DASHBOARD_PORT is the port of the dashboard. `make demo` builds what this needs and calls it, as root.
set -eu
cd "$(dirname "$0")/../.."

if [ "$(id -u)" -ne 0 ]; then
    echo "the demo makes network namespaces and loads eBPF: run it as root" >&2
    exit 1
fi
for program in lab agent controller emojivote democheck; do
    if [ ! -x "bin/$program" ]; then
        echo "bin/$program is missing: run 'make demo', or 'make build-demo' first" >&2
        exit 1
    fi
done

# down takes the lab down once, whatever ended this script, and keeps its exit
# status.
dashboard=
said=
down() {
    status=$?
    trap - EXIT
    trap '' INT TERM HUP
    [ -z "$dashboard" ] || kill "$dashboard" 2>/dev/null || true
    [ -z "$said" ] || rm -f "$said"
    if [ "$status" -eq 1 ]; then
        for log in controller node-1 node-2; do
            echo "--- the end of the log of $log"
            bin/lab logs "$log" 2>&1 | tail -n 20
        done
    fi >&2
    echo "taking the lab down…"
    bin/lab down || { echo "'bin/lab down' failed: run it again, it clears what is left" >&2; status=1; }
    exit "$status"
}
trap down EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

bin/lab up test/demo/manifests

if [ "${ONCE:-}" = 1 ]; then
    bin/democheck
    exit
fi

# What it says is its address, or why it cannot be served.
said=$(mktemp)
bin/lab dashboard ${DASHBOARD_PORT:+--port "$DASHBOARD_PORT"} >"$said" 2>&1 &
dashboard=$!
until url=$(grep -m 1 '^http://' "$said") || ! kill -0 "$dashboard" 2>/dev/null; do
    sleep 0.1
done

bin/lab pods
cat <<TEXT

The demo runs on two nodes. In another terminal, in $(pwd):

  how it goes      bin/lab stat deploy
  what happens     bin/lab tap deploy/web
                   bin/lab agent node-2 -- tap deploy/voting -o wide
  what goes wrong  bin/lab agent node-1 -- top
  is it well?      bin/lab agent node-1 -- check
                   bin/lab agent node-2 -- status
  the page         bin/lab exec -n emojivote deploy/vote-bot -- emojivote get http://web/
  a vote           bin/lab exec -n emojivote deploy/vote-bot -- emojivote get 'http://web/api/vote?choice=:pizza:'
  the one that     bin/lab exec -n emojivote deploy/vote-bot -- emojivote get 'http://web/api/vote?choice=:doughnut:'
  fails
  speaks first     bin/lab exec -n emojivote deploy/web -- emojivote banner-client banner:3306
  a canary         bin/lab apply test/demo/canary.yaml
  joins the mesh   bin/lab label pod/outsider underlane.io/mesh=enabled
  on the wire      bin/lab node-exec node-1 -- tcpdump -ni eth0 -A 'tcp port 8080'
  in the kernel    find /sys/fs/bpf/underlane-lab
                   bpftool map dump pinned /sys/fs/bpf/underlane-lab/node-1/pods
                   bpftool cgroup tree
  an outage        bin/lab kill-agent node-1; bin/lab start-agent node-1
  all checks       bin/democheck

Ctrl-C ends it and takes everything down. The dashboard, all of this to click:

  ${url:-$(cat "$said")}
TEXT
# A wait, unlike a sleep in the foreground, is interrupted by a signal at once.
sleep infinity &
sleeper=$!
trap 'kill $sleeper; exit 0' INT
trap 'kill $sleeper; exit 143' TERM HUP
wait $sleeper
