package server

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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

// BenchmarkSignWorkload is what the certificate of one identity costs when 100 agents ask
// for theirs. cpu-ns/op is the processor time of both ends, with TLS and gRPC between
// them, and without the agent's key and request.
func BenchmarkSignWorkload(b *testing.B) {
	const nodes = 100
	agents, request := signers(b, nodes), csr(b)
	before, n := cpuTime(b), 0
	b.ReportAllocs()
	for b.Loop() {
		if _, err := agents[n%nodes].SignWorkload(b.Context(), idA, request); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/float64(n), "cpu-ns/op")
}

// cpuTime returns the processor time that this process has used.
func cpuTime(b testing.TB) time.Duration {
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
