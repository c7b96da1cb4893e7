package table

import (
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/tap/filter"
)

// millis returns d in milliseconds, to 3 digits that count.
func millis(d time.Duration) float64 {
	ms := float64(d) / float64(time.Millisecond)
	if ms == 0 {
		return 0
	}
	unit := math.Pow(10, 2-math.Floor(math.Log10(math.Abs(ms))))
	return math.Round(ms*unit) / unit
}

func mean(sum time.Duration, n uint64) float64 {
	if n == 0 {
		return 0
	}
	return millis(time.Duration(float64(sum) / float64(n)))
}

// sumsJSON converts sums for the API.
func sumsJSON(s *figures.Sums, buckets bool) *tapv1alpha1.Sums {
	out := &tapv1alpha1.Sums{Requests: s.Requests(), Success: s.Success, Retries: s.Retries, Denied: s.Denied, Audited: s.Audited}
	for _, f := range s.Failures {
		name := f.Reason.String()
		if f.Reason == mesh.ReasonNone {
			name = tapv1alpha1.ReasonStatus
		}
		if out.Failures == nil {
			out.Failures = map[string]uint64{}
		}
		out.Failures[name] += f.Count
	}
	if h := s.Latency; h != nil && h.Count() > 0 {
		out.Latency = &tapv1alpha1.Latency{
			P50: millis(h.Quantile(0.5)), P95: millis(h.Quantile(0.95)), P99: millis(h.Quantile(0.99)), Max: millis(h.Max()),
		}
		if buckets {
			for bucket, n := range h.Buckets() {
				out.Latency.Buckets = append(out.Latency.Buckets, [2]int64{int64(bucket), int64(n)})
			}
		}
	}
	if n := s.Requests(); n > 0 {
		out.Split = &tapv1alpha1.Split{
			Queue: mean(s.Parts[figures.Queue], n), Connect: mean(s.Parts[figures.Connect], n), TLS: mean(s.Parts[figures.TLS], n),
			FirstByte: mean(s.Parts[figures.FirstByte], n), Body: mean(s.Parts[figures.Body], n),
		}
	}
	if s.Opened+s.Closed+s.Failed+s.Open+s.Read+s.Written > 0 {
		out.TCP = &tapv1alpha1.TCP{
			Open: s.Open, Opened: s.Opened, Closed: s.Closed, Failed: s.Failed, ReadBytes: s.Read, WriteBytes: s.Written,
			SRTT: mean(s.SRTT, s.SRTTs), MinRTT: mean(s.MinRTT, s.SRTTs), Retransmits: s.Retransmits,
		}
	}
	return out
}

// carriesNot begins the reason of an edge whose ends are both in the mesh.
const (
	carriesNot = "one side's agent did not carry it: "
	passedBy   = "the port is skipped, or the connection was made while the agent was away, or before the pod was in the mesh"
)

// notSecured joins the reasons of an edge. A connection that failed before its handshake was
// complete, for example because the client went away, has no identity either, but nothing
// passed in the clear. silent means that an agent of one side does not answer now.
func notSecured(total *figures.Sums, whys map[string]bool, silent bool) string {
	delete(whys, "")
	if len(whys) > 0 && total.Failed > 0 && total.Requests()+total.Opened+total.Open+total.Read+total.Written == 0 {
		return "nothing passed: all connections failed"
	}
	texts := slices.Sorted(maps.Keys(whys))
	for i, text := range texts {
		if cause, ok := strings.CutPrefix(text, carriesNot); ok && silent {
			texts[i] = carriesNot + "it does not answer now, or " + cause
		}
	}
	return strings.Join(texts, "; ")
}

// unsecured says why what has this value of tls= is not secured, "" if it is. It is the same
// for what the ends are counted in: pods, workloads or namespaces.
func unsecured(tls string, source, destination *figures.End) string {
	switch tls {
	case tap.TLSTrue, tap.TLSSameNode:
		return ""
	case tap.TLSAgentDown:
		return "the agent of the server's node did not answer, and plaintext is allowed"
	case tap.TLSNotProxied:
		if source.Kind == figures.KindNode {
			return "no agent carries it: it is of the node itself, such as the kubelet's probes"
		}
		return "no agent carries it: " + passedBy
	}
	switch {
	case source.Kind == tapv1alpha1.KindExternal:
		return "the client is outside the mesh"
	case destination.Kind == tapv1alpha1.KindExternal:
		return "the server is outside the mesh"
	case destination.Kind == "", destination.Kind == string(filter.KindService):
		return "no endpoint was found"
	case !source.Meshed:
		return "the client is not in the mesh"
	case !destination.Meshed:
		return "the server is not in the mesh"
	}
	return carriesNot + passedBy
}
