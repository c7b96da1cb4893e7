// Package figures is what an agent remembers of its node's traffic: for each pair of
// workloads that talk, the requests, failures, latencies and connections of the last 15
// minutes, in windows of 10 seconds. The commands stat and edges, the API of the
// controller and the dashboard read it; none of them needs Prometheus.
//
// Store takes events from the tap hub. The window that is being filled consists of
// atomic counters. When it ends, it is encoded to a few tens of bytes for each pair.
// Query reads the windows again. The sub-packages carry the answer over the node API
// (wire) and join the answers of several agents (table).
package figures
