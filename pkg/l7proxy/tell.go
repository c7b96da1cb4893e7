package l7proxy

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/detect"
	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/opaque"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
)

const (
	// tellTime bounds how long first bytes are held that do not tell their
	// protocol, counted from the first: the server may have to answer them before
	// the client says more.
	tellTime = 50 * time.Millisecond
	// dialAfter is when the endpoint is dialled meanwhile. The rest of a request
	// line that comes in two segments is there by then.
	dialAfter = 2 * time.Millisecond
	// ruledTime bounds the same for the beginning of a request line where requests
	// are subject to rules: what is slow must not get around them.
	ruledTime = 10 * time.Second
)

// told is what first bytes are.
type told struct {
	detect.Result
	late bool // the beginning of a request whose rest did not come in time
	// watch: it is passed on as opaque, and must not turn out to be a request.
	watch bool
	ahead *ahead // the endpoint's connection, if it was dialled meanwhile
}

// tell reads on until the protocol is known, and no longer than is good for a
// protocol that is none of those that are known: such bytes are opaque.
func (s *session) tell(ctx context.Context, buf, head []byte, dialled bool) ([]byte, told) {
	p := s.proxy
	if len(head) == 0 {
		return head, told{Result: detect.Result{Protocol: detect.Opaque}}
	}
	result := told{Result: detect.Detect(head)}
	if result.NeedMore {
		t := telling{
			s: s, began: time.Now(),
			ruled: sync.OnceValue(s.Target.HasRequestRules),
			known: sync.OnceValue(func() bool { return p.hints.opaque(s.Original) }),
		}
		if !dialled {
			t.dial = func() *ahead { return s.dialAhead(ctx) }
		}
		if head, result = t.read(s.Client, buf, head); result.Protocol == detect.Opaque {
			p.hints.looked(s.Original, true)
		}
	}
	if result.Protocol == detect.HTTP1 || result.Protocol == detect.HTTP2 {
		p.hints.looked(s.Original, false)
	}
	return head, result
}

// telling is the reading on where the first bytes are not enough.
type telling struct {
	s     *session
	began time.Time
	ruled func() bool   // requests to the destination are subject to rules
	known func() bool   // it is known for first bytes that tell nothing
	dial  func() *ahead // nil: the endpoint is dialled
	ahead *ahead
}

func (t *telling) read(c conn.Conn, buf, head []byte) ([]byte, told) {
	result := detect.Result{NeedMore: true}
	timedOut := false
	defer c.SetReadDeadline(time.Time{})
	for got := len(head); result.NeedMore && len(head) < len(buf); {
		by, last := t.until(head)
		if timedOut = last && !time.Now().Before(by); timedOut {
			break
		}
		if got > 0 {
			conn.QuickAckPartial(c, got)
		}
		_ = c.SetReadDeadline(by)
		n, err := c.Read(buf[len(head):])
		head, got = buf[:len(head)+n], n
		result = detect.Detect(head)
		switch {
		case n > 0:
		case err == nil, errors.Is(err, os.ErrDeadlineExceeded):
			if !last {
				t.ahead, t.dial = t.dial(), nil
			}
		default: // the driver meets it again
			return head, t.opaque(head, result, false)
		}
	}
	return head, t.opaque(head, result, timedOut)
}

// opaque is what becomes of bytes that are not enough still.
func (t *telling) opaque(head []byte, result detect.Result, timedOut bool) told {
	now := told{Result: result, ahead: t.ahead}
	if !result.NeedMore {
		return now
	}
	now.Result = detect.Result{Protocol: detect.Opaque}
	switch likely := detect.Likely(head); {
	case likely == detect.TLS:
		now.Protocol = detect.TLS
	case !timedOut || t.s.opaque || !t.ruled():
	case likely == detect.HTTP1:
		now.late = true
	default:
		now.watch = true
	}
	return now
}

// until is when the next read is to end. If it is not the last one, the endpoint
// is dialled then.
func (t *telling) until(head []byte) (by time.Time, last bool) {
	wait, dial := tellTime, t.dial != nil
	switch likely := detect.Likely(head); {
	case likely == detect.TLS:
		if t.s.Direction == mesh.Inbound {
			// Of another node's agent, perhaps, with a segment lost. Nobody else's
			// server would answer half a hello either.
			wait, dial = t.s.proxy.Limits.HandshakeSilence, false
		}
	case t.s.opaque, likely == detect.Opaque && t.known():
		wait = 0
	case likely == detect.HTTP1 && t.ruled():
		wait, dial = ruledTime, false
	}
	if dial && wait > dialAfter {
		return t.began.Add(dialAfter), false
	}
	return t.began.Add(wait), true
}

// ahead is an opaque connection to the endpoint that is made while nobody knows
// yet whether there is to be one.
type ahead struct {
	cancel  context.CancelFunc
	done    chan struct{}
	attempt *endpoints.Attempt
	conn    conn.Conn
	err     error
}

func (s *session) dialAhead(ctx context.Context) *ahead {
	a := &ahead{done: make(chan struct{})}
	ctx, a.cancel = context.WithCancel(ctx)
	go func() {
		defer close(a.done)
		a.attempt, a.conn, a.err = s.Reach(ctx, mtls.ALPNTCP)
	}()
	return a
}

// take waits for the connection. With an error, tried is at most where that is
// from.
func (a *ahead) take() (up *opaque.Opened, tried *endpoints.Attempt, err error) {
	<-a.done
	a.cancel()
	if a.err != nil {
		return nil, a.attempt, a.err
	}
	return &opaque.Opened{Attempt: a.attempt, Conn: a.conn}, a.attempt, nil
}

// drop gives the connection up; a may be nil.
func (a *ahead) drop() {
	if a == nil {
		return
	}
	a.cancel()
	if up, _, err := a.take(); err == nil {
		up.Discard()
	}
}
