package l7proxy

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/l7proxy/detect"
	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/opaque"
	"github.com/underlane/underlane/pkg/mesh"
)

const (
	// tellTime bounds how long first bytes are held whose protocol is not known yet,
	// counted from the first byte. It must be short: the client may wait for the
	// server's answer to these bytes.
	tellTime = 50 * time.Millisecond
	// dialAfter is when the endpoint is dialled while the bytes are held. The rest of a
	// request line in two segments arrives before that.
	dialAfter = 2 * time.Millisecond
	// ruledTime replaces tellTime for the beginning of a request line if the destination
	// has rules for requests: a slow client must not get around them.
	ruledTime = 10 * time.Second
)

// detected is the result of detection.
type detected struct {
	detect.Result
	late bool // the bytes begin a request whose rest did not arrive in time
	// watch: the connection is forwarded as opaque, but must not carry requests.
	watch bool
	ahead *ahead // the connection to the endpoint, if it was dialled meanwhile
}

// tell reads until the protocol is known, for a limited time. Bytes whose protocol is
// still not known then are opaque.
func (s *session) tell(ctx context.Context, buf, head []byte, dialled bool) ([]byte, detected) {
	p := s.proxy
	if len(head) == 0 {
		return head, detected{Result: detect.Result{Protocol: detect.Opaque}}
	}
	result := detected{Result: detect.Detect(head)}
	if result.NeedMore {
		t := detection{
			s: s, began: time.Now(),
			ruled: sync.OnceValue(s.Target.HasRequestRules),
			known: sync.OnceValue(func() bool { return p.hints.opaque(s.Original) }),
			named: func() bool { return s.Target.Egress().LooksAtTLS() },
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

// detection reads more bytes if the first ones do not show the protocol.
type detection struct {
	s     *session
	began time.Time
	ruled func() bool   // the destination has rules for requests
	known func() bool   // a hint says that the destination is opaque
	named func() bool   // the server name of TLS decides whether the client may connect; nil: no
	dial  func() *ahead // starts to dial the endpoint; nil: it is being dialled
	ahead *ahead
}

func (t *detection) read(c conn.Conn, buf, head []byte) ([]byte, detected) {
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
		default: // the driver's next read returns the error again
			return head, t.opaque(head, result, false)
		}
	}
	return head, t.opaque(head, result, timedOut)
}

// opaque makes the result if the bytes still do not show the protocol.
func (t *detection) opaque(head []byte, result detect.Result, timedOut bool) detected {
	now := detected{Result: result, ahead: t.ahead}
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

// until returns the deadline of the next read. If that read is not the last one, the
// endpoint is dialled after it.
func (t *detection) until(head []byte) (by time.Time, last bool) {
	wait, dial := tellTime, t.dial != nil
	switch likely := detect.Likely(head); {
	case likely == detect.TLS:
		if t.s.Direction == mesh.Inbound {
			// The hello may come from another node's agent, with a segment lost. Waiting
			// does no harm: no server answers half a hello.
			wait, dial = t.s.proxy.Limits.HandshakeSilence, false
		} else if t.named != nil && t.named() {
			wait, dial = ruledTime, false
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

// ahead is an opaque connection to the endpoint that is made before it is known whether
// the protocol is opaque.
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
		task := s.newTask()
		task.Resume()
		defer task.Pause()
		a.attempt, a.conn, a.err = s.Reach(ctx, destination.Said{})
	}()
	return a
}

// take waits for the connection. If there is an error, tried is the attempt that failed;
// nil: there was none.
func (a *ahead) take() (up *opaque.Opened, tried *endpoints.Attempt, err error) {
	<-a.done
	a.cancel()
	if a.err != nil {
		return nil, a.attempt, a.err
	}
	return &opaque.Opened{Attempt: a.attempt, Conn: a.conn}, a.attempt, nil
}

// drop cancels the dial and closes the connection. a may be nil.
func (a *ahead) drop() {
	if a == nil {
		return
	}
	a.cancel()
	if up, _, err := a.take(); err == nil {
		up.Discard()
	}
}
