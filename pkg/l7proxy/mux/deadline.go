package mux

import (
	"sync"
	"time"
)

// SetDeadline implements net.Conn.
func (s *Stream) SetDeadline(t time.Time) error {
	_ = s.SetReadDeadline(t)
	return s.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (s *Stream) SetReadDeadline(t time.Time) error {
	s.read.set(s, &s.readable, t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (s *Stream) SetWriteDeadline(t time.Time) error {
	s.write.set(s, &s.writable, t)
	return nil
}

func (d *deadline) set(s *Stream, waiter *sync.Cond, t time.Time) {
	s.mu.Lock()
	d.stop()
	d.at = t
	if !t.IsZero() && !s.closed {
		d.timer = time.AfterFunc(time.Until(t), func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			waiter.Signal()
		})
	}
	s.mu.Unlock()
	waiter.Signal()
}

// deadline of reads or writes.
type deadline struct {
	at    time.Time // zero: none
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}
