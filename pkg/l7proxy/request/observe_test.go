package request

import (
	"testing"

	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// atPod is a target at a pod.
type atPod struct {
	destination.Target
	pod *mesh.Workload
}

func (a atPod) Peer() tap.Peer { return tap.Peer{Workload: a.pod} }

// TestWhereTracesBegin says whose sampling counts, and at which agent a trace begins.
func TestWhereTracesBegin(t *testing.T) {
	always, parent, off := &mesh.TraceSampling{PerMillion: 1_000_000}, &mesh.TraceSampling{}, &mesh.TraceSampling{Off: true}
	pod := func(s *mesh.TraceSampling) *mesh.Workload {
		return &mesh.Workload{Settings: mesh.Settings{TraceSampling: s}}
	}
	for name, tc := range map[string]struct {
		direction             mesh.Direction
		tls                   string
		agent, client, server *mesh.TraceSampling
		begins, goesOn        bool // without a context, and with one that is sampled
	}{
		"outbound, agent's rate":                {mesh.Outbound, "", always, nil, nil, true, true},
		"outbound, client's rate":               {mesh.Outbound, "", parent, always, off, true, true},
		"outbound, off for the client":          {mesh.Outbound, "", always, off, always, false, false},
		"outbound, parent":                      {mesh.Outbound, "", parent, nil, always, false, true},
		"inbound from an agent":                 {mesh.Inbound, tap.TLSTrue, always, nil, always, false, true},
		"inbound from an agent, off":            {mesh.Inbound, tap.TLSTrue, always, always, off, false, false},
		"inbound from outside, agent's rate":    {mesh.Inbound, tap.TLSNoIdentity, always, nil, nil, true, true},
		"inbound from outside, server's rate":   {mesh.Inbound, tap.TLSNoIdentity, parent, off, always, true, true},
		"inbound from outside, server's parent": {mesh.Inbound, tap.TLSNoIdentity, always, always, parent, false, true},
		"no receiver":                           {mesh.Outbound, "", nil, always, always, false, false},
	} {
		s := &Session{}
		s.Connection = Connection{Core: &Core{Sampling: tc.agent}, Direction: tc.direction, TLS: tc.tls, Source: tap.Peer{Workload: pod(tc.client)}, Target: atPod{pod: pod(tc.server)}}
		for context, want := range map[string]bool{"": tc.begins, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01": tc.goesOn} {
			o := Observed{Version: "1.1"}
			if context != "" {
				o.Add("traceparent", context)
			}
			o.Add("user-agent", "curl")
			var line Line
			s.Observe(&o, &line)
			if got := line.Trace != nil; got != want {
				t.Errorf("%s, traceparent %q: sampled %v, want %v", name, context, got, want)
			}
			if line.Head != nil != want || want && *line.Head != (tap.Head{Version: "1.1", UserAgent: "curl"}) {
				t.Errorf("%s, traceparent %q: the head is %+v, want one: %v", name, context, line.Head, want)
			}
		}
	}
}
