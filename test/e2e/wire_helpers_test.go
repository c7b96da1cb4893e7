package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls/ca"
	"github.com/underlane/underlane/test/demo/selfcheck/wire"
	"github.com/underlane/underlane/test/lab"
	"github.com/underlane/underlane/test/lab/fabric"
	"github.com/underlane/underlane/test/lab/host"
)

const trustDomain = "cluster.local"

// inNetns runs f inside a network namespace of the lab, as a process that no
// hook of the node sees: what an intruder on the network could do with the
// address of a pod, and no agent would touch.
func inNetns[T any](t testing.TB, path string, f func() (T, error)) (T, error) {
	t.Helper()
	var out T
	err := host.InNetns(path, func() (err error) {
		out, err = f()
		return err
	})
	return out, err
}

// nodeNetns is the path of a node's network namespace.
func nodeNetns(t testing.TB, l *lab.Lab, node string) string {
	t.Helper()
	for _, n := range l.State().Nodes {
		if n.Name == node {
			return n.Netns
		}
	}
	t.Fatalf("no node %s", node)
	return ""
}

// capture records an interface until stop, which gives the TCP segments.
func capture(t testing.TB, netns, link string) (stop func() []wire.Segment) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var file lockedBuffer
	ended := make(chan error, 1)
	go func() {
		ended <- host.InNetns(netns, func() error { return wire.Capture(ctx, &file, link) })
	}()
	for limit := time.Now().Add(patience); file.len() == 0; time.Sleep(time.Millisecond) { // the header says that it runs
		select {
		case err := <-ended:
			t.Fatal(err)
		default:
		}
		if time.Now().After(limit) {
			t.Fatalf("the capture on %s does not begin", link)
		}
	}
	return func() []wire.Segment {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		segments, err := readSegments(&file.b)
		if err != nil {
			t.Fatal(err)
		}
		return segments
	}
}

func readSegments(r io.Reader) ([]wire.Segment, error) {
	if err := wire.ReadHeader(r); err != nil {
		return nil, err
	}
	var out []wire.Segment
	for {
		frame, err := wire.ReadFrame(r)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if s, ok := wire.ParseFrame(frame); ok {
			out = append(out, s)
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lockedBuffer) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Len()
}

// uplink is the link over which a node reaches the others.
const uplink = fabric.Uplink

func addrPort(a netip.Addr, port int) string {
	return net.JoinHostPort(a.String(), strconv.Itoa(port))
}

// say sends text to an address from a pod, half-closes, and gives the answer.
func say(l *lab.Lab, pod, address, text string, args ...string) lab.Result {
	cmd := l.PodCommand(pod, append([]string{"labtest", "dial", address}, args...)...)
	cmd.Stdin = strings.NewReader(text)
	return lab.Run(cmd)
}

// authority opens the CA of the lab's own controller: what only a thief has.
func authority(t testing.TB, l *lab.Lab) *ca.Directory {
	t.Helper()
	return openCA(t, filepath.Join("/run", l.Name(), "controller", "ca"), trustDomain)
}

func openCA(t testing.TB, dir, domain string) *ca.Directory {
	t.Helper()
	a, err := ca.Open(dir, domain)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// identityOf is the identity of a service account of the lab.
func identityOf(namespace, account string) mesh.Identity {
	return mesh.Identity{TrustDomain: trustDomain, Namespace: namespace, ServiceAccount: account}
}

// certificate has a signed for id, valid for lifetime.
func certificate(t testing.TB, a *ca.Directory, id mesh.Identity, lifetime time.Duration) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	chain, _, err := a.SignWorkload(csr, id, lifetime)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: chain, PrivateKey: key}
}

// expired is a certificate of a's that was valid until a moment ago.
func expired(t testing.TB, a *ca.Directory, id mesh.Identity) tls.Certificate {
	t.Helper()
	c := certificate(t, a, id, time.Millisecond) // rounded up to the second
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(leaf.NotAfter) + 100*time.Millisecond) // the clock is what is waited for
	return c
}

// sums is what `labtest get --summary` prints.
type sums struct {
	Requests, Failed int
	Errors           map[string]int
	Status           map[int]int
	P50, P99         time.Duration
}

// summary ends traffic of `labtest get --summary` and gives what it came to.
func summary(t testing.TB, b *background) sums {
	t.Helper()
	var s sums
	lines := b.end()
	if err := json.Unmarshal([]byte(strings.Join(lines, "\n")), &s); err != nil {
		t.Fatalf("%v: %q", err, lines)
	}
	return s
}
