package rawio

// Now returns the facts of the connection as they are now, or as they were when it was
// closed. It costs one system call. Any goroutine may call it.
func (c *tcpSocket) Now() Facts {
	if c.last.Load() != nil {
		return c.Last()
	}
	f := new(Facts)
	_ = c.raw.Control(f.ask) // it fails if the connection is being closed
	f.Read, f.Written = c.Bytes()
	return *f
}
