package telemetry

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// Endpoints has the number of endpoints of a service port to which this node's
// proxy sends requests, and the number that it has ejected.
type Endpoints struct {
	Namespace, Service string
	Port               uint16
	In, Ejected        int
}

var (
	ejectionsDesc = prometheus.NewDesc("underlane_ejections_total", "Endpoints that the balancers took out, by reason.", []string{"reason"}, nil)
	endpointsDesc = prometheus.NewDesc("underlane_endpoints", "Endpoints of the service ports in use, by state.", []string{"dst_namespace", "dst_service", "dst_port", "state"}, nil)
)

// collectEndpoints exports Endpoints. A port has one balancer for each address
// family, so the counts of both are added.
func (s *Stats) collectEndpoints(out chan<- prometheus.Metric) {
	sums := make(map[Endpoints][2]int)
	for _, e := range s.Endpoints {
		key := Endpoints{Namespace: e.Namespace, Service: e.Service, Port: e.Port}
		sum := sums[key]
		sums[key] = [2]int{sum[0] + e.In, sum[1] + e.Ejected}
	}
	for key, sum := range sums {
		for i, state := range [...]string{"in", "ejected"} {
			gauge(out, endpointsDesc, float64(sum[i]), key.Namespace, key.Service, strconv.Itoa(int(key.Port)), state)
		}
	}
}
