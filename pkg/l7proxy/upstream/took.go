package upstream

import (
	"errors"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/tap"
)

// Took says when a connection was made. The times are by balance.Now; zero: that step was
// not begun. A dial that tries again has the times of its last try.
type Took struct {
	Began, Connected time.Duration // TCP: from the first SYN until it was connected, or failed
	Shaking, Shaken  time.Duration // mTLS: from the handshake's turn until it was done, or failed
}

// Within returns how much of the time from since to until went into connecting, and into
// the handshake. A request that waits for a connection which others wait for as well may
// have come while it was being made.
func (t *Took) Within(since, until time.Duration) (connect, tls time.Duration) {
	return overlap(t.Began, t.Connected, since, until), overlap(t.Shaking, t.Shaken, since, until)
}

// Split returns where the time went until the connection was there, or had failed. Queue is
// the wait for the turn of the handshake. It is zero if nothing was dialled.
func (t *Took) Split() (s tap.Split) {
	s.Connect, s.TLS = t.Connected-t.Began, t.Shaken-t.Shaking
	if t.Shaking > 0 {
		s.Queue = max(0, t.Shaking-t.Connected)
	}
	return s
}

func overlap(from, to, since, until time.Duration) time.Duration {
	return max(0, min(to, until)-max(from, since))
}

// connecting records a TCP dial that begins, connected that it has ended.
func (t *Took) connecting() { *t = Took{Began: balance.Now()} }

func (t *Took) connected() { t.Connected = balance.Now() }

// shook records a handshake that ends. began is when its turn came; zero: it did not come.
func (t *Took) shook(began time.Duration) {
	if began > 0 {
		t.Shaking, t.Shaken = began, balance.Now()
	}
}

// failedDial is the failure of a dial, with its times, for those that waited for it.
type failedDial struct {
	error
	took Took
}

func (f *failedDial) Unwrap() error { return f.error }

// TookOf returns the times of the dial that failed with err. They are zero if err is not
// the failure of a dial that others waited for.
func TookOf(err error) (t Took) {
	if f, ok := errors.AsType[*failedDial](err); ok {
		return f.took
	}
	return t
}
