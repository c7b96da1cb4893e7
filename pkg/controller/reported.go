package controller

import "github.com/underlane/underlane/pkg/control/server"

// A pod that loses its label leaves the mesh, and its agent still carries the connections
// that it opened before. These may need new connections to servers, with the pod's
// identity. So other agents must know that the identity is still used at the pod's address.

// AgentConnected implements server.Observer. The agent's first report has all pods that are
// leaving.
func (e *enrolments) AgentConnected(a server.AgentInfo) {
	e.mu.Lock()
	for is := range e.leaving {
		if is.node == a.Node {
			delete(e.leaving, is)
			e.touch(is)
		}
	}
	e.mu.Unlock()
	e.Observer.AgentConnected(a)
}

// leave notes whether a node's agent carries connections of a pod that is leaving. The
// caller holds mu.
func (e *enrolments) leave(is claim, leaving bool) {
	e.touch(is)
	if leaving {
		e.leaving[is] = true
	} else {
		delete(e.leaving, is)
	}
}
