// Package light has agents that cost a measurement little: the TLS, HTTP/2 and gRPC of an
// agent's stream, by hand, and one goroutine for each. They read deltas, answer them as package
// client does, and keep nothing of them.
package light

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/test/scale/agents"
)

// Signer signs the certificates of nodes.
type Signer interface {
	SignNode(csrDER []byte, node string, lifetime time.Duration) (chain [][]byte, notAfter time.Time, err error)
	Anchors() []*x509.Certificate
}

// Agents are those of nodes.
type Agents struct {
	// Deltas and Resources have come, in Bytes with TLS, and Answers were sent.
	Deltas, Resources, Bytes, Answers atomic.Uint64
	// Lost streams have ended. They are not made again.
	Lost atomic.Int64

	synced atomic.Int64
	mu     sync.Mutex
	err    error // of the first that was lost
}

// atOnce is how many connections are made at a time.
const atOnce = 32

// Start starts agents, whose addresses of loopback begin with number first. uses returns the
// addresses that the pods of a node use. Their certificates are signed here: nothing is asked
// of the controller but the stream.
func Start(ctx context.Context, controller string, signer Signer, nodes []string, first int, uses func(i int) []netip.Addr) (*Agents, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	for _, c := range signer.Anchors() {
		roots.AddCert(c)
	}
	all := &Agents{}
	turns := make(chan struct{}, atOnce)
	for i, node := range nodes {
		chain, _, err := signer.SignNode(csr, node, time.Hour)
		if err != nil {
			return nil, err
		}
		s := &stream{all: all, cfg: &tls.Config{
			MinVersion: tls.VersionTLS13, ServerName: control.ServerName, RootCAs: roots, NextProtos: []string{"h2"},
			Certificates: []tls.Certificate{{Certificate: chain, PrivateKey: key}},
		}}
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: agents.Addr(first + i).AsSlice()}}
		turns <- struct{}{}
		go func() {
			conn, err := dialer.DialContext(ctx, "tcp", controller)
			if err == nil {
				err = s.open(&counted{conn, &all.Bytes}, uses(i))
			}
			<-turns
			if err == nil {
				err = s.read()
			}
			all.lose(err)
		}()
	}
	return all, nil
}

// Synced returns how many agents have everything that they have asked for at the start.
func (a *Agents) Synced() int { return int(a.synced.Load()) }

// Err returns why the first stream has ended, nil if none has.
func (a *Agents) Err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

func (a *Agents) lose(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.Lost.Add(1)
	if a.err == nil {
		a.err = err
	}
}

type counted struct {
	net.Conn
	bytes *atomic.Uint64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.bytes.Add(uint64(n))
	return n, err
}
