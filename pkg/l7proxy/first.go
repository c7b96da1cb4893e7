package l7proxy

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/fairshare"
	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/l7proxy/detect"
	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/opaque"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
)

// firstBytes waits for the client's first bytes. A client that keeps silent for
// a moment may be waiting for the server to speak: then the endpoint is dialled
// meanwhile, and whichever side speaks first decides. Where servers are known
// to speak first, it is dialled at once. With an error, up is at most where
// that came from. The bytes are in *buf, which is given back while the client is silent, and
// is another one afterwards.
func (s *session) firstBytes(ctx context.Context, buf **[]byte) (head []byte, up *opaque.Opened, err error) {
	p, c := s.proxy, s.raw
	pause := p.hints.pause(s.Original)
	n, err := readWithin(c, **buf, pause)
	if errors.Is(err, os.ErrDeadlineExceeded) && s.Direction == mesh.Inbound && s.expectsAgent(ctx) {
		n, err = readWithin(c, **buf, p.Limits.HandshakeSilence)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		if n > 0 {
			p.hints.learn(s.Original, clientSpeaks)
		}
		return (**buf)[:n], nil, ignoreEOF(err)
	}
	r := race{client: c, done: make(chan struct{}), grace: pauseClient}
	switch {
	case s.Direction == mesh.Inbound:
		r.grace = ruledTime
	case pause == 0:
		r.grace = 0
	}
	dialCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	go r.server(dialCtx, s)

	n, err = readSilent(c, buf)
	if !errors.Is(err, os.ErrDeadlineExceeded) && r.claim(clientSpeaks) {
		if n > 0 {
			p.hints.learn(s.Original, clientSpeaks)
		}
		if n > 0 && !opaqueSoFar((**buf)[:n]) || ignoreEOF(err) != nil {
			cancel() // its connection is to be another one, or none
		}
		s.await(r.done)
		_ = c.SetReadDeadline(time.Time{})
		return (**buf)[:n], r.take(), ignoreEOF(err)
	}
	s.await(r.done)
	_ = c.SetReadDeadline(time.Time{})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	if r.err != nil {
		return nil, &opaque.Opened{Attempt: r.tried}, r.err
	}
	p.hints.learn(s.Original, serverSpeaks)
	return (**buf)[:n], r.take(), ignoreEOF(err)
}

// newTask returns a Task for a second goroutine that works for the session. It is charged to
// the same account.
func (s *session) newTask() *fairshare.Task {
	task := new(fairshare.Task)
	task.Charge(s.Task.Account())
	return task
}

// await waits for the end of such a goroutine. Meanwhile that goroutine may need the slot of
// the one that waits.
func (s *session) await(done <-chan struct{}) {
	s.aside(func() { <-done })
}

// silentBytes is the size of the buffer for the first bytes of a client that was silent. Many
// clients stay silent, and larger buffers would be most of the memory that they take.
const silentBytes = 512

// readSilent reads from a client that may stay silent, into *buf.
func readSilent(c *rawio.Conn, buf **[]byte) (int, error) {
	conn.PutBuffer(*buf)
	first := make([]byte, silentBytes)
	n, err := c.Read(first)
	*buf = conn.GetBuffer()
	return copy(**buf, first[:n]), err
}

// opaqueSoFar reports whether what the client said is opaque, or likely to be.
func opaqueSoFar(head []byte) bool {
	result := detect.Detect(head)
	return result.Protocol == detect.Opaque || result.NeedMore && detect.Likely(head) == detect.Opaque
}

// readWithin reads for so long; not at all if pause is 0.
func readWithin(c *rawio.Conn, buf []byte, pause time.Duration) (int, error) {
	if pause == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	// Most clients have spoken when their connection is accepted: then no timer is needed.
	if n, err := c.TryRead(buf); !errors.Is(err, rawio.ErrNotNow) {
		return n, err
	}
	_ = c.SetReadDeadline(time.Now().Add(pause))
	defer c.SetReadDeadline(time.Time{})
	return c.Read(buf)
}

// expectsAgent reports whether an inbound client that says nothing yet is
// likely to be another node's agent, whose ClientHello is on its way. The
// application must not speak before: the agent would take it for a pod without
// one.
func (s *session) expectsAgent(ctx context.Context) bool {
	p := s.proxy
	client := s.Source.Addr.Addr()
	if p.State.IsNode(client) {
		return false
	}
	p.directory.Expect(ctx, client, s.aside)
	w, ok := p.State.View().Workload(client)
	return ok && w.Meshed
}

func ignoreEOF(err error) error {
	if err == io.EOF {
		return nil // the driver meets it again
	}
	if err != nil {
		return mesh.Fail(mesh.ReasonClientReset, err)
	}
	return nil
}

// race is the server's side of the question who speaks first.
type race struct {
	client *rawio.Conn
	grace  time.Duration // for the client to speak when the endpoint cannot be reached
	done   chan struct{} // closed when server has returned

	mu     sync.Mutex
	winner speaker
	up     *opaque.Opened
	tried  *endpoints.Attempt // where err is from
	err    error
}

// claim says that who has spoken; false: the other had before. It wakes the
// other side's read.
func (r *race) claim(who speaker) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.winner != nobodyYet {
		return r.winner == who
	}
	r.winner = who
	if who == serverSpeaks {
		_ = r.client.SetReadDeadline(aLongTimeAgo)
	} else if r.up != nil {
		_ = r.up.Conn.SetReadDeadline(aLongTimeAgo)
	}
	return true
}

// server dials the endpoint and waits for it to speak.
func (r *race) server(ctx context.Context, s *session) {
	defer close(r.done)
	task := s.newTask()
	task.Resume()
	defer task.Pause()
	a, c, err := s.Reach(ctx, destination.Said{})
	if err != nil {
		r.fail(a, err, s.grace(err, r.grace))
		return
	}
	c.ReadsInTurn(task)
	defer c.ReadsInTurn(nil)
	r.mu.Lock()
	r.up = &opaque.Opened{Attempt: a, Conn: c}
	spoken := r.winner != nobodyYet
	r.mu.Unlock()
	if spoken {
		return
	}
	buf := make([]byte, 2048)
	n, err := c.Read(buf)
	if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		return // the client spoke
	}
	if n == 0 && mayWantRequests(s, a) {
		r.mu.Lock()
		r.up = nil
		r.mu.Unlock()
		c.Close()
		a.Done()
		r.fail(a, mesh.Fail(upstream.ReadReason(err), err), ruledTime)
		return
	}
	r.up.First = buf[:n]
	if n == 0 && err != io.EOF {
		r.up.Err = err
	}
	if detect.HTTP2Server(r.up.First) {
		return // it says that to any client: which protocol it is the client says
	}
	r.claim(serverSpeaks)
}

// mayWantRequests reports whether the agent of the endpoint may have closed a connection because
// its policies look at requests. The client may be one that connects ahead of need, and is to
// have the time to make one.
func mayWantRequests(s *session, a *endpoints.Attempt) bool {
	return s.Direction == mesh.Outbound && a.Peer.Workload != nil && a.Peer.Workload.RequestRules
}

// fail notes that the endpoint cannot be reached. A client that speaks HTTP is
// to get that as an answer, so it has a moment to speak before it is cut off.
func (r *race) fail(tried *endpoints.Attempt, err error, grace time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tried, r.err = tried, err
	if r.winner == nobodyYet {
		_ = r.client.SetReadDeadline(time.Now().Add(grace))
	}
}

// grace returns how long a silent client has to speak after err. An EgressNetwork, or an external
// authorizer, may allow what it says, although an opaque connection is not allowed.
func (s *session) grace(err error, usual time.Duration) time.Duration {
	reason := upstream.ReasonOf(err)
	if reason == mesh.ReasonEgressDenied && s.Target.Egress().LooksInside() || reason == mesh.ReasonExternalDenied {
		return ruledTime
	}
	return usual
}

// take returns the connection after server has returned, if there is one.
func (r *race) take() *opaque.Opened {
	if r.up != nil {
		_ = r.up.Conn.SetReadDeadline(time.Time{})
	}
	return r.up
}

type speaker uint8

const (
	nobodyYet speaker = iota
	clientSpeaks
	serverSpeaks
	clientOpaque // the client, and its first bytes told no protocol
)

// hints remembers who spoke first at a destination. It only decides how long
// to wait before dialling ahead, and for more bytes where the first told
// nothing; a wrong hint costs a connection or a moment.
type hints struct {
	mu           sync.Mutex
	firstSpeaker map[netip.AddrPort]speaker
}

const (
	pauseUnknown = 2 * time.Millisecond
	pauseClient  = 250 * time.Millisecond // an HTTP client that connects ahead of need
	hintsAtMost  = 4096
)

func (h *hints) pause(dst netip.AddrPort) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch h.firstSpeaker[dst] {
	case clientSpeaks, clientOpaque:
		return pauseClient
	case serverSpeaks:
		return 0
	}
	return pauseUnknown
}

// opaque reports whether first bytes that tell nothing are usual at dst.
func (h *hints) opaque(dst netip.AddrPort) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.firstSpeaker[dst] == clientOpaque
}

// learn notes who spoke first.
func (h *hints) learn(dst netip.AddrPort, who speaker) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if was := h.firstSpeaker[dst]; was == who || was == clientOpaque && who == clientSpeaks {
		return
	}
	h.put(dst, who)
}

// looked notes what the client's first bytes were: opaque, after some waiting, or
// a protocol that is known.
func (h *hints) looked(dst netip.AddrPort, opaque bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch was := h.firstSpeaker[dst]; {
	case opaque && was != clientOpaque:
		h.put(dst, clientOpaque)
	case !opaque && was == clientOpaque:
		h.put(dst, clientSpeaks)
	}
}

func (h *hints) put(dst netip.AddrPort, who speaker) {
	if len(h.firstSpeaker) >= hintsAtMost {
		for any := range h.firstSpeaker {
			delete(h.firstSpeaker, any)
			break
		}
	}
	h.firstSpeaker[dst] = who
}

// aLongTimeAgo is a deadline that wakes a pending read.
var aLongTimeAgo = time.Unix(1, 0)
