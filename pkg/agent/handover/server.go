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
	expected map[*Successor]bool // connected successors that have not asked for the node yet
	left     chan struct{}       // closed and replaced when one is removed from expected
}

// NewServer returns a Server that logs successors to log.
func NewServer(log *slog.Logger) *Server {
	return &Server{log: log, asked: make(chan *Successor), expected: map[*Successor]bool{}, left: make(chan struct{})}
}

// helloTimeout bounds the wait for the first message of a new connection.
const helloTimeout = 5 * time.Second

// Asked returns the channel that delivers the successor that asks for the node.
func (s *Server) Asked() <-chan *Successor { return s.asked }

// Await returns the successor that asks for the node. It waits, at most for limit, while
// there is a connected successor that has not asked yet. It returns nil if none asks.
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

// Serve accepts successors on ln until ctx ends, and closes ln. The connection of a
// Successor that was delivered stays open after that; the other connections are closed.
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
		// Count the connection as a successor's before its hello arrives: this agent
		// may be stopped right after a successor has connected.
		c := &Successor{link: newLink(conn)}
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
	hello, err := c.link.receive(kindHello)
	if err != nil {
		c.Close() // the peer is not a successor
		hangUp()
		return
	}
	c.kernelPaths = hello.KernelPaths
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
