package upstream

import (
	"context"
	"errors"
	"os"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
	"golang.org/x/sys/unix"
)

// connectReason is what the system's error means, of a TCP connection that was not made.
func connectReason(err error) mesh.Reason {
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return mesh.ReasonConnectRefused
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, unix.ETIMEDOUT), os.IsTimeout(err):
		return mesh.ReasonConnectTimeout
	}
	return mesh.ReasonConnectFailed
}

// LocalFault reports whether a connection failed for want of something here.
func LocalFault(err error) bool {
	for _, e := range [...]error{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.EADDRNOTAVAIL} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// ReadReason is why reading a response failed.
func ReadReason(err error) mesh.Reason {
	if mtls.Refused(err) {
		return mesh.ReasonTLSRefused
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return mesh.ReasonTimeout
	}
	if reason, ok := errors.AsType[*mesh.ReasonError](err); ok {
		return reason.Reason
	}
	return mesh.ReasonUpstreamReset
}

// ReasonOf is the reason that err carries.
func ReasonOf(err error) mesh.Reason {
	if reason, ok := errors.AsType[*mesh.ReasonError](err); ok {
		return reason.Reason
	}
	return mesh.ReasonConnectFailed
}

// TriesNextEndpoint reports whether a failure to connect is the endpoint's or its
// node's, so that another may do.
func TriesNextEndpoint(why mesh.Reason) bool {
	switch why {
	case mesh.ReasonTLSPeer, mesh.ReasonTLSIdentity, mesh.ReasonTLSFailed, mesh.ReasonTLSRefused, mesh.ReasonAgentDown, mesh.ReasonPodGone:
		return true
	}
	return why.NotReached()
}

// Deserted reports whether a connection on which a request was under way ended because
// nothing is at its other end any more: the pod has ended, its agent hangs, or its node is
// lost. Another endpoint may be asked at once if the request can be repeated, because the
// application may have seen it.
func Deserted(why mesh.Reason) bool {
	return why == mesh.ReasonPodGone || why == mesh.ReasonAgentDown || why == mesh.ReasonConnectTimeout
}

// agentAway reports whether a failed handshake means that what answered, or
// kept silent, is an application rather than an agent. Our own overload and an
// endpoint that cannot be reached are not that.
func agentAway(err error) bool { return mtls.NotAgent(err) || mtls.Silent(err) }

// refusedForAgent reports whether a handshake failed because the connection was
// refused. No agent does that, whatever the port: the kernel does, while the agent
// of a pod that is strict, or fails closed, is away.
func refusedForAgent(err error) bool { return ReasonOf(err) == mesh.ReasonConnectRefused }

// nodeLost reports whether a connection failed because nothing at that address
// answers, not even that the port is closed.
func nodeLost(err error) bool {
	return err != nil && (ReasonOf(err) == mesh.ReasonConnectTimeout ||
		errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ENETUNREACH))
}
