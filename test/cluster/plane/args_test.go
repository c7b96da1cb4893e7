package plane

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/test/cluster/layout"
)

var update = flag.Bool("update", false, "write the golden file")

func TestArgs(t *testing.T) {
	c := layout.Cluster{Spec: layout.Spec{Name: "dev", Nodes: 2, ProxyMode: "nftables"}, Base: "/base"}
	var got strings.Builder
	for _, p := range Parts {
		got.WriteString(string(p) + "\n\t" + strings.Join(args(c, p), "\n\t") + "\n")
	}
	const path = "testdata/args.txt"
	if *update {
		if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("go test -update writes it (-want +got):\n%s", diff)
	}
}
