package http2

// abuse counts what a peer can do for free and that costs this end work. There
// is no clock here, so bounds are ratios and runs, not rates.
type abuse struct {
	opened int // streams
	reset  int // of them, ended by a reset before they were answered
	empty  int // empty DATA frames since the last useful frame
}

// premature counts a stream that ended in a reset before it was answered:
// cancelled by the peer, or reset because of what the peer sent. A peer most
// of whose streams end so is not using the connection, it is attacking it
// (rapid reset, CVE-2023-44487; "made you reset", CVE-2025-8671).
func (c *Conn) premature() error {
	c.abuse.reset++
	if c.cfg.Role == Server && c.abuse.reset > maxPrematureFree && c.abuse.reset*2 > c.abuse.opened {
		return connErr(EnhanceYourCalm, "too many streams reset before they were answered")
	}
	return nil
}

// openedStream counts a new stream; old history fades.
func (c *Conn) openedStream() {
	c.abuse.opened++
	if c.abuse.opened >= 10*maxPrematureFree {
		c.abuse.opened /= 2
		c.abuse.reset /= 2
	}
}

// emptyFrame counts a frame that carries nothing.
func (c *Conn) emptyFrame() error {
	c.abuse.empty++
	if c.abuse.empty > maxEmptyFrames {
		return connErr(EnhanceYourCalm, "too many empty frames")
	}
	return nil
}
