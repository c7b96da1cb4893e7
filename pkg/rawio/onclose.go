package rawio

import "sync"

// closers are the functions that Close calls.
type closers struct {
	mu     sync.Mutex
	closed bool
	calls  []func()
}

// OnClose makes Close call f, once. Several functions are called in the order in which they
// were given. If the connection is closed already, OnClose calls f.
func (c *tcpSocket) OnClose(f func()) {
	c.closers.mu.Lock()
	closed := c.closers.closed
	if !closed {
		c.closers.calls = append(c.closers.calls, f)
	}
	c.closers.mu.Unlock()
	if closed {
		f()
	}
}

func (l *closers) run() {
	l.mu.Lock()
	calls := l.calls
	l.closed, l.calls = true, nil
	l.mu.Unlock()
	for _, f := range calls {
		f()
	}
}
