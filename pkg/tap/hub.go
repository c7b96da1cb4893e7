package tap

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
)

// DefaultBuffer is the default size of a subscription's buffer, in events. It is
// about half a megabyte, or half a second of events on a busy node.
const DefaultBuffer = 1024

// maxBufferedHeaders bounds the memory of the header fields in a subscription's buffer, in
// bytes. Events above it come without fields, which are marked as cut.
const maxBufferedHeaders = 4 << 20

// maxBuffer is the largest buffer that a reader may ask for. An Event is about
// 500 bytes.
const maxBuffer = 1 << 14

// ErrClosed is returned by Subscription.Next after Close.
var ErrClosed = errors.New("tap: subscription closed")

// Hub fans events out to the current subscriptions. It is a Sink. Emit never
// blocks: without subscriptions it costs one atomic load, otherwise it copies the
// event into the buffer of each subscription that wants it.
type Hub struct {
	always [kinds][]Sink
	subs   atomic.Pointer[[]*Subscription] // copy-on-write; nil: no subscription
	mu     sync.Mutex                      // writers of subs
	lost   atomic.Uint64

	redaction *Redaction
	headers   atomic.Int32 // subscriptions that get header fields
}

// NewHub returns a hub without subscriptions. The sinks in always, such as the
// metrics, get every event, on the goroutine that calls Emit and whether or not
// there are subscriptions, in this order. They do not make the hub active.
func NewHub(always ...Sink) *Hub {
	h := &Hub{}
	h.redaction, _ = NewRedaction()
	for _, sink := range always {
		chooser, chooses := sink.(Chooser)
		for kind := range h.always {
			if !chooses || chooser.Wants(Kind(kind)) {
				h.always[kind] = append(h.always[kind], sink)
			}
		}
	}
	return h
}

// Redact replaces what is redacted in header fields, which otherwise is what NewRedaction
// redacts without names. It must be called before the first event.
func (h *Hub) Redact(r *Redaction) { h.redaction = r }

// Headers returns how to collect the header fields of an event, or nil if no subscription
// wants any. In that case they must not be collected.
func (h *Hub) Headers() *Redaction {
	if h.headers.Load() == 0 {
		return nil
	}
	return h.redaction
}

// Active reports whether there is a subscription. If there is none, the proxy
// need not build the strings of an event.
func (h *Hub) Active() bool { return h.subs.Load() != nil }

// Wanted reports whether anybody gets events of a kind. If nobody does, they need not be made.
func (h *Hub) Wanted(k Kind) bool { return len(h.always[k]) > 0 || h.Active() }

// Emit gives e to the always sinks and offers it to each subscription, unless it is Untold.
func (h *Hub) Emit(e *Event) {
	for _, sink := range h.always[e.Kind] {
		sink.Emit(e)
	}
	subs := h.subs.Load()
	if subs == nil || e.Untold {
		return
	}
	for _, s := range *subs {
		s.offer(e)
	}
}

// Lost returns how many events slow readers have missed since the hub was made,
// over all subscriptions including closed ones.
func (h *Hub) Lost() uint64 { return h.lost.Load() }

// Subscribe starts a subscription to the events that match accepts. A nil match
// accepts all. match runs in the data path, on many goroutines at once: it must
// be quick, and must neither block nor keep the event. buffer is in events; 0
// means DefaultBuffer. The caller must call Close.
func (h *Hub) Subscribe(match func(*Event) bool, buffer int) *Subscription {
	return h.subscribe(match, buffer, false)
}

// SubscribeHeaders is like Subscribe, and the events have header fields. Other
// subscriptions do not get them, because not every reader may see them.
func (h *Hub) SubscribeHeaders(match func(*Event) bool, buffer int) *Subscription {
	return h.subscribe(match, buffer, true)
}

func (h *Hub) subscribe(match func(*Event) bool, buffer int, headers bool) *Subscription {
	if buffer <= 0 {
		buffer = DefaultBuffer
	}
	buffer = min(buffer, maxBuffer)
	s := &Subscription{
		hub: h, match: match, headers: headers,
		filling: make([]Event, 0, buffer), spare: make([]Event, 0, buffer),
		ready: make(chan struct{}, 1), closed: make(chan struct{}),
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var subs []*Subscription
	if old := h.subs.Load(); old != nil {
		subs = slices.Clone(*old)
	}
	subs = append(subs, s)
	h.subs.Store(&subs)
	if headers {
		h.headers.Add(1)
	}
	return s
}

func (h *Hub) remove(s *Subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.headers {
		h.headers.Add(-1)
	}
	old := h.subs.Load()
	if old == nil {
		return
	}
	subs := slices.DeleteFunc(slices.Clone(*old), func(x *Subscription) bool { return x == s })
	if len(subs) == 0 {
		h.subs.Store(nil)
		return
	}
	h.subs.Store(&subs)
}

// Subscription is one reader's view of a Hub. Only one goroutine at a time may
// call Next; any goroutine may call Close.
//
// A full buffer loses the newest events: those that arrive while it is full.
// So an overload costs the data path only a counter. The reader gets a contiguous
// batch (nothing is cut out of its middle), and the gap comes exactly where the
// reader is told of it: after the batch.
type Subscription struct {
	hub     *Hub
	match   func(*Event) bool
	headers bool
	ready   chan struct{} // capacity 1; signalled when filling is not empty or events were lost
	closed  chan struct{}
	once    sync.Once

	mu      sync.Mutex
	filling []Event // Emit appends here, up to its capacity
	fields  int     // bytes of header fields in filling
	lost    uint64

	spare []Event // the batch that Next returned last; used only by Next's goroutine
}

func (s *Subscription) offer(e *Event) {
	if s.match != nil && !s.match(e) {
		return
	}
	s.mu.Lock()
	wake := len(s.filling) == 0 && s.lost == 0
	if len(s.filling) < cap(s.filling) {
		s.filling = append(s.filling, *e)
		if e.Headers != nil {
			s.bound(&s.filling[len(s.filling)-1])
		}
	} else {
		s.lost++
		s.hub.lost.Add(1)
	}
	s.mu.Unlock()
	if wake {
		select {
		case s.ready <- struct{}{}:
		default:
		}
	}
}

// bound removes the header fields of a buffered event that the reader does not get, or that
// are too many.
func (s *Subscription) bound(e *Event) {
	switch {
	case !s.headers:
		e.Headers = nil
	case s.fields+e.Headers.Size() > maxBufferedHeaders:
		e.Headers = cutHeaders
	default:
		s.fields += e.Headers.Size()
	}
}

// Next waits for events. It returns all that are buffered, in order, and how
// many were lost right after them. The slice is valid until the next call. The
// error is that of ctx, or ErrClosed after Close.
func (s *Subscription) Next(ctx context.Context) (events []Event, lost uint64, err error) {
	for {
		if events, lost = s.take(); len(events) > 0 || lost > 0 {
			return events, lost, nil
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		case <-s.closed:
			return nil, 0, ErrClosed
		}
	}
}

func (s *Subscription) take() ([]Event, uint64) {
	clear(s.spare) // release the strings and workloads of the last batch
	s.mu.Lock()
	defer s.mu.Unlock()
	batch, lost := s.filling, s.lost
	s.filling, s.fields, s.lost = s.spare[:0], 0, 0
	s.spare = batch
	return batch, lost
}

// Close ends the subscription and wakes Next. It may be called twice.
func (s *Subscription) Close() {
	s.once.Do(func() {
		s.hub.remove(s)
		close(s.closed)
	})
}
