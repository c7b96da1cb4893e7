package h2conn

import (
	"runtime"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
)

// Bounds of what a reader sends itself. Larger output is a body's, of which
// there is more: its encryption is the flusher's, beside the reading.
const (
	sendMost   = 16 << 10
	sendRounds = 2
	sendSmall  = 4 << 10 // output that is worth a look for more,
	sendCrowd  = 16      // where so many streams are open
)

// Send sends the output of one wake-up as far as the socket takes it now, or
// has the flusher do it. It never waits.
func (c *Conn) Send() {
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
	case c.raw == nil || c.behind || c.closed || n > sendMost || n == 0 && c.Engine.Done():
		c.mu.Unlock()
		c.wake.Signal()
		return
	}
	c.writing = true
	if n < sendSmall && c.Engine.Streams() >= sendCrowd {
		// With so much in flight other readers are likely to be ready that have
		// more to send: it goes out in the same record.
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
	}
	var err error
	for range sendRounds {
		if n = c.Engine.OutputLen(); n == 0 || n > sendMost || c.behind {
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
	more := c.behind || c.closed || c.Engine.OutputLen() > 0 || c.Engine.Done()
	c.mu.Unlock()
	if err != nil {
		c.NC.Close() // the reader sees it and ends the connection
	}
	if more {
		c.wake.Signal()
	}
}

// flush writes what Send leaves to it, until the connection ends.
func (c *Conn) flush() {
	defer close(c.flushed)
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
			c.wake.Wait()
		}
		c.writing = true
		buf = c.Engine.TakeOutput(buf)
		c.mu.Unlock()

		err := c.write(buf)
		c.mu.Lock()
		c.writing, c.behind = false, false
		opened := c.Engine.OutputOpened()
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

// write writes everything, waiting for the socket.
func (c *Conn) write(buf []byte) error {
	if c.raw == nil {
		_, err := c.NC.Write(buf)
		return err
	}
	c.raw.SetPatient(true)
	defer c.raw.SetPatient(false)
	if err := c.raw.Flush(); err != nil || len(buf) == 0 {
		return err
	}
	_, err := c.NC.Write(buf)
	return err
}
