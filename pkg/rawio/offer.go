package rawio

// MayOffer must be called before the first Offer or BeginOffer. After it, several goroutines
// may call Write, and until then only one.
func (c *writer) MayOffer() {
	if !c.later.on {
		c.later.patient = true
		c.later.once = c.tryOnce
		c.later.on = true
	}
}

// Offer is a Write that does not wait. It is for a caller that can do without its buffer while
// the peer is slow: the connection keeps a copy of the bytes that the socket does not take.
// kept is their number. Flush sends them; the next Write sends them as well, and waits for the
// socket. Writes during a Hold are held all the same.
func (c *gatherer) Offer(p []byte) (kept int, err error) {
	if c.gathered.may || c.holds {
		c.BeginOffer()
		_, err = c.Write(p)
		return c.EndOffer(), err
	}
	l := &c.later
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err = c.writeOnce(p)
	return len(l.buf) - l.done, err
}

// BeginOffer makes the writes until EndOffer what Offer is.
func (c *writer) BeginOffer() { c.SetPatient(false) }

// EndOffer ends BeginOffer. It returns the number of bytes that the connection keeps.
func (c *writer) EndOffer() (kept int) {
	l := &c.later
	l.mu.Lock()
	defer l.mu.Unlock()
	l.patient = true
	return len(l.buf) - l.done
}
