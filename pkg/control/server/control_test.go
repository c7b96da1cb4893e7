package server

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/control/client"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls/ca"
	"github.com/underlane/underlane/pkg/state"
)

func TestNodeGetsItsPodsAndWhatItAsksFor(t *testing.T) {
	c := newController(t)
	a, b, other := pod("a", "n1", podA), pod("b", "n2", podB), pod("c", "n2", podC)
	c.publish([]*mesh.Workload{a, b, other}, serviceOf(b))
	agent := c.agent("n1")
	agent.until("synced", (*state.View).Synced)
	agent.untilConnected() // the state is there a moment before; Resolve needs both

	v := agent.store.View()
	if len(v.Local()) != 1 || v.Local()[0].Name != "a" {
		t.Errorf("local: %v", v.Local())
	}
	if v.Answered(podB) || v.Answered(vip) {
		t.Error("got state of other nodes that nobody asked for")
	}
	if len(v.Anchors()) != 1 {
		t.Errorf("%d trust anchors", len(v.Anchors()))
	}
	v = agent.resolve(vip)
	svc, port, ok := v.Service(netip.AddrPortFrom(vip, 80))
	if !ok || svc.Name != "web" || len(port.Endpoints) != 1 || port.Endpoints[0].Workload.Name != "b" {
		t.Fatalf("service: %+v", svc)
	}
	if _, ok := v.Workload(podC); ok {
		t.Error("got a workload that is behind nothing subscribed to")
	}
	if w, _ := agent.resolve(podC).Workload(podC); w == nil || w.Identity != other.Identity {
		t.Errorf("a pod address resolves to %+v", w)
	}
	v = agent.resolve(far)
	if _, ok := v.Workload(far); ok || !v.Answered(far) {
		t.Error("an address outside the mesh is not a known unknown")
	}
}

func TestChangesFlowWhileSubscribed(t *testing.T) {
	c := newController(t)
	b := pod("b", "n2", podB)
	c.publish([]*mesh.Workload{b}, serviceOf(b))
	agent := c.agent("n1")
	agent.untilConnected()
	agent.resolve(vip)
	agent.resolve(podC)

	relabelled := *b
	relabelled.Meshed = false
	c.publish([]*mesh.Workload{&relabelled}, serviceOf(&relabelled))
	agent.until("the endpoint's workload changes", func(v *state.View) bool {
		s, _ := v.ServiceVIP(vip)
		return s != nil && !s.Ports[0].Endpoints[0].Workload.Meshed
	})
	n := pod("c", "n2", podC)
	c.publish([]*mesh.Workload{&relabelled, n}, serviceOf(&relabelled, n))
	agent.until("an unknown address becomes a pod, and an endpoint", func(v *state.View) bool {
		w, ok := v.Workload(podC)
		s, _ := v.ServiceVIP(vip)
		return ok && w.Name == "c" && len(s.Ports[0].Endpoints) == 2 && s.Ports[0].Endpoints[1].Workload == w
	})
	c.publish(nil)
	agent.until("everything goes, the answers stay", func(v *state.View) bool {
		_, w := v.Workload(podC)
		_, s := v.ServiceVIP(vip)
		return !w && !s && v.Answered(podC) && v.Answered(vip)
	})
}

func TestUnusedAddressesAreForgotten(t *testing.T) {
	c := newController(t)
	b := pod("b", "n2", podB)
	c.publish([]*mesh.Workload{b}, serviceOf(b))
	agent := c.agent("n1", func(o *client.Options) { o.IdleAfter = 2 * time.Second })
	agent.untilConnected()
	agent.resolve(vip)
	agent.until("forgotten", func(v *state.View) bool { return !v.Answered(vip) && !v.Answered(podB) })
	if n := agent.Status().Subscriptions; n != 0 {
		t.Errorf("%d subscriptions", n)
	}
	agent.resolve(vip) // and it can come back
}

func TestResumeSendsOnlyWhatDiffers(t *testing.T) {
	c := newController(t)
	var pods []*mesh.Workload
	addr := netip.MustParseAddr("10.2.0.1")
	for range 50 {
		pods = append(pods, pod("p"+addr.String(), "n1", addr))
		addr = addr.Next()
	}
	b := pod("b", "n2", podB)
	all := append(pods[:len(pods):len(pods)], b)
	c.publish(all, serviceOf(b))
	agent := c.agent("n1")
	agent.untilConnected()
	agent.resolve(vip)
	before := agent.store.View()

	c.restart()
	changed := *pods[7]
	changed.Ready = false
	pods[7] = &changed
	c.publish(append(pods[1:len(pods):len(pods)], b), serviceOf(b)) // one changed, one gone
	agent.until("caught up", func(v *state.View) bool {
		w, ok := v.Workload(changed.Addrs[0])
		return ok && !w.Ready && len(v.Local()) == 49
	})
	// They are counted when they have been sent, and the agent may be quicker.
	agent.until("counted", func(*state.View) bool { return c.server.Stats().Resources > 0 })
	if got := c.server.Stats().Resources; got != 1 {
		t.Errorf("%d resources were sent again, want 1", got)
	}
	s1, _ := before.ServiceVIP(vip)
	if s2, _ := agent.store.View().ServiceVIP(vip); s1 != s2 {
		t.Error("the service was replaced though it did not change")
	}
}

func TestAgentWorksOnWhileControllerIsAway(t *testing.T) {
	c := newController(t)
	b := pod("b", "n2", podB)
	c.publish([]*mesh.Workload{pod("a", "n1", podA), b}, serviceOf(b))
	agent := c.agent("n1")
	agent.untilConnected()
	agent.resolve(vip)
	c.front.Stop()
	agent.until("noticed", func(*state.View) bool { return !agent.Connected() })

	agent.resolve(vip) // known: needs no controller
	if v := agent.store.View(); !v.Synced() || len(v.Local()) != 1 {
		t.Error("the state was lost with the connection")
	}
	if err := agent.Resolve(t.Context(), podC); !errors.Is(err, client.ErrDisconnected) {
		t.Errorf("resolving the unknown: %v", err)
	}
	if _, err := agent.SignWorkload(t.Context(), idA, csr(t)); !errors.Is(err, client.ErrDisconnected) {
		t.Errorf("signing: %v", err)
	}
	c.restart()
	c.publish([]*mesh.Workload{pod("a", "n1", podA), pod("c", "n2", podC)})
	agent.until("caught up, with what was asked for meanwhile", func(v *state.View) bool {
		_, found := v.Workload(podC)
		_, gone := v.Workload(podB)
		return found && !gone && agent.Connected()
	})
}

// A destination that is asked for while a controller is being replaced does not
// count as outside the mesh.
func TestResolveWaitsForTheNextController(t *testing.T) {
	c := newController(t)
	pods := []*mesh.Workload{pod("a", "n1", podA), pod("b", "n2", podB)}
	c.publish(pods)
	agent := c.agent("n1")
	agent.untilConnected()
	c.front.Stop()
	agent.until("noticed", func(*state.View) bool { return !agent.Connected() })
	resolved := make(chan error, 1)
	go func() { resolved <- agent.Resolve(t.Context(), podB) }()
	c.restart()
	c.publish(pods)
	if err := <-resolved; err != nil {
		t.Fatal(err)
	}
	if _, ok := agent.store.View().Workload(podB); !ok {
		t.Error("resolved, and the pod is unknown")
	}
}

func TestNackIsCountedAndNotRepeated(t *testing.T) {
	c := newController(t)
	c.publish([]*mesh.Workload{pod("a", "n1", podA)})
	agent := c.agent("n1")
	agent.untilConnected()

	bad := pod("bad", "n1", podB)
	bad.UID = ""
	c.publish([]*mesh.Workload{pod("a", "n1", podA), bad})
	for c.server.Stats().Nacks == 0 {
		time.Sleep(time.Millisecond)
	}
	if v := agent.store.View(); len(v.Local()) != 1 || !agent.Connected() {
		t.Error("the bad delta did harm")
	}
	c.publish([]*mesh.Workload{pod("a", "n1", podA), bad, pod("c", "n1", podC)})
	agent.until("later deltas still work", func(v *state.View) bool { return len(v.Local()) == 2 })
	if n := c.server.Stats().Nacks; n != 1 {
		t.Errorf("%d nacks, want 1", n)
	}
	if st := agent.Status(); st.Nacks != 1 {
		t.Errorf("the agent counts %d nacks", st.Nacks)
	}
}

func TestCertificates(t *testing.T) {
	c := newController(t)
	unmeshed := pod("c", "n1", podC)
	unmeshed.Meshed = false
	c.publish([]*mesh.Workload{pod("a", "n1", podA), pod("b", "n2", podB), unmeshed})
	agent := c.agent("n1")
	agent.untilConnected()

	issued, err := agent.SignWorkload(t.Context(), idA, csr(t))
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(issued.Chain[0])
	if err != nil || leaf.URIs[0].String() != idA.String() || len(issued.Anchors) != 1 || !issued.NotAfter.Equal(leaf.NotAfter) {
		t.Errorf("issued %v %v %v", leaf.URIs, issued.NotAfter, err)
	}
	for name, tc := range map[string]struct {
		id   mesh.Identity
		csr  []byte
		code codes.Code
		text string
	}{
		"another node's pod": {idB, csr(t), codes.PermissionDenied, "no meshed pod of node n1 has the identity " + idB.String()},
		"an unmeshed pod":    {unmeshed.Identity, csr(t), codes.PermissionDenied, "no meshed pod"},
		"nobody":             {mesh.Identity{TrustDomain: "cluster.local", Namespace: "x", ServiceAccount: "y"}, csr(t), codes.PermissionDenied, "no meshed pod"},
		"not an identity":    {mesh.Identity{}, csr(t), codes.InvalidArgument, "spiffe"},
		"not a request":      {idA, []byte("nonsense"), codes.InvalidArgument, "sign"},
	} {
		_, err := agent.SignWorkload(t.Context(), tc.id, tc.csr)
		if status.Code(err) != tc.code || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: got %v, want %v %q", name, err, tc.code, tc.text)
		}
	}
	if st := c.server.Stats(); st.Signed != 1 || st.SignRefused != 5 || st.Agents != 1 {
		t.Errorf("stats %+v", st)
	}
}

func TestWrongTokenIsRefusedUntilItIsRight(t *testing.T) {
	c := newController(t)
	c.publish(nil)
	agent := c.agent("n1", func(o *client.Options) {
		o.Token = func() (string, error) { return c.authority.BootstrapToken("n2"), nil }
	})
	agent.until("an error", func(*state.View) bool { return agent.Status().LastError != "" })
	if st := agent.Status(); st.Connected || !strings.Contains(st.LastError, "not that of node \"n1\"") {
		t.Errorf("status %+v", st)
	}
	if st := c.server.Stats(); st.BootstrapsRefused == 0 || st.Bootstrapped != 0 {
		t.Errorf("stats %+v", st)
	}
}

func TestForeignAnchorsAreRefused(t *testing.T) {
	c := newController(t)
	c.publish(nil)
	foreign, err := ca.Open(t.TempDir(), "cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	agent := c.agent("n1", func(o *client.Options) {
		o.Anchors = func() ([]byte, error) { return foreign.AnchorsPEM(), nil }
	})
	agent.until("an error", func(*state.View) bool { return agent.Status().LastError != "" })
	if text := agent.Status().LastError; !strings.Contains(text, "unknown authority") {
		t.Error(text)
	}
}

// TestCertificatesThatAreNoNodes calls with certificates that TLS accepts, and
// that are not the node's.
func TestCertificatesThatAreNoNodes(t *testing.T) {
	c := newController(t)
	c.publish([]*mesh.Workload{pod("a", "n1", podA)})
	key, request := keyAndCSR(t)
	issued := func(chain [][]byte, _ time.Time, err error) []tls.Certificate {
		if err != nil {
			t.Fatal(err)
		}
		return []tls.Certificate{{Certificate: chain, PrivateKey: key}}
	}
	for name, tc := range map[string]struct {
		certs []tls.Certificate
		code  codes.Code
	}{
		"none":           {nil, codes.Unauthenticated},
		"a workload's":   {issued(c.authority.SignWorkload(request, idA, time.Hour)), codes.PermissionDenied},
		"another node's": {issued(c.authority.SignNode(request, "n2", time.Hour)), codes.PermissionDenied},
	} {
		conn := c.stranger(tc.certs...)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		_, err := pb.NewControlClient(conn).SignWorkload(ctx, &pb.SignWorkloadRequest{Identity: idA.String(), Csr: csr(t)})
		if status.Code(err) != tc.code {
			t.Errorf("%s: SignWorkload: %v, want %v", name, err, tc.code)
		}
		if name != "another node's" {
			stream, err := pb.NewControlClient(conn).Sync(ctx)
			if err == nil {
				_ = stream.Send(&pb.SyncRequest{})
				_, err = stream.Recv()
			}
			if status.Code(err) != tc.code {
				t.Errorf("%s: Sync: %v, want %v", name, err, tc.code)
			}
		}
		cancel()
	}
}

func TestNodeCertificateIsRenewedUnnoticed(t *testing.T) {
	c := newController(t)
	c.front.Stop()
	c.lifetime = 6 * time.Second // renewed each 4.2 s
	c.restart()
	c.publish([]*mesh.Workload{pod("a", "n1", podA)})
	agent := c.agent("n1")
	agent.untilConnected()
	since := agent.Status().Since
	first := agent.Status().NodeCertificate
	for deadline := time.Now().Add(time.Minute); c.server.Stats().Bootstrapped < 3 || !agent.Status().NodeCertificate.After(first.Add(c.lifetime)); {
		if !agent.Connected() {
			t.Fatal("the renewal broke the connection")
		}
		if time.Now().After(deadline) {
			t.Fatalf("not renewed twice: %+v", agent.Status())
		}
		time.Sleep(5 * time.Millisecond)
	}
	if st := agent.Status(); !st.Since.Equal(since) {
		t.Errorf("another connection than before: %+v", st)
	}
	c.publish([]*mesh.Workload{pod("a", "n1", podA), pod("b", "n1", podB)})
	agent.until("the new stream works", func(v *state.View) bool { return len(v.Local()) == 2 })
}

func TestRotationOfTheRootReachesAgents(t *testing.T) {
	c := newController(t)
	c.publish(nil)
	agent := c.agent("n1")
	agent.untilConnected()
	if err := c.authority.Rotate(); err != nil {
		t.Fatal(err)
	}
	c.publish(nil)
	agent.until("two anchors", func(v *state.View) bool { return len(v.Anchors()) == 2 })
	c.restart()
	c.publish([]*mesh.Workload{pod("a", "n1", podA)})
	agent.until("reconnected under the new root", func(v *state.View) bool { return len(v.Local()) == 1 })
}

// TestForgedAuthorityIsRefusedByTLS offers a certificate of an authority with
// the right name and the wrong key.
func TestForgedAuthorityIsRefusedByTLS(t *testing.T) {
	c := newController(t)
	c.publish(nil)
	forged := &x509.Certificate{RawSubject: c.authority.Anchors()[0].RawSubject}
	key, request := keyAndCSR(t)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		URIs:        []*url.URL{{Scheme: "spiffe", Host: "cluster.local", Path: "/node/n1"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, forged, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	conn := c.stranger(tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key})
	_, err = pb.NewControlClient(conn).SignWorkload(t.Context(), &pb.SignWorkloadRequest{Identity: idA.String(), Csr: request})
	if status.Code(err) != codes.Unavailable { // the connection ends; a call would be answered with another code
		t.Errorf("got %v", err)
	}
}
