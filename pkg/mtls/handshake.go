package mtls

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/underlane/underlane/pkg/mesh"
)

// Handshake completes conn's handshake. Its error is a *mesh.ReasonError with
// the reason that HandshakeReason gives. NotTLS and NotAgent are exact only for
// errors of this function, because it also records whether the peer had answered
// before it went away.
//
// In TLS 1.3 a client finishes its handshake before the server has seen its
// certificate. A refusal therefore arrives as an error of the client's first
// Read; Refused recognises it.
func Handshake(ctx context.Context, conn *tls.Conn) error {
	err := conn.HandshakeContext(ctx)
	if err == nil {
		return nil
	}
	switch answered := conn.ConnectionState().Version != 0; {
	case answered && NotTLS(err):
		return mesh.Fail(mesh.ReasonTLSFailed, fmt.Errorf("the peer broke the handshake off: %w", err))
	case !answered && busy(err):
		return mesh.Fail(mesh.ReasonOverload, fmt.Errorf("%w: %w", errPeerBusy, err))
	case ctx.Err() != nil && timedOut(err): // the caller's deadline: it says nothing about the peer
		return mesh.Fail(mesh.ReasonTimeout, err)
	case !answered && timedOut(err):
		return mesh.Fail(mesh.ReasonTimeout, fmt.Errorf("%w: %w", errSilent, err))
	case !answered && foreignAnswer(err):
		err = fmt.Errorf("%w: %w", errNotAgent, err)
	}
	if _, ok := errors.AsType[*mesh.ReasonError](err); ok {
		return err
	}
	if Refused(err) {
		err = fmt.Errorf("the peer refused our certificate: its agent's log and tap say why (%w)", err)
	}
	return mesh.Fail(HandshakeReason(err), err)
}

// NotTLS reports whether err, from a client's handshake, means that the peer does
// not speak TLS at all. If the agent of the server's node is down, the
// application answers instead. NotTLS is true of an answer that is not TLS, and
// of a connection that ended before any answer (for an error of a bare
// tls.Conn.Handshake: that ended at any time in the handshake). It is false of a
// TLS alert, which only a peer that speaks TLS sends.
func NotTLS(err error) bool {
	if _, ok := remoteAlert(err); ok {
		return false
	}
	if reason, ok := errors.AsType[*mesh.ReasonError](err); ok && reason.Reason != mesh.ReasonAgentDown {
		return false // the reason was decided already: the peer did speak TLS
	}
	if header, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return header.Conn != nil || !tlsRecord(header.RecordHeader[0]) // Conn: it was the peer's first record
	}
	return cutOff(err)
}

// NotAgent reports whether err, from a client's Handshake, means that the peer is
// not an agent. Either it does not speak TLS (NotTLS), or it is an application
// that speaks TLS itself while the agent of the server's node is down. Such an
// application refuses our versions or protocol names, or has a certificate
// without a SPIFFE identity; an agent does neither. Nor does an agent answer with
// anything but a ServerHello, as an echo server would.
//
// NotAgent is false of a certificate with a SPIFFE identity that is not the
// expected one, has expired, or is of another trust domain: that peer claims to
// be part of the mesh.
func NotAgent(err error) bool { return NotTLS(err) || errors.Is(err, errNotAgent) }

var errNotAgent = errors.New("the peer is not an agent of the mesh")

// foreignAnswer reports whether an error from before the peer's ServerHello means
// that the peer is not an agent. At that time the only error of our own is a
// cancelled context.
func foreignAnswer(err error) bool {
	alert, ok := remoteAlert(err)
	if !ok {
		return !errors.Is(err, context.Canceled) && !NotTLS(err)
	}
	switch alert {
	case 40, // handshake_failure: no cipher suite in common
		70,  // protocol_version: TLS 1.2 at most
		112, // unrecognized_name: it needs a server name, which we do not send
		120: // no_application_protocol: it knows none of our ALPN names
		return true
	}
	return false
}

// tlsRecord reports whether a byte is a content type of a TLS record (RFC 8446
// section 5.1).
func tlsRecord(contentType byte) bool { return 20 <= contentType && contentType <= 23 }

var errSilent = errors.New("the peer did not answer the handshake in time")

// Silent reports whether err, from Handshake, means that the connection's deadline
// passed before the peer answered anything. The peer is then an agent that is
// stuck, or an application that waits for more bytes while its agent is down.
// Silent is false if the context ended. An overloaded agent answers (Busy).
func Silent(err error) bool { return errors.Is(err, errSilent) }

// BusyAlert is an agent's answer to a ClientHello that it has no time for: a
// fatal alert, general_error, in a record of its own. No other kind of server
// sends that.
var BusyAlert = []byte{recordAlert, 3, 3, 0, 2, alertFatal, alertGeneralError}

const (
	recordAlert       = 21 // RFC 8446 section 5.1
	alertFatal        = 2
	alertGeneralError = 117 // draft-ietf-tls-rfc8446bis
)

var errPeerBusy = errors.New("the peer's agent has too many handshakes to do")

// Busy reports whether err, from Handshake, is the answer of an agent that is up
// but has no time. The answer is not authenticated and can be forged on the
// network, so it may only be used to try again a little later.
func Busy(err error) bool { return errors.Is(err, errPeerBusy) }

func busy(err error) bool {
	alert, ok := remoteAlert(err)
	return ok && alert == alertGeneralError
}

func cutOff(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// Refused reports whether err is the peer's alert about our certificate. It comes
// in the handshake or at the first read after it.
func Refused(err error) bool {
	alert, ok := remoteAlert(err)
	return ok && certificateAlert(alert)
}

// HandshakeReason classifies any error of a handshake: one of our own, an alert
// from the peer, an answer that is not TLS, a timeout. It returns ReasonNone for
// nil.
func HandshakeReason(err error) mesh.Reason {
	if err == nil {
		return mesh.ReasonNone
	}
	if reason, ok := errors.AsType[*mesh.ReasonError](err); ok {
		return reason.Reason
	}
	switch {
	case Refused(err):
		return mesh.ReasonTLSRefused
	case timedOut(err):
		return mesh.ReasonTimeout
	case NotTLS(err):
		return mesh.ReasonAgentDown
	case err.Error() == noClientCertificate:
		return mesh.ReasonTLSPeer
	}
	return mesh.ReasonTLSFailed
}

// noClientCertificate is the text of the error of a crypto/tls server whose
// client sent an empty certificate list. There is no typed error; a test checks
// that the text is still the same.
const noClientCertificate = "tls: client didn't provide a certificate"

func timedOut(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// remoteAlert returns the TLS alert that the peer sent. crypto/tls reports it as
// a net.OpError "remote error" around an unexported type, which has the same text
// as the exported AlertError.
func remoteAlert(err error) (tls.AlertError, bool) {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "remote error" || op.Err == nil {
		return 0, false
	}
	for code := range 256 {
		if alert := tls.AlertError(code); alert.Error() == op.Err.Error() {
			return alert, true
		}
	}
	return 0, false
}

// certificateAlert reports whether an alert is about the certificate that we sent
// or did not send (RFC 8446 section 6.2).
func certificateAlert(alert tls.AlertError) bool {
	switch alert {
	case 42, // bad_certificate
		43,  // unsupported_certificate
		44,  // certificate_revoked
		45,  // certificate_expired
		46,  // certificate_unknown
		48,  // unknown_ca
		49,  // access_denied
		116: // certificate_required
		return true
	}
	return false
}
