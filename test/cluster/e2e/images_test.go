package e2e

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"
)

// images checks how the containers of a release run: from its images, with what their
// labels say, as the user that they are made for, without a shell and anything else that
// runs, and unable to write into their root.
func images(t *testing.T, r release) {
	t.Helper()
	for name, want := range map[string]process{
		"agent":      {Uid: "0", CapEff: "0000000000281000", NoNewPrivs: "1", Root: "ro"}, // SYS_ADMIN, NET_ADMIN, SYS_PTRACE; SYS_CHROOT only at its start
		"controller": {Uid: "65532", CapEff: "0000000000000000", NoNewPrivs: "1", Root: "ro"},
	} {
		digests := imported(t, r, name)
		for line := range strings.Lines(kubectl(t, "get", "pods", "-n", system, "-l", "app.kubernetes.io/name=underlane-"+name, "-o",
			`jsonpath={range .items[*]}{.metadata.name} {.spec.nodeName} {.status.containerStatuses[0].imageID}{"\n"}{end}`)) {
			pod, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
			node, id, _ := strings.Cut(rest, " ")
			if !digests[id[strings.LastIndexByte(id, '@')+1:]] {
				t.Errorf("%s runs the image %s, want one of %v", pod, id, digests)
			}
			got := processOf(t, node, name)
			want.Programs = "/" + name
			if got != want {
				t.Errorf("%s runs as %+v, want %+v", pod, got, want)
			}
			if _, err := in(t, system, "pod/"+pod, "sh", "-c", "true"); err == nil || !strings.Contains(err.Error(), "executable file not found") {
				t.Errorf("%s: got %v of a shell, want none there", pod, err)
			}
		}
	}
}

// process is how a container's process runs.
type process struct {
	Uid, CapEff, NoNewPrivs string // as in /proc/PID/status
	Root                    string // first option of the mount of its root
	Programs                string // files in the container's root that can be executed
}

// processOf looks at a node for the process of the program /NAME.
func processOf(t *testing.T, node, name string) (p process) {
	t.Helper()
	out := mustTry(t, "exec", node, "--", "sh", "-c", `
for p in /proc/[0-9]*; do
    [ "$(readlink "$p/exe")" = "/`+name+`" ] || continue
    awk '/^(Uid|CapEff|NoNewPrivs):/ { print $1 $2 }' "$p/status"
    awk '$5 == "/" { split($6, o, ","); print "Root:" o[1] }' "$p/mountinfo"
    cd "$p/root" && echo "Programs:$(find . -xdev -type f -perm /111 | sed 's/^.//')"
    exit
done`)
	for line := range strings.Lines(out) {
		field, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		into := map[string]*string{"Uid": &p.Uid, "CapEff": &p.CapEff, "NoNewPrivs": &p.NoNewPrivs, "Root": &p.Root, "Programs": &p.Programs}[field]
		if into == nil {
			t.Fatalf("%s on %s: got %q", name, node, out)
		}
		*into = value
	}
	return p
}

// imported follows the image of a release in the store of node-1's containerd, from its name
// to its labels, and returns the digests on the way.
func imported(t *testing.T, r release, name string) map[string]bool {
	t.Helper()
	ctr := func(args ...string) string {
		t.Helper()
		return mustTry(t, append([]string{"exec", "node-1", "--", "/run/node/containerd/ctr", "-n", "k8s.io"}, args...)...)
	}
	ref := registry + name + ":" + r.tag
	lines := matching(strings.Split(ctr("images", "ls", "name=="+ref), "\n"), ref)
	if len(lines) != 1 {
		t.Fatalf("got the images %q of %s, want one", lines, ref)
	}
	next := strings.Fields(lines[0])[2]
	found := map[string]bool{}
	for range 3 {
		found[next] = true
		var v struct {
			Manifests []struct {
				Digest   string
				Platform struct{ Architecture string }
			}
			Config json.RawMessage
		}
		if err := json.Unmarshal([]byte(ctr("content", "get", next)), &v); err != nil {
			t.Fatal(err)
		}
		for _, m := range v.Manifests {
			if m.Platform.Architecture == runtime.GOARCH {
				next = m.Digest
			}
		}
		var config struct {
			Digest string
			Labels map[string]string
		}
		if v.Config != nil {
			if err := json.Unmarshal(v.Config, &config); err != nil {
				t.Fatal(err)
			}
		}
		if config.Digest != "" {
			next = config.Digest
		}
		if l := config.Labels; l != nil {
			if l["org.opencontainers.image.version"] != r.version || l["org.opencontainers.image.revision"] == "" {
				t.Errorf("%s: got the labels %v, want those of %s", ref, l, r.version)
			}
			return found
		}
	}
	t.Errorf("%s: no labels after %v", ref, found)
	return found
}
