package conn

// HoldsBuffer reports whether the connection has a buffer to read ahead into.
func (c *Secure) HoldsBuffer() bool { return c.below.ahead != nil }
