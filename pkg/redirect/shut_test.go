package redirect

import (
	"strconv"
	"testing"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/redirect/netns"
	"golang.org/x/sys/unix"
)

// A strict pod that cannot be enrolled yet is closed, and opens by being enrolled
// or withdrawn. What it opens itself is left alone meanwhile.
func TestShut(t *testing.T) {
	r := newRig(t, mesh.Settings{Policy: mesh.PolicyStrict})
	app, outside := listen(t, r.pod, pod4, 8080), listen(t, r.peer, peer4, 8080)
	r.d.Withdraw(r.workload.UID)
	r.enrolled.CloseListeners()
	shut := func() {
		t.Helper()
		ns, err := netns.Open("/proc/self/fd/" + strconv.Itoa(r.pod.FD()))
		if err == nil {
			err = r.d.Shut(r.workload, ns)
		}
		if err != nil {
			t.Fatal(err)
		}
		c, err := dial(t, r.peer, app.Addr())
		tried(t, "shut: inbound", app, c, err, false, unix.ECONNREFUSED)
		c, err = dial(t, r.pod, outside.Addr())
		tried(t, "shut: outbound", outside, c, err, true, 0)
	}
	for range 2 { // a second time changes nothing
		shut()
	}
	if repaired, err := r.d.Repair(); err != nil || len(repaired) > 0 {
		t.Errorf("repaired %q, %v", repaired, err)
	}
	r.enroll(t)
	mustDial(t, r.peer, app.Addr())
	accept(t, r.enrolled.Inbound[0])
	mustDial(t, r.pod, outside.Addr())
	accept(t, r.enrolled.Outbound[0])
	r.d.Withdraw(r.workload.UID)
	shut()
	open := *r.workload
	open.Settings.Policy = mesh.PolicyAllow
	if err := r.d.Update(&open); err != nil {
		t.Fatal(err)
	}
	c, err := dial(t, r.peer, app.Addr())
	tried(t, "not strict any more", app, c, err, true, 0)
	r.d.Withdraw(r.workload.UID)
	shut()
	r.d.Withdraw(r.workload.UID)
	c, err = dial(t, r.peer, app.Addr())
	tried(t, "withdrawn", app, c, err, true, 0)
}

// A strict pod whose enrolment fails is as shut.
func TestStrictStaysShutWhenItCannotBeEnrolled(t *testing.T) {
	for _, policy := range []mesh.PolicyMode{mesh.PolicyAllow, mesh.PolicyStrict} {
		t.Run(policy.String(), func(t *testing.T) {
			r := newRig(t, mesh.Settings{Policy: policy})
			app := listen(t, r.pod, pod4, 8080)
			r.d.Withdraw(r.workload.UID)
			r.enrolled.CloseListeners()
			listeners := r.d.objs.Listeners
			r.d.objs.Listeners = r.d.objs.Pods // takes no such key
			ns, err := netns.Open("/proc/self/fd/" + strconv.Itoa(r.pod.FD()))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.d.Enroll(r.workload, ns); err == nil {
				t.Fatal("enrolled without a map of listeners")
			}
			r.d.objs.Listeners = listeners
			c, err := dial(t, r.peer, app.Addr())
			tried(t, "inbound", app, c, err, policy == mesh.PolicyAllow, unix.ECONNREFUSED)
			r.enroll(t)
			mustDial(t, r.peer, app.Addr())
			accept(t, r.enrolled.Inbound[0])
		})
	}
}
