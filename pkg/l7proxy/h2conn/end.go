package h2conn

import (
	"errors"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
)

// A close with unread input is a reset, which takes from the peer what it has not read
// yet: the GOAWAY and the last responses. So a connection that this side ends is shut
// first, and what the peer still sends is read and dropped until the peer closes, within
// these bounds.
const (
	writeTime   = 2 * time.Second // time for the peer to take the last output
	lingerTime  = time.Second     // time for the peer to close after this side
	floodTime   = time.Second     // time before a peer is read on that was ended for a flood
	lingerBytes = 4 << 20         // what a peer may have sent before it sees the end: about two socket buffers
)

// errExcess ends the reading of a connection whose peer does not stop to send.
var errExcess = errors.New("the peer sends on after the end of the connection")

// finish shuts a connection whose work is done. The reader then waits for the peer's
// end, and closes the connection.
func (c *Conn) finish() {
	_ = c.NC.SetReadDeadline(time.Now().Add(lingerTime))
	if c.raw != nil {
		c.raw.SetPatient(true) // the flusher is the only writer now
	}
	if c.NC.CloseWrite() != nil {
		c.NC.Close()
	}
}

// drop drops n bytes that came after this side's FIN.
func (c *Conn) drop(n int) error {
	if c.excess += n; c.excess > lingerBytes {
		return errExcess
	}
	return nil
}

// End waits until the flusher has written what is queued, and closes the connection. It
// takes no longer than writeTime, floodTime and lingerTime together.
func (c *Conn) End() {
	c.reader.Pause()
	defer c.reader.Pause() // linger resumes it
	_ = c.NC.SetWriteDeadline(time.Now().Add(writeTime))
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.wake.Signal()
	<-c.flushed
	if c.Engine.Err() != nil {
		c.linger()
	}
	c.NC.Close()
}

// linger shuts a connection that was ended because of what the peer sent, and reads on.
// No other goroutine uses the connection any more.
func (c *Conn) linger() {
	c.finish()
	if broken, ok := errors.AsType[*http2.ConnError](c.Engine.Err()); ok && broken.Code == http2.EnhanceYourCalm {
		c.cool()
	}
	buf := conn.GetBuffer()
	defer conn.PutBuffer(buf)
	for {
		n, err := c.NC.Read(*buf)
		if err != nil || c.drop(n) != nil {
			return
		}
	}
}

// cool waits for floodTime, or until the peer closes, without reading. The peer has the
// GOAWAY, and would otherwise send its flood at full speed to be dropped, or on its next
// connection: this one counts for it meanwhile.
func (c *Conn) cool() {
	const look = 50 * time.Millisecond
	for left := floodTime; left > 0; left -= look {
		if ended, gone := c.NC.PeerClosed(); ended || gone {
			break
		}
		time.Sleep(look)
	}
	_ = c.NC.SetReadDeadline(time.Now().Add(lingerTime))
}
