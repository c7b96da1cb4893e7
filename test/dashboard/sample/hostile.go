package sample

import (
	"math/rand/v2"
	"strings"
)

// Names that no API server allows, but an agent that lies may send: one that turns the
// direction of what follows it, and one that is longer than anything that shows it.
const turning = "report-\u202efdp.exe"

var longName = strings.Repeat("long-name-", 1000)

// hostile adds workloads and namespaces with such names, which call each other and fail, so
// that all views have them.
func (w *World) hostile(r *rand.Rand) {
	long := w.add(r, "deployment", longName, longName, 2)
	turn := w.add(r, "deployment", "ns-"+turning, turning, 2)
	paths := []string{"/" + longName, "/" + turning, "/" + hostileText}
	for _, from := range []*workload{w.byName["shop/gateway"], long} {
		w.link(from, turn, edge{protocol: "http1", rate: 6, median: 3, failing: 0.4, paths: paths})
	}
	w.link(turn, long, edge{protocol: "grpc", rate: 4, median: 2, failing: 0.3, reason: "timeout", secured: "no-identity", paths: paths})
	long.throttled = true
}
