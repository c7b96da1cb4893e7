package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/underlane/underlane/test/lab"
)

// modeClients are the clients of TestDefaultModes: what they have of an identity of the mesh and of an
// address in the cluster's networks, which are those of node-2.
var modeClients = map[string]struct{ identity, inside bool }{
	"far": {true, false}, "near": {true, true}, "outsider-far": {false, false}, "outsider-near": {false, true},
}

// letIn says whom a value of the annotations lets in.
func letIn(mode string) (out []string) {
	for name, c := range modeClients {
		is, ok := map[string]bool{
			"allow": true, "all-unauthenticated": true, "audit": true,
			"strict": c.identity, "all-authenticated": c.identity,
			"cluster-unauthenticated": c.inside, "cluster-authenticated": c.inside && c.identity,
		}[mode]
		if ok && is { // what is not known lets in nobody
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// TestDefaultModes: each mode lets in whom docs/policy.md says, requests of both protocols and opaque
// bytes, by either annotation, of a pod and of its namespace, and as the installation's default. A
// change is in force at once, and cuts what is open.
func TestDefaultModes(t *testing.T) {
	t.Parallel()
	var pods []podSpec
	for name, c := range modeClients {
		p := clientPod(name, node1)
		if strings.HasSuffix(name, "near") {
			p.Node = node2
		}
		if !c.identity {
			p.Labels = nil
		}
		pods = append(pods, p)
	}
	server := serverPod("server", node2)
	server.Namespace, server.Labels = "shop", nil
	namespace := "---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n  labels: {underlane.io/mesh: enabled}\n"
	l := lab.Up(t, lab.Options{ControllerArgs: []string{"--default-policy=all-authenticated", "--cluster-networks=10.77.2.0/24"}}, namespace+manifests(append(pods, server)...))
	waitEnrolled(t, l, "default/far", "default/near", "shop/server")
	ip := l.Pod("shop/server").IP()
	got := func() (in []string, err error) {
		for name := range modeClients {
			said := map[bool][]string{}
			for _, version := range []string{"--http2=false", "--http2=true"} {
				out := l.TryExec(name, "labtest", "get", "-i", version, "http://"+addrPort(ip, 8080)+"/").Stdout
				said[strings.Contains(out, " 200 OK\n")] = append(said[strings.Contains(out, " 200 OK\n")], version)
				if !strings.Contains(out, " 200 OK\n") && !strings.Contains(out, " 403 Forbidden\n") {
					err = fmt.Errorf("%s, %s: %q", name, version, out)
				}
			}
			r := say(l, name, addrPort(ip, 7000), "let me in")
			let := r.Code == 0 && strings.HasSuffix(r.Stdout, "let me in")
			said[let] = append(said[let], "opaque")
			switch {
			case len(said[true]) > 0 && len(said[false]) > 0:
				err = fmt.Errorf("%s: let in by %q, not by %q", name, said[true], said[false])
			case len(said[true]) > 0:
				in = append(in, name)
			}
		}
		slices.Sort(in)
		return in, err
	}
	expect := func(what, mode string) {
		t.Helper()
		want := letIn(mode)
		l.Eventually(patience, func() error {
			in, err := got()
			if err == nil && !slices.Equal(in, want) {
				err = fmt.Errorf("lets in %q, want %q", in, want)
			}
			if err != nil {
				err = fmt.Errorf("%s: %w", what, err)
			}
			return err
		})
	}
	const ours, linkerds = "underlane.io/policy", "config.linkerd.io/default-inbound-policy"
	expect("the installation's default", "all-authenticated")
	for _, mode := range []string{"all-unauthenticated", "deny", "cluster-unauthenticated", "cluster-authenticated", "audit", "allow", "strict", "no-such-mode", "all-authenticated"} {
		l.Annotate("ns/shop", ours+"="+mode)
		expect("the namespace's "+mode, mode)
	}
	// A pod's comes before its namespace's, of one object ours before Linkerd's. What is open is cut.
	l.Annotate("shop/pod/server", linkerds+"=all-unauthenticated")
	expect("Linkerd's of the pod, all-unauthenticated", "all-unauthenticated")
	open := map[string]*rawConn{}
	for name := range modeClients {
		c := dialFrom(t, l, name).raw(t, addrPort(ip, 7000))
		if err := echo(c, c.r, "\x00ping"); err != nil {
			t.Fatal(name, err)
		}
		open[name] = c
	}
	l.Annotate("shop/pod/server", ours+"=cluster-authenticated")
	for _, name := range slices.Sorted(maps.Keys(open)) {
		c, stays := open[name], slices.Contains(letIn("cluster-authenticated"), name)
		if !stays {
			if _, err := c.r.ReadByte(); err == nil {
				t.Errorf("%s: its connection is still open", name)
			}
		}
	}
	expect("ours beside Linkerd's of the pod, cluster-authenticated", "cluster-authenticated")
	for _, name := range letIn("cluster-authenticated") {
		if err := echo(open[name], open[name].r, "\x00ping"); err != nil {
			t.Errorf("%s, which is let in by both: %v", name, err)
		}
	}
	l.Annotate("shop/pod/server", ours+"-", linkerds+"=deny")
	expect("Linkerd's of the pod, deny", "deny")
	l.Annotate("shop/pod/server", linkerds+"-")
	l.Annotate("ns/shop", ours+"-", linkerds+"=cluster-unauthenticated")
	expect("Linkerd's of the namespace, cluster-unauthenticated", "cluster-unauthenticated")
	l.Annotate("ns/shop", linkerds+"-")
	expect("the installation's default again", "all-authenticated")
}
