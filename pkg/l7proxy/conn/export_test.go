package conn

// HoldsBuffer reports whether the connection has a buffer to read ahead into.
func (c *Secure) HoldsBuffer() bool { return c.below.ahead != nil }

// Rests is how often the last Look has rested.
func (l *Lot) Rests() int { return int(l.rests.Load()) }
