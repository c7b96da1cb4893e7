package node

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDropLimits(t *testing.T) {
	for name, test := range map[string]struct{ config, want string }{
		"limits": {
			config: `{"linux":{"cgroupsPath":"/k8s.io/x","resources":{"cpu":{"shares":2},"devices":[{"allow":false}],"memory":{"limit":9}}},"ociVersion":"1.2"}`,
			want:   `{"linux":{"cgroupsPath":"/k8s.io/x","resources":{"devices":[{"allow":false}]}},"ociVersion":"1.2"}`,
		},
		"none": {config: `{"linux":{}}`, want: `{"linux":{}}`},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.json")
			if err := os.WriteFile(path, []byte(test.config), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := dropLimits(path); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
