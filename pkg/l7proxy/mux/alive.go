package mux

import (
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
)

// Answers returns nil if the peer was heard within the last time that recent says. Otherwise
// it asks the peer to answer, and returns a channel that is closed when the peer has
// answered, or the connection has ended.
func (c *Conn) Answers(recent time.Duration) <-chan struct{} {
	if balance.Now()-c.Heard() < recent {
		return nil
	}
	c.Lock()
	if c.Closed() {
		c.Unlock()
		return nil
	}
	asked := c.answered != nil
	if !asked {
		c.answered = make(chan struct{})
	}
	answered := c.answered
	c.Unlock()
	if !asked {
		c.Ping()
	}
	return answered
}

// answer ends the waits of Answers.
func (c *Conn) answer() {
	c.Lock()
	defer c.Unlock()
	if c.answered != nil {
		close(c.answered)
		c.answered = nil
	}
}
