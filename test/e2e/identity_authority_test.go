package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	grpcstatus "google.golang.org/grpc/status"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/test/lab"
)

// dialController connects to the lab's controller from a node, with a node's
// certificate or without one.
func dialController(t *testing.T, l *lab.Lab, cert *tls.Certificate) pb.ControlClient {
	t.Helper()
	anchors, err := os.ReadFile(filepath.Join("/run", l.Name(), "controller", "anchors.pem"))
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: control.ServerName, RootCAs: x509.NewCertPool()}
	config.RootCAs.AppendCertsFromPEM(anchors)
	if cert != nil {
		config.Certificates = []tls.Certificate{*cert}
	}
	netns := nodeNetns(t, l, node1)
	conn, err := grpc.NewClient("passthrough:///192.168.77.254:8443", // layout.ControllerAddrs
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithContextDialer(func(_ context.Context, address string) (net.Conn, error) {
			return inNetns(t, netns, func() (net.Conn, error) { return net.DialTimeout("tcp", address, patience) })
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return pb.NewControlClient(conn)
}

func newCSR(t *testing.T) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return key, csr
}

// TestAuthorityRefuses: a node proves its name by its own token and gets
// certificates for the pods that run on it and are in the mesh; for no others.
func TestAuthorityRefuses(t *testing.T) {
	t.Parallel()
	here, there, unmeshed := clientPod("here", node1), clientPod("there", node2), clientPod("unmeshed", node1)
	here.Account, there.Account, unmeshed.Account, unmeshed.Labels = "here", "there", "unmeshed", nil
	l := lab.Up(t, lab.Options{}, manifests(here, there, unmeshed))
	waitEnrolled(t, l, "default/here", "default/there")
	token, err := os.ReadFile(filepath.Join("/run", l.Name(), node1, "token"))
	if err != nil {
		t.Fatal(err)
	}
	stranger := dialController(t, l, nil)
	key, csr := newCSR(t)
	for name, req := range map[string]*pb.BootstrapRequest{
		"no token":       {Node: node1, Csr: csr},
		"wrong token":    {Node: node1, Token: "A" + strings.TrimSpace(string(token))[1:] + "x", Csr: csr},
		"another's name": {Node: node2, Token: strings.TrimSpace(string(token)), Csr: csr},
		"no name":        {Token: strings.TrimSpace(string(token)), Csr: csr},
	} {
		if resp, err := stranger.Bootstrap(t.Context(), req); grpcstatus.Code(err) != codes.Unauthenticated || len(resp.GetChain()) > 0 {
			t.Errorf("%s: %v, %v", name, resp, err)
		}
	}
	sign := func(c pb.ControlClient, identity string) error {
		resp, err := c.SignWorkload(t.Context(), &pb.SignWorkloadRequest{Identity: identity, Csr: csr})
		if err == nil {
			leaf, perr := x509.ParseCertificate(resp.GetChain()[0])
			if perr != nil || len(leaf.URIs) != 1 || leaf.URIs[0].String() != identity {
				t.Errorf("a certificate for %v, want %s: %v", leaf, identity, perr)
			}
		}
		return err
	}
	own := identityOf("default", "here").String()
	if err := sign(stranger, own); grpcstatus.Code(err) != codes.Unauthenticated {
		t.Errorf("without a node certificate: %v", err)
	}
	resp, err := stranger.Bootstrap(t.Context(), &pb.BootstrapRequest{Node: node1, Token: strings.TrimSpace(string(token)), Csr: csr})
	if err != nil {
		t.Fatalf("with the node's own token: %v", err)
	}
	node := dialController(t, l, &tls.Certificate{Certificate: resp.GetChain(), PrivateKey: key})
	if err := sign(node, own); err != nil {
		t.Errorf("for a pod of the node: %v", err)
	}
	for name, identity := range map[string]string{
		"a pod of another node":     identityOf("default", "there").String(),
		"a pod outside the mesh":    identityOf("default", "unmeshed").String(),
		"nobody":                    identityOf("default", "nobody").String(),
		"another namespace":         identityOf("kube-system", "here").String(),
		"another trust domain":      "spiffe://elsewhere.example/ns/default/sa/here",
		"a node":                    "spiffe://cluster.local/node/" + node1,
		"nothing":                   "",
		"a path that means another": "spiffe://cluster.local/ns/default/sa/../sa/there",
	} {
		want := []codes.Code{codes.PermissionDenied, codes.InvalidArgument}
		if err := sign(node, identity); !slices.Contains(want, grpcstatus.Code(err)) {
			t.Errorf("for %s: %v", name, err)
		}
	}
	// A certificate of a workload is no node's.
	workload := certificate(t, authority(t, l), identityOf("default", "here"), patience)
	if err := sign(dialController(t, l, &workload), own); err == nil {
		t.Error("a workload's certificate is taken for a node's")
	}
	seen := scrape(t, l, "controller", "http://127.0.0.1:4192/metrics")
	for kind, want := range map[string]float64{"workload": 8, "node": 4} {
		if n := metric(seen, "underlane_controller_certificates_total", "kind="+kind, "result=refused"); n != want {
			t.Errorf("%v refused certificates of kind %s are counted, want %v", n, kind, want)
		}
	}
	if log := l.Logs("controller"); !strings.Contains(log, "certificate refused") || !strings.Contains(log, "bootstrap refused") {
		t.Errorf("the controller's log says nothing of refusals:\n%s", log)
	}
	// A pod that left takes its identity with it.
	l.Label("default/pod/here", "underlane.io/mesh-")
	l.Eventually(patience, func() error {
		if err := sign(node, own); grpcstatus.Code(err) != codes.PermissionDenied {
			return fmt.Errorf("for a pod that left: %w", err)
		}
		return nil
	})
}
