package node

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/test/cluster/layout"
)

var update = flag.Bool("update", false, "write the golden files")

func TestConfig(t *testing.T) {
	n := layout.Node{Index: 2}
	s := layout.Spec{Name: "dev", Nodes: 2, ProxyMode: "iptables", DualStack: true, Cgroup: layout.CgroupMachine}
	for name, got := range map[string]string{
		"containerd.toml":                containerdConfig(false),
		"containerd-no-controllers.toml": containerdConfig(true),
		"kubelet.yaml":                   kubeletConfig(n, false),
		"kubelet-no-controllers.yaml":    kubeletConfig(n, true),
		"pods.conflist":                  cniConfig(s.PodCIDRs(n)),
		"daemons.txt": strings.Join([]string{
			strings.Join(containerdArgs(), "\n\t"), strings.Join(kubeletArgs(n, s), "\n\t"), strings.Join(kubeProxyArgs(n, s), "\n\t"), "",
		}, "\n"),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", name)
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("go test -update writes it (-want +got):\n%s", diff)
			}
		})
	}
}

func TestInitTravels(t *testing.T) {
	want := Init{Node: layout.Node{Index: 2}, Spec: layout.Spec{Name: "dev", DualStack: true}, Dir: "/d", Cgroups: []string{"/a", "/b"}, Unified: "/b", Inside: true, Binaries: Binaries{"/k", "/c"}}
	got, err := DecodeInit(want.encode())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
