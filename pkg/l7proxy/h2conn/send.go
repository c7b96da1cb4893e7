package h2conn

import (
	"runtime"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
)

// Bounds of what a reader sends itself. More output than that is a body's, and more of it
// follows: the flusher encrypts and sends it while the reader reads on.
const (
	sendMost   = 16 << 10
	sendRounds = 2
	sendSmall  = 4 << 10 // output below this size waits a moment for more,
	sendCrowd  = 16      // if at least so many streams are open
)

// Send sends the connection's output as far as the socket takes it now, or makes the
// flusher send it. It never waits.
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
		// With so many streams, other readers are likely to be ready and to have more
		// output for this connection. It then goes out in the same record.
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
		buf = c.Engine.TakeOutput(buf)
		c.mu.Unlock()

		c.flusher.Resume()
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

// write writes all of the backlog and of buf, and waits for the socket.
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
