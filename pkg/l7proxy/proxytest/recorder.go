package proxytest

import (
	"sync"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// Recorder keeps tap events. It implements l7proxy.Observer.
type Recorder struct {
	mu     sync.Mutex
	events []tap.Event
	more   chan struct{} // closed and replaced at each event

	// Redaction says how to collect header fields; nil: they are not collected. It must not
	// change while the proxy works.
	Redaction *tap.Redaction
}

// NewRecorder returns an empty recorder.
func NewRecorder() *Recorder { return &Recorder{more: make(chan struct{})} }

// Active implements l7proxy.Observer.
func (r *Recorder) Active() bool { return true }

// Headers implements l7proxy.Observer.
func (r *Recorder) Headers() *tap.Redaction { return r.Redaction }

// Emit implements tap.Sink.
func (r *Recorder) Emit(e *tap.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, *e)
	close(r.more)
	r.more = make(chan struct{})
}

// Wait waits for the n-th event of a kind, counted from 0, and returns it.
func (r *Recorder) Wait(t testing.TB, kind tap.Kind, n int) tap.Event {
	t.Helper()
	limit := time.After(30 * time.Second)
	for {
		r.mu.Lock()
		more, seen := r.more, 0
		for _, e := range r.events {
			if e.Kind == kind {
				if seen == n {
					r.mu.Unlock()
					return e
				}
				seen++
			}
		}
		all := r.events
		r.mu.Unlock()
		select {
		case <-more:
		case <-limit:
			t.Fatalf("no event %d of kind %d in %+v", n, kind, all)
		}
	}
}

// Count returns the number of events of a kind with that reason.
func (r *Recorder) Count(kind tap.Kind, reason mesh.Reason) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.Kind == kind && e.Reason == reason {
			n++
		}
	}
	return n
}

// Events returns all events so far.
func (r *Recorder) Events() []tap.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]tap.Event(nil), r.events...)
}
