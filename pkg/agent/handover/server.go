package handover

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Server accepts successors.
type Server struct {
	log   *slog.Logger
	asked chan *Successor

	mu       sync.Mutex
	expected map[*Successor]bool // those that have come and not asked yet
	left     chan struct{}       // closed when one of expected has gone
}

// NewServer returns a Server that logs to log which agents come.
func NewServer(log *slog.Logger) *Server {
	return &Server{log: log, asked: make(chan *Successor), expected: map[*Successor]bool{}, left: make(chan struct{})}
}

// helloTimeout is for the first message of a new connection.
const helloTimeout = 5 * time.Second

// Asked delivers the successor that asks for the node.
func (s *Server) Asked() <-chan *Successor { return s.asked }

// Await returns the successor that asks for the node: it waits while one that has
// connected may still ask, at most for limit. nil: none did.
func (s *Server) Await(limit time.Duration) *Successor {
	timeout := time.After(limit)
	for {
		s.mu.Lock()
		n, left := len(s.expected), s.left
		s.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case c := <-s.asked:
			return c
		case <-left:
		case <-timeout:
			return nil
		}
	}
}

// Serve accepts successors on ln until ctx ends, and closes ln. A Successor that was
// delivered outlives it; the connections of the others are closed.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
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
		// A connection counts as a successor's before it says hello: the agent may be
		// stopped right after a successor has found it.
		c := &Successor{newLink(conn)}
		s.expect(c, true)
		guests.Go(func() {
			defer s.expect(c, false)
			s.receive(ctx, c)
		})
	}
}

// receive reads from a successor until it asks for the node.
func (s *Server) receive(ctx context.Context, c *Successor) {
	hangUp := context.AfterFunc(ctx, c.Close)
	_ = c.link.conn.SetReadDeadline(time.Now().Add(helloTimeout))
	if _, err := c.link.receive(kindHello); err != nil {
		c.Close() // not a successor
		hangUp()
		return
	}
	_ = c.link.conn.SetReadDeadline(time.Time{})
	s.log.Info("another agent gets ready to take the node over")
	if _, err := c.link.receive(kindRelease); err != nil || !hangUp() {
		c.Close()
		return
	}
	select {
	case s.asked <- c:
	case <-ctx.Done():
		c.Close()
	}
}

func (s *Server) expect(c *Successor, here bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if here {
		s.expected[c] = true
		return
	}
	delete(s.expected, c)
	close(s.left)
	s.left = make(chan struct{})
}
