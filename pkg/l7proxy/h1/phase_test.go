package h1

import (
	"testing"

	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// TestOver: only an exchange whose request is kept for policies, or whose response has not
// gone out whole, has something left for over to do.
func TestOver(t *testing.T) {
	for name, tc := range map[string]struct {
		rules *authz.Workload
		whole bool
		want  bool
	}{
		"no policy looked at it": {nil, true, false},
		"cut in its response":    {nil, false, true},
		"kept for policies":      {&authz.Workload{}, true, true},
	} {
		client := &watchedConn{}
		d := &session{}
		d.driver, d.s = &Driver{}, &request.Session{}
		d.s.Direction = mesh.Inbound // no EgressNetwork is asked
		d.watched.Store(true)
		d.first.Rules = tc.rules
		d.keepRequest()
		d.beginWait(client)
		d.sent()
		d.answers(tc.whole)
		if d.pending != tc.want {
			t.Errorf("%s: pending is %v, want %v", name, d.pending, tc.want)
		}
		d.over()
		if d.pending || d.phase.waits != nil || d.phase.underway != (underway{}) {
			t.Errorf("%s: after the exchange there is still %+v", name, &d.phase)
		}
	}
}

// BenchmarkPhase is what an exchange of which no policy has looked at the request costs for
// others to see what the session does.
func BenchmarkPhase(b *testing.B) {
	client := &watchedConn{}
	d := &session{}
	d.driver, d.s = &Driver{}, &request.Session{}
	d.s.Direction = mesh.Inbound // no EgressNetwork is asked
	d.watched.Store(true)
	b.ReportAllocs()
	for b.Loop() {
		d.keepRequest()
		d.beginWait(client)
		d.sent()
		d.answers(true)
		d.over()
		d.over() // exchange calls it twice
	}
}
