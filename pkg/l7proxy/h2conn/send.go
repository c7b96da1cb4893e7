package h2conn

import (
	"errors"
	"runtime"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
)

// Bounds of what a reader sends itself. More output than that is a body's, and more of it
// follows: the flusher encrypts and sends it while the reader reads on.
const (
	sendMost   = 16 << 10
	sendLarge  = 96 << 10 // of SendAll: all that the engine takes
	sendRounds = 2
	sendSmall  = 4 << 10 // output below this size may wait a moment for more,
	sendCrowd  = 4       // if at least so many streams are open
)

// Send sends the connection's output as far as the socket takes it now, or makes the
// flusher send it. It never waits.
func (c *Conn) Send() { send(c, sendMost) }

// SendAll is Send for a goroutine that does not read from the connection: it also encrypts and
// sends what else the flusher would, which saves waking that.
func SendAll(c *Conn) { send(c, sendLarge) }

func send(c *Conn, most int) {
	c.mu.Lock()
	n := c.Engine.OutputLen()
	switch {
	case c.writing && c.raw != nil:
		c.mu.Unlock() // the writer looks again
		return
	case c.shut:
		c.mu.Unlock()
		return
	case n == 0 && !c.behind && !c.closed && !c.Engine.Done():
		c.mu.Unlock()
		return
	case c.raw == nil || c.behind || c.closed || n > most || n == 0 && c.Engine.Done():
		c.mu.Unlock()
		c.wake.Signal()
		return
	}
	c.writing = true
	if n < sendSmall && c.Engine.Streams() >= sendCrowd && c.yields.pays() {
		// Other readers may be ready and have more output for this connection. It then goes
		// out in the same record.
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
		c.yields.paid(c.Engine.OutputLen() > n)
	}
	var err error
	for range sendRounds {
		if n = c.Engine.OutputLen(); n == 0 || n > most || c.behind {
			break
		}
		buf := c.Engine.TakeOutput(nil)
		c.mu.Unlock()
		_, err = c.NC.Write(buf)
		http2.Recycle(buf)
		behind := c.raw.Backlog() > 0
		c.mu.Lock()
		if c.behind = behind; err != nil {
			break
		}
	}
	c.writing = false
	opened := most > sendMost && !c.behind && c.Engine.OutputOpened()
	more := c.behind || c.closed || c.Engine.OutputLen() > 0 || c.Engine.Done()
	c.mu.Unlock()
	if err != nil {
		c.NC.Close() // the reader sees it and ends the connection
	}
	if more {
		c.wake.Signal()
	}
	if opened {
		resumeAll(c)
	}
}

// resumeAll resumes the writers that wait for room.
func resumeAll(c *Conn) {
	var batch Batch
	c.resume(&batch)
	batch.Flush()
}

// flush is the flusher: it writes the output that Send did not, until the connection ends.
func (c *Conn) flush() {
	defer close(c.flushed)
	defer c.flusher.Pause()
	var buf []byte
	var batch Batch
	for {
		c.mu.Lock()
		for c.writing || c.Engine.OutputLen() == 0 && !c.behind {
			if !c.writing && c.closed {
				c.mu.Unlock()
				return
			}
			if !c.writing && c.Engine.Done() && c.Engine.Err() == nil { // else End does it
				c.shut = true
				c.mu.Unlock()
				c.finish()
				return
			}
			// An idle connection keeps no buffer.
			if c.Engine.OutputLen() == 0 {
				http2.Recycle(c.Engine.TakeOutput(nil))
			}
			http2.Recycle(buf)
			buf = nil
			c.flusher.Pause()
			c.wake.Wait()
		}
		c.writing = true
		behind := c.behind
		if !behind {
			buf = c.Engine.TakeOutput(buf)
		}
		c.mu.Unlock()

		c.flusher.Resume()
		var err error
		if behind {
			err = c.flushBacklog()
		} else if _, err = c.NC.Write(buf); c.raw != nil {
			behind = c.raw.Backlog() > 0
			http2.Recycle(buf) // what the socket has not taken is in the backlog
			buf = nil
		}
		c.mu.Lock()
		c.writing, c.behind = false, behind && c.raw.Backlog() > 0
		opened := !c.behind && c.Engine.OutputOpened()
		c.mu.Unlock()
		if err != nil {
			c.NC.Close() // the reader sees it and ends the connection
			return
		}
		if opened {
			c.resume(&batch)
			batch.Flush()
		}
	}
}

// errOverBudget ends a connection whose peer reads too little of too much.
var errOverBudget = errors.New("too many bytes of the pod wait (--pod-buffer)")

// flushBacklog waits until the socket has taken the backlog. Meanwhile no output is taken
// from the engine, and the writers of streams wait when that is full.
func (c *Conn) flushBacklog() error {
	if c.Budget != nil {
		n := c.raw.Backlog()
		defer c.Budget.Waited(n)
		if !c.Budget.Wait(n) {
			return errOverBudget
		}
	}
	return c.raw.Flush()
}
