package controller

import (
	"net"
)

// leader reports whether this controller leads, and otherwise the address at which agents
// connect to the one that does, "" if it is not known: see server.Options.
func (c *Controller) leader() (leads bool, address string) {
	if c.writer.Leading() {
		return true, ""
	}
	namespace, name := c.platform.Leader()
	if name == "" {
		return false, ""
	}
	_, port, err := net.SplitHostPort(c.opt.Listen)
	if err != nil {
		return false, ""
	}
	for _, w := range c.Workloads() {
		if w.Namespace == namespace && w.Name == name {
			for _, a := range w.Addrs {
				return false, net.JoinHostPort(a.Unmap().String(), port)
			}
		}
	}
	return false, ""
}
