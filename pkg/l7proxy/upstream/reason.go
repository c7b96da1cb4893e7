package upstream

import (
	"context"
	"errors"
	"os"

	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/rawio"
	"golang.org/x/sys/unix"
)

// connectReason returns the reason that a system's error stands for when a TCP connection
// could not be made.
func connectReason(err error) mesh.Reason {
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return mesh.ReasonConnectRefused
	case rawio.Exhausted(err):
		return mesh.ReasonExhausted
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, unix.ETIMEDOUT), os.IsTimeout(err):
		return mesh.ReasonConnectTimeout
	}
	return mesh.ReasonConnectFailed
}

// LocalFault reports whether a connection failed because this node lacks something:
// descriptors, memory or ports, or the client's share of the descriptors.
func LocalFault(err error) bool {
	for _, e := range [...]error{quota.ErrDescriptors, unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.EADDRNOTAVAIL} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// ReadReason returns why reading a response, or writing a request, failed.
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

// ReasonOf returns the reason that err carries, ReasonConnectFailed if it carries none.
func ReasonOf(err error) mesh.Reason {
	if reason, ok := errors.AsType[*mesh.ReasonError](err); ok {
		return reason.Reason
	}
	return mesh.ReasonConnectFailed
}

// TriesNextEndpoint reports whether a failure to connect is the fault of the endpoint or
// its node, so that another endpoint should be tried.
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

// agentAway reports whether a failed handshake means that the peer, which answered or kept
// silent, is an application rather than an agent. Overload of this node, and an endpoint
// that cannot be reached, do not mean that.
func agentAway(err error) bool { return mtls.NotAgent(err) || mtls.Silent(err) }

// refusedForAgent reports whether a handshake failed because the connection was refused.
// An agent accepts at every port. The kernel refuses while the agent of a pod that is
// strict, or fails closed, is away.
func refusedForAgent(err error) bool { return ReasonOf(err) == mesh.ReasonConnectRefused }

// nodeLost reports whether a connection failed because nothing answers at that address, not
// even to say that the port is closed.
func nodeLost(err error) bool {
	return err != nil && (ReasonOf(err) == mesh.ReasonConnectTimeout ||
		errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ENETUNREACH))
}
