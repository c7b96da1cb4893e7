package layout

import (
	"strings"
	"testing"
)

const mounts = `proc /proc proc rw 0 0
cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
`

func TestAddrs(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{NodeAddrs(2)[0].String(), "192.168.77.2"},
		{NodeAddrs(2)[1].String(), "fd77::2"},
		{ControllerAddrs()[1].String(), "fd77::fe"},
		{PodCIDRs(3)[0].String(), "10.77.3.0/24"},
		{PodCIDRs(3)[1].String(), "fd77:1:3::/64"},
		{PodAddrs(1, 10)[0].String(), "10.77.1.10"},
		{PodAddrs(1, 10)[1].String(), "fd77:1:1::a"},
		{ServiceAddrs(300)[0].String(), "10.78.1.44"},
		{ServiceAddrs(300)[1].String(), "fd78::12c"},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
}

func TestNamesOfTwoLabsAreApart(t *testing.T) {
	a, err := New(DefaultName, mounts)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"t", "ul", "t-1", "pod"} {
		b, err := New(name, mounts)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(b.NetnsPrefix(), a.NetnsPrefix()) || strings.HasPrefix(a.NetnsPrefix(), b.NetnsPrefix()) {
			t.Errorf("prefix %q of lab %s conflicts with %q, want them distinct", b.NetnsPrefix(), name, a.NetnsPrefix())
		}
	}
	if got, want := a.NodeCgroup("node-1"), "/sys/fs/cgroup/unified/underlane-lab/node-1"; got != want {
		t.Errorf("cgroup %s, want %s", got, want)
	}
}

func TestPodNetnsIsUniqueAndFits(t *testing.T) {
	l, _ := New("t", mounts)
	if l.PodNetns("a-b", "c") == l.PodNetns("a", "b-c") {
		t.Error("two pods share a namespace name, want different ones")
	}
	long := strings.Repeat("x", 250)
	one, two := l.PodNetns("ns", long+"1"), l.PodNetns("ns", long+"2")
	if one == two || len(one) > 255 {
		t.Errorf("long names: %d bytes, equal: %v; want up to 255 bytes and different names", len(one), one == two)
	}
}

func TestBadNames(t *testing.T) {
	for _, name := range []string{"", "../x", "a/b", "A", "-a", "a.b", strings.Repeat("a", 80)} {
		if _, err := New(name, mounts); err == nil {
			t.Errorf("name %q: got no error, want one", name)
		}
	}
	if _, err := New("a", "proc /proc proc rw 0 0\n"); err == nil {
		t.Error("without cgroup v2: got no error, want one")
	}
}
