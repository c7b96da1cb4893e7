package tap

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
)

// DefaultBuffer is the buffer of a subscription, in events, when the reader
// does not choose one: about half a megabyte, and half a second of a busy node.
const DefaultBuffer = 1024

// maxBuffer bounds what a reader may ask for: an Event is about 500 bytes.
const maxBuffer = 1 << 14

// ErrClosed is returned by Subscription.Next after Close.
var ErrClosed = errors.New("tap: subscription closed")

// Hub fans events out to the subscriptions of the moment. It is a Sink. Emit
// never blocks: with nobody subscribed it is one atomic load, otherwise it
// copies the event into the buffer of each subscription that wants it.
type Hub struct {
	always []Sink
	subs   atomic.Pointer[[]*Subscription] // copy-on-write; nil when there are none
	mu     sync.Mutex                      // writers of subs
	lost   atomic.Uint64
}

// NewHub returns a hub with no subscription. The sinks in always, such as the
// metrics, get every event, on Emit's goroutine and whether or not anybody is
// subscribed; they do not make the hub active.
func NewHub(always ...Sink) *Hub { return &Hub{always: always} }

// Active reports whether anybody reads: the proxy need not build an event's
// strings when nobody does.
func (h *Hub) Active() bool { return h.subs.Load() != nil }

// Emit offers e to every subscription.
func (h *Hub) Emit(e *Event) {
	for _, sink := range h.always {
		sink.Emit(e)
	}
	subs := h.subs.Load()
	if subs == nil {
		return
	}
	for _, s := range *subs {
		s.offer(e)
	}
}

// Lost is how many events slow readers have missed since the hub was made,
// over all subscriptions, closed ones included.
func (h *Hub) Lost() uint64 { return h.lost.Load() }

// Subscribe starts a subscription to the events that match accepts; a nil
// match accepts all. match runs on the path of traffic, on many goroutines at
// once: it must be quick, must not block and must not keep the event. buffer is
// in events; 0 means DefaultBuffer. Close must be called.
func (h *Hub) Subscribe(match func(*Event) bool, buffer int) *Subscription {
	if buffer <= 0 {
		buffer = DefaultBuffer
	}
	buffer = min(buffer, maxBuffer)
	s := &Subscription{
		hub: h, match: match,
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
	return s
}

func (h *Hub) remove(s *Subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
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

// Subscription is one reader's view of a Hub. Next is for one goroutine at a
// time; Close may come from any.
//
// A full buffer loses the newest events: those that arrive while it is full.
// So the overloaded moment costs the traffic's side only a counter, what the
// reader gets is contiguous (requests that began in the buffer are not cut out
// of its middle), and the gap is exactly where the reader is told of it: after
// the batch.
type Subscription struct {
	hub    *Hub
	match  func(*Event) bool
	ready  chan struct{} // capacity 1: filling is not empty, or something was lost
	closed chan struct{}
	once   sync.Once

	mu      sync.Mutex
	filling []Event // Emit appends here, up to its capacity
	lost    uint64

	spare []Event // the batch last handed out; Next's goroutine only
}

func (s *Subscription) offer(e *Event) {
	if s.match != nil && !s.match(e) {
		return
	}
	s.mu.Lock()
	wake := len(s.filling) == 0 && s.lost == 0
	if len(s.filling) < cap(s.filling) {
		s.filling = append(s.filling, *e)
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

// Next waits for events and returns all that are buffered, in order, and how
// many were lost right after them. The slice is valid until the next call. It
// returns ctx's error, or ErrClosed after Close.
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
	clear(s.spare) // the strings and workloads of the last batch are free to go
	s.mu.Lock()
	defer s.mu.Unlock()
	batch, lost := s.filling, s.lost
	s.filling, s.lost = s.spare[:0], 0
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
