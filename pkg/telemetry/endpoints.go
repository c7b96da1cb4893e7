package telemetry

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// Endpoints says how many endpoints of a service port this node's proxy sends
// requests to, and how many it has ejected.
type Endpoints struct {
	Namespace, Service string
	Port               uint16
	In, Ejected        int
}

var (
	ejectionsDesc = prometheus.NewDesc("underlane_ejections_total", "Endpoints that the balancers took out, by reason.", []string{"reason"}, nil)
	endpointsDesc = prometheus.NewDesc("underlane_endpoints", "Endpoints of the service ports in use, by state.", []string{"dst_namespace", "dst_service", "dst_port", "state"}, nil)
)

// collectEndpoints gives what the balancers know. A port has a balancer for each
// address family: they are added up.
func (c agentCollector) collectEndpoints(out chan<- prometheus.Metric) {
	if c.m.options.Ejections != nil {
		for reason, n := range c.m.options.Ejections() {
			out <- prometheus.MustNewConstMetric(ejectionsDesc, prometheus.CounterValue, float64(n), reason)
		}
	}
	if c.m.options.Endpoints == nil {
		return
	}
	sums := make(map[Endpoints][2]int)
	for _, e := range c.m.options.Endpoints() {
		key := Endpoints{Namespace: e.Namespace, Service: e.Service, Port: e.Port}
		sum := sums[key]
		sums[key] = [2]int{sum[0] + e.In, sum[1] + e.Ejected}
	}
	for key, sum := range sums {
		for i, state := range [...]string{"in", "ejected"} {
			out <- prometheus.MustNewConstMetric(endpointsDesc, prometheus.GaugeValue, float64(sum[i]),
				key.Namespace, key.Service, strconv.Itoa(int(key.Port)), state)
		}
	}
}
