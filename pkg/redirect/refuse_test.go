package redirect

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/mesh"
)

// A pod that is to refuse connections refuses them from outside, whatever its settings, and
// keeps what it opens in the mesh. Withdrawing it ends that.
func TestRefuse(t *testing.T) {
	for name, settings := range map[string]mesh.Settings{
		"open": {}, "closed": {FailClosed: true}, "strict": {Policy: mesh.PolicyStrict},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, settings)
			// Without a listener the kernel would refuse the connection at any rate.
			app, outside := listen(t, r.pod, pod4, 8080), listen(t, r.peer, peer4, 8080)
			if is, err := r.enrolled.Listening(); err != nil || !is {
				t.Errorf("the pod listens: %v, %v; want true", is, err)
			}
			for range 2 { // a second time changes nothing
				if err := r.enrolled.Refuse(); err != nil {
					t.Fatal(err)
				}
				other := *r.workload
				other.Settings.SkipOutboundPorts = append(other.Settings.SkipOutboundPorts, mesh.PortRange{First: 25, Last: 25})
				if err := r.d.Update(&other); err != nil {
					t.Fatal(err)
				}
				if repaired, err := r.d.Repair(); err != nil || len(repaired) > 0 {
					t.Errorf("repaired %q, %v; want nothing", repaired, err)
				}
				c, err := dial(t, r.peer, app.Addr())
				tried(t, "inbound", app, c, err, false, unix.ECONNREFUSED)
			}
			mustDial(t, r.pod, outside.Addr())
			accept(t, r.enrolled.Outbound[0])
			r.d.Withdraw(r.workload.UID)
			c, err := dial(t, r.peer, app.Addr())
			tried(t, "withdrawn", app, c, err, true, 0)
		})
	}
}
