package rawio

// MayOffer must be called before the first BeginOffer. After it, several goroutines may
// call Write, and until then only one.
func (c *writer) MayOffer() {
	if !c.later.on {
		c.later.patient = true
		c.later.once = c.tryOnce
		c.later.on = true
	}
}

// BeginOffer makes Write return at once, as Impatient does, until EndOffer. It is for a
// caller that can do without its buffer while the peer is slow: the connection keeps a copy
// of the bytes that the socket does not take, and no more than these. Writes during a Hold
// are held all the same.
func (c *writer) BeginOffer() { c.SetPatient(false) }

// EndOffer ends BeginOffer. It returns the number of bytes that the connection keeps, which
// Flush sends. The next Write sends them as well, and waits for the socket.
func (c *writer) EndOffer() (kept int) {
	l := &c.later
	l.mu.Lock()
	defer l.mu.Unlock()
	l.patient = true
	return len(l.buf) - l.done
}
