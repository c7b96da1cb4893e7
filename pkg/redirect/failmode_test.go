package redirect

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"golang.org/x/sys/unix"
)

// hang makes the agent look hung: its listeners are there, its heartbeat is old.
func (r *rig) hang(t *testing.T) {
	t.Helper()
	r.d.heart.Stop()
	r.d.opts.HeartbeatTimeout = time.Millisecond
	if err := r.d.beat(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
}

// tried is what became of a dial: nil, or want as its error.
func tried(t *testing.T, what string, l *rawio.Listener, c *rawio.Conn, err error, passes bool, refusal unix.Errno) {
	t.Helper()
	switch {
	case passes && err != nil:
		t.Errorf("%s: %v, want it to pass", what, err)
	case passes:
		accept(t, l)
		c.Close()
	case err == nil:
		c.Close()
		t.Errorf("%s: passed, want %v", what, refusal)
	case !errors.Is(err, refusal):
		t.Errorf("%s: %v, want %v", what, err, refusal)
	}
}

func TestWithdrawAndFailModes(t *testing.T) {
	for name, c := range map[string]struct {
		settings mesh.Settings
		out, in  bool // passes while the agent is away
	}{
		"open":              {mesh.Settings{}, true, true},
		"closed":            {mesh.Settings{FailClosed: true}, false, false},
		"strict":            {mesh.Settings{Policy: mesh.PolicyStrict}, true, false},
		"strict and closed": {mesh.Settings{Policy: mesh.PolicyStrict, FailClosed: true}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, c.settings)
			var apps, outside []*rawio.Listener
			for _, a := range []netip.Addr{pod4, pod6} {
				apps = append(apps, listen(t, r.pod, a, 8080))
			}
			for _, a := range []netip.Addr{peer4, peer6} {
				outside = append(outside, listen(t, r.peer, a, 8080))
			}
			check := func(when string, out, in bool) {
				t.Helper()
				for i := range apps {
					conn, err := dial(t, r.pod, outside[i].Addr())
					tried(t, when+": outbound", outside[i], conn, err, out, unix.EPERM)
					conn, err = dial(t, r.peer, apps[i].Addr())
					tried(t, when+": inbound", apps[i], conn, err, in, unix.ECONNREFUSED)
				}
			}
			r.hang(t)
			check("hung agent", c.out, c.in)
			counts, err := r.d.Counters()
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []bool{c.out, c.in} {
				reason := "refused-stale-agent"
				if want {
					reason = "passed-stale-agent"
				}
				if counts[reason] < 2 {
					t.Errorf("%s was counted %d times, want one for each family", reason, counts[reason])
				}
			}
			// A stopped agent takes no new connections, and a dead one's sockets are
			// closed. The pins stay.
			r.enrolled.Unpublish()
			check("stopped agent", c.out, c.in)
			if err := r.d.Close(); err != nil {
				t.Fatal(err)
			}
			check("dead agent", c.out, c.in)
			// The next agent has not enrolled its pods yet, and then has.
			r.load(t)
			check("new agent", c.out, c.in)
			r.enroll(t)
			mustDial(t, r.pod, outside[0].Addr())
			accept(t, r.enrolled.Outbound[0])
			mustDial(t, r.peer, apps[0].Addr())
			accept(t, r.enrolled.Inbound[0])
			// Taken out, whatever its settings.
			r.d.Withdraw(r.workload.UID)
			check("withdrawn", true, true)
		})
	}
}

// What the annotation said last counts while the agent is away.
func TestStrictIsPutInForceLive(t *testing.T) {
	r := newRig(t, mesh.Settings{})
	app := listen(t, r.pod, pod4, 8080)
	r.hang(t)
	for _, policy := range []mesh.PolicyMode{mesh.PolicyStrict, mesh.PolicyAllow, mesh.PolicyStrict} {
		w := *r.workload
		w.Settings.Policy = policy
		if err := r.d.Update(&w); err != nil {
			t.Fatal(err)
		}
		c, err := dial(t, r.peer, app.Addr())
		tried(t, policy.String(), app, c, err, policy == mesh.PolicyAllow, unix.ECONNREFUSED)
		dump, err := r.d.Dump()
		if err != nil {
			t.Fatal(err)
		}
		if p := dump.Pods[0]; p.FailClosed || p.InboundClosed != (policy == mesh.PolicyStrict) {
			t.Errorf("%s: %+v", policy, p)
		}
	}
}

// A new version whose maps differ leaves strict pods closed until it has enrolled
// them.
func TestMapsOfAnotherVersion(t *testing.T) {
	r := newRig(t, mesh.Settings{Policy: mesh.PolicyStrict})
	app := listen(t, r.pod, pod4, 8080)
	if err := r.d.Close(); err != nil {
		t.Fatal(err)
	}
	pin := filepath.Join(r.options.PinRoot, "pods")
	if err := os.Remove(pin); err != nil {
		t.Fatal(err)
	}
	other, err := ebpf.NewMap(&ebpf.MapSpec{Name: "pods", Type: ebpf.Hash, KeySize: 8, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := other.Pin(pin); err != nil {
		t.Fatal(err)
	}
	r.load(t)
	c, err := dial(t, r.peer, app.Addr())
	tried(t, "before it is enrolled", app, c, err, false, unix.ECONNREFUSED)
	r.enroll(t)
	mustDial(t, r.peer, app.Addr())
	accept(t, r.enrolled.Inbound[0])

	// One that is of the mesh no more is forgotten, although no map tells of it.
	link := r.enrolled.linkPin
	if err := r.d.Close(); err != nil {
		t.Fatal(err)
	}
	r.load(t)
	if err := r.d.objs.Pods.Delete(r.pod.Cookie()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.d.RemoveStale(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(link); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("sk_lookup of a pod that nobody knows is still pinned: %v", err)
	}
}
