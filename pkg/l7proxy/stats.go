package l7proxy

import (
	"iter"

	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
)

// Gate returns the gate of the node's mTLS handshakes.
func (p *components) Gate() *mtls.Gate { return p.upstream.Gate() }

// PlaintextFallbacks counts connections that were made without TLS because the agent of
// the server's node did not answer.
func (p *components) PlaintextFallbacks() uint64 { return p.upstream.Fallbacks() }

// Panics counts streams of shared connections that were cut because of a panic.
func (p *components) Panics() uint64 { return p.panics.Load() }

// RetriesRefused counts retries that a Service's budget did not allow.
func (p *components) RetriesRefused() uint64 { return p.core.RetriesRefused() }

// PolicyExpressionsFailed counts requests of which an expression of a policy failed.
func (p *components) PolicyExpressionsFailed() uint64 { return p.directory.ExpressionsFailed() }

// Checks returns how often external authorizers were asked, and for how long.
func (p *components) Checks() (out [request.NumCheckResults]request.CheckCount) {
	for r := range out {
		out[r] = p.core.Authorizers.Counts.Of(request.CheckResult(r))
	}
	return out
}

// PolicyAudited counts requests and connections that policies ask to report.
func (p *components) PolicyAudited() uint64 { return p.directory.Audited() }

// PolicyRevoked counts connections that were cut because the policy of the server's pod has
// changed and does not allow them any more.
func (p *components) PolicyRevoked() uint64 { return p.revoked.Load() }

// RequestsRevoked counts requests under way that were cut because the policy of the server's
// pod has changed and does not allow them any more.
func (p *components) RequestsRevoked() uint64 { return p.cut.Load() }

// MirrorsDropped counts copies of requests that were not made or got no complete response.
func (p *components) MirrorsDropped() uint64 { return p.core.Mirrors.Dropped() }

// HTTP2Waiting counts the requests that wait for a stream of an HTTP/2 connection to
// their endpoint now.
func (p *components) HTTP2Waiting() int { return p.upstream.Stats().WaitingHTTP2 }

// Ejections counts ejections of endpoints by cause: "unreachable" or "failures".
func (p *components) Ejections() map[string]uint64 { return p.endpoints.Ejections() }

// Endpoints counts the endpoints of all service ports in use.
func (p *components) Endpoints() []endpoints.Count { return p.endpoints.Counts() }

// Ejected returns the endpoints that are ejected now.
func (p *components) Ejected() []endpoints.Ejected { return p.endpoints.Ejected() }

// PodUsage returns what each pod of this node uses, and has used, in each direction in
// which it has had connections.
func (p *components) PodUsage() iter.Seq[quota.Used] { return p.pods.All() }

// SetPodWeight sets a pod's weight, by which it gets processor time while several pods want
// it. It is that of cpu.weight (cgroup v2), and is brought into the bounds of
// fairshare.Account.SetWeight.
func (p *components) SetPodWeight(uid string, weight int) { p.pods.SetWeight(uid, weight) }

// RetainPods forgets what the pods have used for whose UID keep returns false and that have
// no connections. It must be called now and then.
func (p *components) RetainPods(keep func(uid string) bool) { p.pods.Retain(keep) }

// LimitHits counts what was refused because a limit was reached, by the limit's name in
// the metrics.
func (p *components) LimitHits() map[string]uint64 {
	return map[string]uint64{
		"pod-connections-outbound": p.pods.RefusedConns(mesh.Outbound),
		"pod-connections-inbound":  p.pods.RefusedConns(mesh.Inbound),
		"source-connections":       p.pods.RefusedSources(),
		"source-descriptors":       p.pods.RefusedDescriptors(),
		"source-silent":            p.pods.EvictedSilent(),
		"pod-buffer":               p.pods.RefusedStreams(),
		"pod-buffer-ended":         p.pods.Ended(),
		"pod-streams":              p.pods.RefusedMany(),
		"rate-limit-values":        p.directory.ManyValues(),
		"endpoint-connections":     p.upstream.RefusedRequests(),
		"http2-flood":              p.h2.Floods() + p.muxFloods.Load(),
		"http2-resets":             p.h2.Paced() + p.muxPaced.Load(),
		"handshakes-inbound":       p.upstream.Gate().Stats().Refused,
		"handshakes-outbound":      p.upstream.HandshakesTimedOut(),
	}
}
