package handover

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Door is where successors come.
type Door struct {
	log   *slog.Logger
	asked chan *Successor

	mu       sync.Mutex
	expected map[*Successor]bool // those that have come and not asked yet
	left     chan struct{}       // closed when one of expected has gone
}

// NewDoor returns a Door that tells log who comes.
func NewDoor(log *slog.Logger) *Door {
	return &Door{log: log, asked: make(chan *Successor), expected: map[*Successor]bool{}, left: make(chan struct{})}
}

// helloTimeout is for the first message of whoever connects.
const helloTimeout = 5 * time.Second

// Asked delivers who asks for the node.
func (d *Door) Asked() <-chan *Successor { return d.asked }

// Await returns who asks for the node, for as long as somebody is expected to,
// and at most for limit. Nil: nobody.
func (d *Door) Await(limit time.Duration) *Successor {
	timeout := time.After(limit)
	for {
		d.mu.Lock()
		n, left := len(d.expected), d.left
		d.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case s := <-d.asked:
			return s
		case <-left:
		case <-timeout:
			return nil
		}
	}
}

// Serve hears those who come to ln until ctx ends, and closes ln. A Successor
// that was delivered outlives it; the others are hung up on.
func (d *Door) Serve(ctx context.Context, ln net.Listener) error {
	var guests sync.WaitGroup
	defer guests.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	for {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("wait for a successor: %w", err)
		}
		// One who has come and not yet said hello is waited for already: the agent
		// may be stopped right after a successor has found it.
		s := &Successor{newLink(conn)}
		d.expect(s, true)
		guests.Go(func() {
			defer d.expect(s, false)
			d.receive(ctx, s)
		})
	}
}

// receive hears one who came until it asks.
func (d *Door) receive(ctx context.Context, s *Successor) {
	hangUp := context.AfterFunc(ctx, s.Close)
	_ = s.link.conn.SetReadDeadline(time.Now().Add(helloTimeout))
	if _, err := s.link.receive(kindHello); err != nil {
		s.Close() // somebody who only looked
		hangUp()
		return
	}
	_ = s.link.conn.SetReadDeadline(time.Time{})
	d.log.Info("another agent gets ready to take the node over")
	if _, err := s.link.receive(kindRelease); err != nil || !hangUp() {
		s.Close()
		return
	}
	select {
	case d.asked <- s:
	case <-ctx.Done():
		s.Close()
	}
}

func (d *Door) expect(s *Successor, here bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if here {
		d.expected[s] = true
		return
	}
	delete(d.expected, s)
	close(d.left)
	d.left = make(chan struct{})
}
