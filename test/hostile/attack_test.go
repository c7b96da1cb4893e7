package hostile

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/redirect"
)

// attackers are the attacks by the names that the table calls them by.
var attackers = map[string]func(*assault){
	"handshakes": (*assault).handshakes,
	"stalled":    (*assault).stalled,
	"atOnce":     (*assault).atOnce,
	"idle":       (*assault).idle,
	"slowHeads":  (*assault).slowHeads,
	"slowReads":  (*assault).slowReads,
	"unanswered": (*assault).unanswered,
	"greedy":     (*assault).greedy,
	"chunks":     (*assault).chunks,
	"pipeline":   (*assault).pipeline,
	"fields":     (*assault).fields,
	"scrape":     (*assault).scrape,
}

// outcome is what an attacker did and got.
type outcome struct {
	Began, Ended time.Time
	Opened       int64         // connections
	Refused      int64         // connections that were refused, or ended by the mesh
	Sent         int64         // requests, frames, or handshakes, as the attack has it
	SentBytes    int64         // of a flood
	Got          int64         // answers
	GotBytes     int64         // bytes of answers
	Lost         int64         // connections that should have worked and did not
	Last         time.Duration // until the last of those that worked did
	Why          string        // the first failure
}

// assault is an attack that runs.
type assault struct {
	order
	cert tls.Certificate
	ends time.Time

	opened, refused, sent, sentBytes, got, gotBytes, lost, last atomic.Int64

	mu  sync.Mutex
	why string
}

func runAttack(o order) (outcome, error) {
	// Connections that are held need a descriptor each.
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil {
		files.Cur = files.Max
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &files)
	}
	a := &assault{order: o}
	if o.Cert != nil {
		var err error
		if a.cert, err = o.Cert.decode(); err != nil {
			return outcome{}, err
		}
	}
	attack := attackers[o.Do]
	if f, is := floods[o.Do]; is {
		attack = func(a *assault) { a.flood(f) }
	}
	if attack == nil {
		return outcome{}, fmt.Errorf("there is no attack %q", o.Do)
	}
	began := time.Now()
	a.ends = began.Add(o.For)
	attack(a)
	return outcome{
		Began: began, Ended: time.Now(),
		Opened: a.opened.Load(), Refused: a.refused.Load(), Sent: a.sent.Load(), SentBytes: a.sentBytes.Load(),
		Got: a.got.Load(), GotBytes: a.gotBytes.Load(), Lost: a.lost.Load(), Last: time.Duration(a.last.Load()), Why: a.why,
	}, nil
}

func (a *assault) note(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.why = cmp.Or(a.why, err.Error())
	}
}

func (a *assault) over() bool { return time.Now().After(a.ends) }

// each runs f in Conns goroutines until the attack's end: f once is one connection or
// one request.
func (a *assault) each(f func(i int)) {
	var wg sync.WaitGroup
	for i := range a.Conns {
		wg.Go(func() {
			for !a.over() {
				f(i)
			}
		})
	}
	wg.Wait()
}

// dial opens a connection, as a pod or, with a certificate, as an agent. It ends when
// the attack does, by a reset, so that no port is kept.
func (a *assault) dial() (net.Conn, error) {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	if a.Cert != nil {
		dialer.Control = passBy
	}
	raw, err := dialer.Dial("tcp", a.To)
	if err != nil {
		a.refused.Add(1)
		a.note(err)
		return nil, err
	}
	a.opened.Add(1)
	_ = raw.(*net.TCPConn).SetLinger(0)
	_ = raw.SetDeadline(a.ends.Add(time.Second))
	if a.Cert == nil {
		return raw, nil
	}
	c := tls.Client(raw, a.tlsConfig())
	if err := c.Handshake(); err != nil {
		raw.Close()
		a.refused.Add(1)
		a.note(err)
		return nil, err
	}
	return c, nil
}

// passBy marks a socket as the agent marks its own, so that it is not captured in a pod of
// the mesh. An agent accepts a certificate only from an address of its identity's pods.
func passBy(_, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, redirect.Mark)
	})
	return errors.Join(err, failed)
}

func (a *assault) tlsConfig() *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: []string{a.ALPN}, //nolint:gosec // an attacker
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &a.cert, nil },
	}
}

// hold opens Conns connections at once, begins each with f, and has them until the
// attack's end.
func (a *assault) hold(f func(net.Conn) error) {
	var mu sync.Mutex
	var held []net.Conn
	var wg sync.WaitGroup
	const dialers = 64
	for i := range dialers {
		wg.Go(func() {
			for n := i; n < a.Conns && !a.over(); n += dialers {
				c, err := a.dial()
				if err != nil {
					continue
				}
				if err := f(c); err != nil {
					a.note(err)
				}
				mu.Lock()
				held = append(held, c)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	time.Sleep(time.Until(a.ends))
	for _, c := range held {
		c.Close()
	}
}

// raise sets a maximum.
func raise(most *atomic.Int64, v int64) {
	for now := int64(math.MinInt64); now < v; {
		if now = most.Load(); now < v && most.CompareAndSwap(now, v) {
			return
		}
	}
}
