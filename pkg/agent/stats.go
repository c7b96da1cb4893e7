package agent

import (
	"context"
	"time"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/agent/nodeapi"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/redirect"
	"github.com/underlane/underlane/pkg/telemetry"
)

var _ telemetry.Agent = reporter{}

// Stats implements telemetry.Agent. If the kernel counters cannot be read, they are
// missing, and NotReady says why.
func (a reporter) Stats() telemetry.Stats {
	kernel, _ := a.datapath.Counters()
	a.observe(kernel)
	lost := kernel[redirect.CounterEventLost]
	delete(kernel, redirect.CounterEventLost)
	stats := telemetry.Stats{
		RingbufLost:        lost,
		KernelEvents:       kernel,
		TapLost:            a.hub.Lost(),
		AcceptsExhausted:   a.conns.Exhausted(),
		ListenersRevived:   a.conns.Revived(),
		ConnectionPanics:   a.conns.Panics() + a.proxy.Panics(),
		PlaintextFallbacks: a.proxy.PlaintextFallbacks(),
		RetriesRefused:     a.proxy.RetriesRefused(),
		PolicyAudited:      a.proxy.PolicyAudited(),
		ExpressionsFailed:  a.proxy.PolicyExpressionsFailed(),
		Checks:             checks(a.proxy.Checks()),
		PolicyDecisions:    a.judged.Totals(),
		PolicyRevoked:      a.proxy.PolicyRevoked() + a.paths.Cuts(),
		KernelPaths:        a.paths.Len(),
		KernelPathsRefused: a.paths.Full(),
		RedirectedPods:     int(a.redirecting().GetPods()),
		RequestsRevoked:    a.proxy.RequestsRevoked(),
		MirrorsDropped:     a.proxy.MirrorsDropped(),
		HTTP2Waiting:       a.proxy.HTTP2Waiting(),
		LimitHits:          a.proxy.LimitHits(),
		Sandboxes:          a.sandboxes.Counts(),
		Repairs:            a.pods.Repaired(),
		Ejections:          a.proxy.Ejections(),
		Pods:               make(map[string]int),
		CertificateExpiry:  make(map[mesh.Identity]time.Time),
		CertificateStart:   make(map[mesh.Identity]time.Time),
	}
	for _, p := range a.pods.Status() {
		stats.Pods[p.State]++
	}
	for _, c := range a.certs.Status() {
		stats.CertificateExpiry[c.Identity], stats.CertificateStart[c.Identity] = c.NotAfter, c.NotBefore
	}
	for _, e := range a.proxy.Endpoints() {
		stats.Endpoints = append(stats.Endpoints, telemetry.Endpoints(e))
	}
	for _, p := range a.ledger.Costs().GetPods() {
		stats.PodCosts = append(stats.PodCosts, telemetry.PodCost{
			Namespace: p.GetNamespace(), Name: p.GetName(), Weight: int(p.GetWeight()),
			Sides: [2]telemetry.Cost{mesh.Outbound: cost(p.GetOutbound()), mesh.Inbound: cost(p.GetInbound())},
		})
	}
	return stats
}

// NotReady implements telemetry.Agent.
func (a reporter) NotReady() []string {
	st := a.Status(context.Background())
	nodeapi.Judge(st)
	return st.NotReady
}

func cost(c *agentv1.Cost) telemetry.Cost {
	return telemetry.Cost{
		Processor: c.GetProcessor().AsDuration(), Waited: c.GetWaited().AsDuration(), Waits: c.GetWaits(),
		Connections: c.GetConnections(), Descriptors: c.GetDescriptors(), Bytes: c.GetBytes(),
	}
}

// Costs implements nodeapi.CostProvider.
func (a reporter) Costs(context.Context) *agentv1.CostsResponse { return a.ledger.Costs() }

// checks returns counts of external authorizers as metrics have them.
func checks(by [request.NumCheckResults]request.CheckCount) map[string]telemetry.CheckTimes {
	out := make(map[string]telemetry.CheckTimes, len(by))
	for r := range by {
		t := telemetry.CheckTimes{Seconds: by[r].Sum.Seconds(), Buckets: map[float64]uint64{}}
		n := uint64(0)
		for i, in := range by[r].Buckets {
			if n += in; i < len(request.CheckBounds) {
				t.Buckets[request.CheckBounds[i].Seconds()] = n
			}
		}
		t.Count = n
		out[request.CheckResult(r).String()] = t
	}
	return out
}
