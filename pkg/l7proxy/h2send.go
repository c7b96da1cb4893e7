package l7proxy

import (
	"runtime"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
)

// Bounds of what a reader sends itself. Larger output is a body's, of which
// there is more: its encryption is the flusher's, beside the reading.
const (
	h2sendMost   = 16 << 10
	h2sendRounds = 2
	h2sendSmall  = 4 << 10 // output that is worth a look for more,
	h2sendCrowd  = 16      // where so many streams are open
)

// send sends the output of one wake-up as far as the socket takes it now, or
// has the flusher do it. It never waits.
func (c *h2conn) send() {
	c.mu.Lock()
	n := c.engine.OutputLen()
	switch {
	case c.writing && c.raw != nil:
		c.mu.Unlock() // whoever writes looks again
		return
	case n == 0 && !c.behind && !c.closed && !c.engine.Done():
		c.mu.Unlock()
		return
	case c.raw == nil || c.behind || c.closed || n > h2sendMost || n == 0 && c.engine.Done():
		c.mu.Unlock()
		c.wake.Signal()
		return
	}
	c.writing = true
	if n < h2sendSmall && c.engine.Streams() >= h2sendCrowd {
		// With so much in flight other readers are likely to be ready that have
		// more to send: it goes out in the same record.
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
	}
	var err error
	for range h2sendRounds {
		if n = c.engine.OutputLen(); n == 0 || n > h2sendMost || c.behind {
			break
		}
		buf := c.engine.TakeOutput(nil)
		c.mu.Unlock()
		_, err = c.nc.Write(buf)
		http2.Recycle(buf)
		behind := c.raw.Backlog() > 0
		c.mu.Lock()
		if c.behind = behind; err != nil {
			break
		}
	}
	c.writing = false
	more := c.behind || c.closed || c.engine.OutputLen() > 0 || c.engine.Done()
	c.mu.Unlock()
	if err != nil {
		c.nc.Close() // the reader sees it and ends the connection
	}
	if more {
		c.wake.Signal()
	}
}

// flush writes what send leaves to it, until the connection ends.
func (c *h2conn) flush() {
	defer close(c.flushed)
	var buf []byte
	var batch h2batch
	for {
		c.mu.Lock()
		for c.writing || c.engine.OutputLen() == 0 && !c.behind {
			if !c.writing && c.closed {
				c.mu.Unlock()
				return
			}
			if !c.writing && c.engine.Done() {
				c.mu.Unlock()
				c.finish()
				return
			}
			// An idle connection keeps no buffer.
			if c.engine.OutputLen() == 0 {
				http2.Recycle(c.engine.TakeOutput(nil))
			}
			http2.Recycle(buf)
			buf = nil
			c.wake.Wait()
		}
		c.writing = true
		buf = c.engine.TakeOutput(buf)
		c.mu.Unlock()

		err := c.write(buf)
		c.mu.Lock()
		c.writing, c.behind = false, false
		opened := c.engine.OutputOpened()
		c.mu.Unlock()
		if err != nil {
			c.nc.Close() // the reader sees it and ends the connection
			return
		}
		if opened {
			c.opened(&batch)
			batch.flush()
		}
	}
}

// write writes everything, waiting for the socket.
func (c *h2conn) write(buf []byte) error {
	if c.raw == nil {
		_, err := c.nc.Write(buf)
		return err
	}
	c.raw.SetPatient(true)
	defer c.raw.SetPatient(false)
	if err := c.raw.Flush(); err != nil || len(buf) == 0 {
		return err
	}
	_, err := c.nc.Write(buf)
	return err
}
