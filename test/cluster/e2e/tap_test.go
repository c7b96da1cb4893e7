package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestTapAcrossNodes checks that tap and top see both ends of a connection between
// nodes, and that they name what they may not show.
func TestTapAcrossNodes(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t, "underlane.io/mesh=enabled")
	apply(t, ns, deployment("server", httpArgs, node("node-2"))+service("server", []string{"80:8080"})+
		deployment("client", clientArgs, node("node-1")))
	ready(t, ns, "deploy/server", "deploy/client")
	client := podOf(t, ns, "client")
	enrolled(t, ns, client, podOf(t, ns, "server"))
	for _, target := range []string{"deploy/server", "deploy/client", podOf(t, ns, "server"), "svc/server", "ns/" + ns} {
		t.Run(target, func(t *testing.T) {
			args := []string{"-n", ns, target}
			switch {
			case target == "svc/server":
				args = []string{"-n", ns, "deploy/client", "--to", target}
			case strings.HasPrefix(target, "ns/"):
				args = []string{target}
			}
			watched(t, args, func() error {
				_, err := in(t, ns, client, "/labtest", "get", "http://server/one")
				return err
			}, func(lines []string) error {
				req := matching(lines, "req ", "tls=true", ":path=/one")
				if len(req) == 0 || len(matching(lines, "end ")) == 0 {
					return errors.New("no request with mTLS, or no end of one")
				}
				if strings.HasPrefix(target, "ns/") && (len(matching(req, "proxy=in ")) == 0 || len(matching(req, "proxy=out")) == 0) {
					return errors.New("the tap of the namespace lacks an end")
				}
				return nil
			})
		})
	}
}

// TestTapNeedsTheRight checks that RBAC decides who may tap, and that a refusal says
// which right is missing.
func TestTapNeedsTheRight(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t, "underlane.io/mesh=enabled")
	apply(t, ns, deployment("web", httpArgs)+service("web", []string{"80:8080"})+deployment("client", clientArgs))
	ready(t, ns, "deploy/web", "deploy/client")
	enrolled(t, ns, podOf(t, ns, "web"), podOf(t, ns, "client"))
	kubectl(t, "create", "rolebinding", "viewer", "-n", ns, "--clusterrole=view", "--user=jane")
	eventually(t, patience, func() error { // the API server needs a moment
		out, err := tryUnderlane(t, "tap", "-n", ns, "deploy/web", "--as", "jane")
		if err == nil {
			t.Fatalf("jane may tap, want her refused: %s", out)
		}
		for _, word := range []string{"jane", ns, "underlane-tap-admin"} {
			if !strings.Contains(err.Error(), word) {
				return fmt.Errorf("the refusal does not say %q: %w", word, err)
			}
		}
		return nil
	})
	kubectl(t, "create", "rolebinding", "tapper", "-n", ns, "--clusterrole=underlane-tap-admin", "--user=jane")
	eventually(t, patience, func() error {
		_, err := tryUnderlane(t, "top", "--once", "--duration", "1s", "-n", ns, "deploy/web", "--as", "jane")
		return err
	})
	watched(t, []string{"-n", ns, "deploy/web", "--as", "jane"}, func() error {
		_, err := in(t, ns, podOf(t, ns, "client"), "/labtest", "get", "http://web/seen")
		return err
	}, has("req ", ":path=/seen"))
	if out, err := tryUnderlane(t, "tap", "ns/kube-system", "--as", "jane"); err == nil {
		t.Errorf("jane may tap another namespace, want her refused: %s", out)
	}
}

func TestIdentityAndDiagnostics(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t, "underlane.io/mesh=enabled")
	apply(t, ns, deployment("web", httpArgs)+service("web", []string{"80:8080"}))
	ready(t, ns, "deploy/web")
	pod := podOf(t, ns, "web")
	enrolled(t, ns, pod)
	if out := underlane(t, "identity", "-n", ns, strings.TrimPrefix(pod, "pod/")); !strings.Contains(out, "spiffe://cluster.local/ns/"+ns+"/sa/default") {
		t.Errorf("identity: want that of the pod, got:\n%s", out)
	}
	eventually(t, patience, func() error {
		out, err := tryUnderlane(t, "diagnostics", "endpoints", "web."+ns+".svc.cluster.local:80")
		if err == nil && !strings.Contains(out, strings.TrimPrefix(pod, "pod/")) {
			err = fmt.Errorf("diagnostics endpoints:\n%s", out)
		}
		return err
	})
	if out := underlane(t, "diagnostics", "proxy-metrics", "-n", ns, pod); !strings.Contains(out, "underlane_") {
		t.Errorf("diagnostics proxy-metrics: want metrics, got:\n%.600s", out)
	}
	if out := underlane(t, "version"); !strings.Contains(strings.ToLower(out), "client version") {
		t.Errorf("version: want the client's version, got:\n%s", out)
	}
}

// TestMeshInAPipe checks that mesh and unmesh work in a pipe with kubectl, like inject
// and uninject.
func TestMeshInAPipe(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	apply(t, ns, deployment("web", httpArgs))
	ready(t, ns, "deploy/web")
	pipe := func(verb string) {
		t.Helper()
		// The applied object has the version that it was made from. Kubernetes also writes
		// the Deployment's status, for the last time after its pods are gone.
		eventually(t, patience, func() error {
			yaml := kubectl(t, "get", "-n", ns, "deploy/web", "-o", "yaml")
			meshed, err := try(t.Context(), yaml, "exec", "--", root+"/bin/underlane", verb, "-")
			if err != nil {
				t.Fatal(err)
			}
			_, err = try(t.Context(), meshed, "kubectl", "--", "apply", "-n", ns, "-f", "-")
			if err != nil && !strings.Contains(err.Error(), "the object has been modified") {
				t.Fatal(err)
			}
			return err
		})
		ready(t, ns, "deploy/web")
	}
	pipe("mesh")
	kubectl(t, "wait", "-n", ns, "--for=delete", "--timeout=170s", "pod", "-l", "app=web,!underlane.io/mesh")
	enrolled(t, ns, podOf(t, ns, "web"))
	pipe("unmesh")
	kubectl(t, "wait", "-n", ns, "--for=delete", "--timeout=170s", "pod", "-l", "app=web,underlane.io/mesh=enabled")
	if s := status(t, ns, podOf(t, ns, "web")); s != "" {
		t.Errorf("status after unmesh: %q, want none", s)
	}
}
