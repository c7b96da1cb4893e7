package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/test/lab"
)

// serials are the serial numbers of a node's certificates, by identity.
func serials(t *testing.T, l *lab.Lab, node string) map[string]string {
	t.Helper()
	var dump struct {
		Certificates []struct {
			Identity  struct{ Namespace, ServiceAccount string }
			SerialHex string
			State     string
		}
	}
	if err := json.Unmarshal([]byte(l.Agent(node, "dump")), &dump); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, c := range dump.Certificates {
		out[c.Identity.Namespace+"/"+c.Identity.ServiceAccount] = c.SerialHex
	}
	return out
}

// lifetime is that of rotationLab's certificates. A third of it is left when they
// are renewed: more than a busy machine takes.
const lifetime = 12 * time.Second

// rotationLab has certificates that live for seconds.
func rotationLab(t *testing.T) *lab.Lab {
	t.Helper()
	client, server := clientPod("client", node1), serverPod("server", node2)
	client.Account, server.Account = "client", "server"
	outsider := clientPod("outsider", node1)
	outsider.Labels = nil
	l := lab.Up(t, lab.Options{ControllerArgs: []string{"--workload-cert-lifetime=" + lifetime.String()}}, manifests(client, server, outsider))
	waitEnrolled(t, l, "default/client", "default/server")
	return l
}

// traffic is every kind of it from client to server; its end wants none lost.
func traffic(t *testing.T, l *lab.Lab) (end func()) {
	t.Helper()
	ip := l.Pod("server").IP()
	get := func(args ...string) *background {
		return inPod(t, l, "client", append(append([]string{"labtest", "get", "--summary", "-n", "0", "--interval", "20ms", "--duration", "10m"}, args...), "http://"+addrPort(ip, 8080)+"/")...)
	}
	requests := []*background{get(), get("--fresh"), get("--http2")}
	knock := inPod(t, l, "client", "labtest", "knock", "--interval", "20ms", addrPort(ip, 7000)) // each an mTLS connection of its own
	hold := inPod(t, l, "client", "labtest", "hold", addrPort(ip, 7000))
	for b, want := range map[*background]string{knock: "knocking", hold: "holding"} {
		if got := b.line(); got != want {
			t.Fatalf("%v says %q", b.cmd.Args, got)
		}
	}
	return func() {
		t.Helper()
		for _, b := range requests {
			if err := b.cmd.Process.Signal(unix.SIGTERM); err != nil {
				t.Error(err)
			}
			if s := summary(t, b); s.Failed > 0 || s.Status[200] != s.Requests || s.Requests < 100 {
				t.Errorf("%v: %+v", b.cmd.Args, s)
			}
		}
		attempts, failed := readKnocks(t, knock), 0
		for _, a := range attempts {
			if a.Error != "" {
				failed++
				t.Logf("%+v", a)
			}
		}
		if failed > 0 || len(attempts) < 100 {
			t.Errorf("%d of %d connections failed", failed, len(attempts))
		}
		if lines := hold.end(); len(lines) != 1 || !strings.HasPrefix(lines[0], "rounds ") {
			t.Errorf("the connection held: %q", lines)
		}
	}
}

// TestRenewalLosesNothing: certificates are renewed several times under
// traffic of all kinds, and no request notices.
func TestRenewalLosesNothing(t *testing.T) {
	t.Parallel()
	l := rotationLab(t)
	end := traffic(t, l)
	seen := map[string]map[string]bool{"default/client": {}, "default/server": {}}
	l.Eventually(6*lifetime, func() error {
		for id, of := range map[string]string{"default/client": node1, "default/server": node2} {
			seen[id][serials(t, l, of)[id]] = true
			if len(seen[id]) < 4 {
				return fmt.Errorf("%s has had %d certificates", id, len(seen[id]))
			}
		}
		return nil
	})
	end()
	for _, node := range []string{node1, node2} {
		if n := metric(metrics(t, l, node), "underlane_plaintext_fallback_total"); n != 0 {
			t.Errorf("%s fell back to plaintext %v times", node, n)
		}
	}
}

// TestRootRotationLosesNothing: a new root, for a while beside the old one and
// then alone, under traffic.
func TestRootRotationLosesNothing(t *testing.T) {
	t.Parallel()
	l := rotationLab(t)
	end := traffic(t, l)
	own := authority(t, l)
	old := own.Anchors()[0]
	if err := own.Rotate(); err != nil {
		t.Fatal(err)
	}
	next := own.Anchors()[0]
	signedBy := func(root *x509.Certificate) func() error {
		return func() error {
			leaf := serverLeaf(t, l)
			if err := leaf.CheckSignatureFrom(root); err != nil {
				return fmt.Errorf("the server's certificate is not signed by %s: %w", root.Subject, err)
			}
			return nil
		}
	}
	l.Eventually(2*patience, signedBy(next))
	awaitAnchors(t, l, 2)
	// Certificates of the old root have expired or are renewed after one more
	// lifetime; then it can go.
	time.Sleep(lifetime + time.Second)
	retired := filepath.Join("/run", l.Name(), "controller", "ca", "anchors.d", fmt.Sprintf("root-%x.pem", old.SerialNumber))
	if err := os.Remove(retired); err != nil {
		t.Fatal(err)
	}
	awaitAnchors(t, l, 1)
	before := serials(t, l, node2)["default/server"]
	l.Eventually(patience, func() error {
		if serials(t, l, node2)["default/server"] == before {
			return fmt.Errorf("no renewal without the old root")
		}
		return nil
	})
	end()
	// A controller and agents that start now know the new root alone.
	l.RestartController()
	for _, node := range []string{node1, node2} {
		l.Eventually(patience, func() error {
			if s := agentStatus(t, l, node); !s.Controller.Connected {
				return fmt.Errorf("%s: %s", node, s.Controller.LastError)
			}
			return nil
		})
	}
	l.Exec("client", "labtest", "get", "http://"+addrPort(l.Pod("server").IP(), 8080)+"/")
}

// awaitAnchors waits until both agents trust n roots.
func awaitAnchors(t *testing.T, l *lab.Lab, n int) {
	t.Helper()
	for _, node := range []string{node1, node2} {
		l.Eventually(patience, func() error {
			var dump struct{ State struct{ Anchors int } }
			if err := json.Unmarshal([]byte(l.Agent(node, "dump")), &dump); err != nil {
				return err
			}
			if dump.State.Anchors != n {
				return fmt.Errorf("%s has %d trust anchors, want %d", node, dump.State.Anchors, n)
			}
			return nil
		})
	}
}

// serverLeaf is the certificate with which the server's agent answers now.
func serverLeaf(t *testing.T, l *lab.Lab) *x509.Certificate {
	t.Helper()
	raw, err := inNetns(t, l.Pod("outsider").Netns, func() (*tls.Conn, error) {
		return tls.Dial("tcp", addrPort(l.Pod("server").IP(), 8080), &tls.Config{
			MinVersion: tls.VersionTLS13, NextProtos: []string{mtls.ALPNHTTP1}, InsecureSkipVerify: true,
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	return raw.ConnectionState().PeerCertificates[0]
}

// TestSecondAnchor: a root in anchors.d is trusted while it is there.
func TestSecondAnchor(t *testing.T) {
	t.Parallel()
	l := rotationLab(t)
	partner := openCA(t, t.TempDir(), trustDomain)
	cert := certificate(t, partner, identityOf("default", "client"), time.Hour)
	address := addrPort(l.Pod("server").IP(), 8080)
	accepted := func(want bool) func() error {
		return func() error {
			_, answer, err := askAsMesh(t, l.Pod("client").Netns, address, []tls.Certificate{cert})
			if got := strings.HasPrefix(answer, "HTTP/1.1 200"); got != want {
				return fmt.Errorf("accepted %t, want %t: %w", got, want, err)
			}
			return nil
		}
	}
	if err := accepted(false)(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("/run", l.Name(), "controller", "ca", "anchors.d", "partner.pem")
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: partner.Anchors()[0].Raw})
	if err := os.WriteFile(path, root, 0o600); err != nil {
		t.Fatal(err)
	}
	l.Eventually(patience, accepted(true))
	l.Exec("client", "labtest", "get", "http://"+address+"/")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	l.Eventually(patience, accepted(false))
	l.Exec("client", "labtest", "get", "http://"+address+"/")
}
