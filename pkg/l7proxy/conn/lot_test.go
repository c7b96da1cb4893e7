package conn_test

import (
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"golang.org/x/sys/unix"
)

// look has the directions of a Lot give up their goroutines whenever they wait.
func look(t *testing.T, lot *conn.Lot, every time.Duration) {
	done := make(chan struct{})
	var looking sync.WaitGroup
	looking.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(every):
				lot.Look()
			}
		}
	})
	t.Cleanup(func() {
		close(done)
		looking.Wait()
		if n := lot.Parked(); n != 0 {
			t.Errorf("%d directions are left in the Lot", n)
		}
		_ = lot.Close()
	})
}

// parked is a relay both directions of which wait without a goroutine, and its ends.
type parked struct {
	t              *testing.T
	relay          *conn.Relay
	lot            conn.Lot
	client, server *rawio.Conn
	over           chan *conn.Defect
}

func park(t *testing.T, secure bool, seen func([]byte)) *parked {
	p := &parked{t: t, over: make(chan *conn.Defect, 1)}
	look(t, &p.lot, time.Millisecond)
	var clientSide, serverSide conn.Conn
	var a, b *rawio.Conn
	p.client, a = proxytest.Pair(t)
	b, p.server = proxytest.Pair(t)
	clientSide, serverSide = conn.Plain{Conn: a}, conn.Plain{Conn: b}
	if secure { // a second agent, which is not looked at
		up, down, _ := proxytest.TLSPair(t)
		serverSide = up
		other := &conn.Relay{Client: down, Server: conn.Plain{Conn: b}}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			other.Run(nil, nil)
			down.Close()
			b.Close()
		}()
		t.Cleanup(func() { <-ended })
	}
	p.relay = &conn.Relay{Client: clientSide, Server: serverSide, Lot: &p.lot, Seen: seen}
	began := make(chan struct{})
	go func() {
		if p.relay.Begin(nil, nil) {
			t.Error("the relay has ended")
		}
		p.relay.GoOn(func(defect *conn.Defect) {
			_, _ = clientSide.Close(), serverSide.Close()
			p.over <- defect
		})
		close(began)
	}()
	<-began
	p.rests()
	return p
}

func (p *parked) rests() {
	p.t.Helper()
	proxytest.Eventually(p.t, "both directions wait without a goroutine", func() bool { return p.lot.Parked() == 2 })
}

func (p *parked) passes(from, to *rawio.Conn) {
	p.t.Helper()
	if _, err := from.Write([]byte("beat")); err != nil {
		p.t.Fatal(err)
	}
	_ = to.SetReadDeadline(time.Now().Add(10 * time.Second))
	var got [4]byte
	if _, err := io.ReadFull(to, got[:]); err != nil || string(got[:]) != "beat" {
		p.t.Fatalf("%q, %v", got, err)
	}
}

// ends expects how the relay ends.
func (p *parked) ends(reason mesh.Reason) *conn.Defect {
	p.t.Helper()
	select {
	case defect := <-p.over:
		if got := p.relay.Reason(); got != reason {
			p.t.Errorf("ended with %q, want %q", got, reason)
		}
		return defect
	case <-time.After(10 * time.Second):
		p.t.Fatal("the relay does not end")
		return nil
	}
}

// expectEnd expects how an end sees that the other one has ended.
func (p *parked) expectEnd(c *rawio.Conn, want error) {
	p.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, want) {
		p.t.Errorf("read %d bytes, %v, want %v", n, err, want)
	}
}

// TestParked: directions that wait without a goroutine pass on what arrives, in both directions
// and again and again, and each way in which a connection can end, as others do.
func TestParked(t *testing.T) {
	tests := map[string]func(p *parked){
		"the client ends": func(p *parked) {
			_ = p.client.CloseWrite()
			p.expectEnd(p.server, io.EOF)
			proxytest.Eventually(p.t, "the other direction waits", func() bool { return p.lot.Parked() == 1 })
			p.passes(p.server, p.client)
			_ = p.server.CloseWrite()
			p.expectEnd(p.client, io.EOF)
			p.ends(mesh.ReasonNone)
		},
		"the server ends": func(p *parked) {
			_ = p.server.CloseWrite()
			p.expectEnd(p.client, io.EOF)
			p.passes(p.client, p.server)
			_ = p.client.CloseWrite()
			p.expectEnd(p.server, io.EOF)
			p.ends(mesh.ReasonNone)
		},
		"the client resets": func(p *parked) {
			_ = p.client.Reset()
			p.client.Close()
			p.expectEnd(p.server, unix.ECONNRESET)
			p.ends(mesh.ReasonClientReset)
		},
		"the server resets": func(p *parked) {
			_ = p.server.Reset()
			p.server.Close()
			p.expectEnd(p.client, unix.ECONNRESET)
			p.ends(mesh.ReasonUpstreamReset)
		},
		"the proxy cuts": func(p *parked) {
			p.relay.Cut(mesh.ReasonPolicyDenied)
			p.expectEnd(p.client, unix.ECONNRESET)
			p.expectEnd(p.server, unix.ECONNRESET)
			p.ends(mesh.ReasonPolicyDenied)
		},
		"the Lot is closed": func(p *parked) {
			_ = p.lot.Close()
			p.passes(p.client, p.server)
			p.passes(p.server, p.client)
			_, _ = p.client.CloseWrite(), p.server.CloseWrite()
			p.ends(mesh.ReasonNone)
		},
	}
	for name, test := range tests {
		for layer, secure := range map[string]bool{"": false, ", mTLS": true} {
			t.Run(name+layer, func(t *testing.T) {
				p := park(t, secure, nil)
				for range 3 {
					p.passes(p.client, p.server)
					p.passes(p.server, p.client)
					p.rests()
				}
				test(p)
			})
		}
	}
}

// TestParkedDefect: a panic of what goes on after a wait cuts the connection alone, and is told.
func TestParkedDefect(t *testing.T) {
	p := park(t, false, func([]byte) { panic("as asked") })
	if _, err := p.server.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	p.expectEnd(p.client, unix.ECONNRESET)
	if defect := p.ends(mesh.ReasonUpstreamReset); defect == nil || defect.What != "as asked" || len(defect.Stack) == 0 {
		t.Errorf("the defect is %v", defect)
	}
}

// TestParkedBytes: bytes that come at any time while directions give up their goroutines, and get
// new ones, arrive as they were sent, through two agents.
func TestParkedBytes(t *testing.T) {
	const messages = 3000
	var lot conn.Lot
	look(t, &lot, 20*time.Microsecond)
	client, clientSide := proxytest.Pair(t)
	serverSide, server := proxytest.Pair(t)
	upstream, downstream, _ := proxytest.TLSPair(t)
	var all sync.WaitGroup
	for _, r := range []*conn.Relay{
		{Client: conn.Plain{Conn: clientSide}, Server: upstream, Lot: &lot},
		{Client: downstream, Server: conn.Plain{Conn: serverSide}, Lot: &lot},
	} {
		all.Go(func() {
			if reason := r.Run(nil, nil); reason != mesh.ReasonNone {
				t.Errorf("the relay was cut: %v", reason)
			}
			_, _ = r.Client.Close(), r.Server.Close()
		})
	}
	total := int64(0)
	for i := range messages {
		total += size(i)
	}
	for _, c := range []*rawio.Conn{client, server} {
		all.Go(func() {
			pattern := proxytest.NewPattern(total)
			for i := range messages {
				if _, err := io.CopyN(c, pattern, size(i)); err != nil {
					t.Error(err)
					break
				}
				if i%3 == 0 {
					time.Sleep(time.Duration(i%200) * time.Microsecond)
				}
			}
			_ = c.CloseWrite()
		})
		all.Go(func() {
			if got, n, err := proxytest.Sum(c); err != nil || n != total || got != proxytest.PatternSum(total) {
				t.Errorf("%d bytes of %d, or their content differs: %v", n, total, err)
			}
		})
	}
	all.Wait()
}

// size is that of a message: most are small.
func size(i int) int64 {
	if i%100 == 99 {
		return 70_000
	}
	return int64(1 + i%1500)
}
