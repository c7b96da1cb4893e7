package layout

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNodesAreApart(t *testing.T) {
	c := Cluster{Spec: Spec{Name: "x", Nodes: 9, ProxyMode: "nftables", DualStack: true, Cgroup: "v1,v2"}, Base: "/base"}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, n := range c.AllNodes() {
		for _, s := range []string{n.Name(), n.IP().String(), fmt.Sprint(c.PodCIDRs(n)[0]), fmt.Sprint(c.PodCIDRs(n)[1]), n.IP6().String(), c.NodeFile(n), c.Netns(n.Name())} {
			if seen[s] {
				t.Errorf("%s has %s like another node, want it unique", n.Name(), s)
			}
			seen[s] = true
		}
		if found, err := c.Node(n.Name()); err != nil || found != n {
			t.Errorf("Node(%s) = %v, %v; want %v", n.Name(), found, err, n)
		}
	}
	if _, err := c.Node("node-10"); err == nil || !strings.Contains(err.Error(), "node-9") {
		t.Errorf("a node that does not exist: got %v, want an error that names the nodes", err)
	}
}

// TestPrefixesAreApart checks that the prefix of a cluster does not match namespaces
// of another.
func TestPrefixesAreApart(t *testing.T) {
	a, b := Cluster{Spec: Spec{Name: "a"}}, Cluster{Spec: Spec{Name: "ab"}}
	if strings.HasPrefix(b.Netns("cp"), NetnsDir+"/"+a.NetnsPrefix()) {
		t.Errorf("%s has the prefix %s, want it not to", b.Netns("cp"), a.NetnsPrefix())
	}
}

func TestValidate(t *testing.T) {
	good := Spec{Name: "dev", Nodes: 2, ProxyMode: "iptables", Cgroup: CgroupMachine}
	for name, spoil := range map[string]func(*Spec){
		"no name":     func(s *Spec) { s.Name = "" },
		"a path":      func(s *Spec) { s.Name = "a/b" },
		"above":       func(s *Spec) { s.Name = ".." },
		"a dash":      func(s *Spec) { s.Name = "a-b" },
		"long name":   func(s *Spec) { s.Name = strings.Repeat("x", 21) },
		"no nodes":    func(s *Spec) { s.Nodes = 0 },
		"ten nodes":   func(s *Spec) { s.Nodes = 10 },
		"no such way": func(s *Spec) { s.ProxyMode = "ipvs" },
		"no cgroup":   func(s *Spec) { s.Cgroup = "" },
		"cgroup v3":   func(s *Spec) { s.Cgroup = "v1,v3" },
	} {
		s := good
		spoil(&s)
		if err := s.Validate(); err == nil {
			t.Errorf("%s: %+v is valid, want an error", name, s)
		}
	}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
}

func TestCgroupOf(t *testing.T) {
	s := Spec{Cgroup: "v1,v2"}
	got := []string{s.CgroupOf(Node{Index: 1}), s.CgroupOf(Node{Index: 2}), s.CgroupOf(Node{Index: 3})}
	if diff := cmp.Diff([]string{CgroupV1, CgroupV2, CgroupV2}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSaveLoad(t *testing.T) {
	c := Cluster{Spec: Spec{Name: "dev", Nodes: 3, ProxyMode: "iptables", Cgroup: "machine,v1"}, Base: t.TempDir()}
	if _, err := Load(c.Base, c.Name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("loading a cluster that does not exist: got %v, want that it does not exist", err)
	}
	if err := c.Save(); err != nil {
		t.Fatal(err)
	}
	got, err := Load(c.Base, c.Name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c.Spec, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRemove(t *testing.T) {
	base := t.TempDir()
	c := Cluster{Spec: Spec{Name: "dev", Nodes: 1, ProxyMode: "nftables", Cgroup: CgroupMachine}, Base: base}
	if err := c.Remove(); err != nil {
		t.Errorf("removing a cluster that does not exist: got %v, want no error", err)
	}
	precious := c.File("precious")
	if err := os.MkdirAll(c.Dir(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(precious, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := c.Remove(); err == nil {
		t.Error("a directory that is not a cluster's: removed, want an error")
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
	if err := c.Save(); err != nil {
		t.Fatal(err)
	}
	if err := c.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(c.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Remove: got %v, want the directory gone", err)
	}
}
