package server

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/underlane/underlane/pkg/mesh"
)

// BenchmarkSnapshot is what a change costs in a cluster of 10,000 pods and
// 1,000 services.
func BenchmarkSnapshot(b *testing.B) {
	var c Content
	addr := podA
	for i := range 10_000 {
		c.Workloads = append(c.Workloads, pod(fmt.Sprint("p", i), fmt.Sprint("n", i%100), addr))
		addr = addr.Next()
	}
	clusterIP := vip
	for i := range 1000 {
		s := serviceOf(c.Workloads[i*10 : i*10+10]...)
		s.Name, s.VIPs = fmt.Sprint("s", i), []netip.Addr{clusterIP}
		clusterIP = clusterIP.Next()
		c.Services = append(c.Services, s)
	}
	last := NewSnapshot(1, c, nil)
	b.ReportAllocs()
	for b.Loop() {
		changed := *c.Workloads[0]
		changed.Ready = !changed.Ready
		c.Workloads = append([]*mesh.Workload{&changed}, c.Workloads[1:]...)
		last = NewSnapshot(last.version+1, c, last)
	}
}
