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
// the reason that HandshakeReason gives, and NotTLS and NotAgent are exact about
// it: it also knows whether the peer had answered anything before it went away.
//
// In TLS 1.3 a client is done before the server has seen its certificate: a
// refusal arrives as an error of the client's first Read. Refused tells it.
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
	case ctx.Err() != nil && timedOut(err): // the caller's time, whatever the peer does
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

// NotTLS reports whether err, of a client's handshake, means that the peer
// does not speak TLS at all: what answers where the server's node agent is
// down is the application. An answer that is not TLS counts, and an end of the
// connection before any answer (for an err of Handshake; of a bare
// tls.Conn.Handshake, any end during the handshake). A TLS alert never does:
// something that speaks TLS refused.
func NotTLS(err error) bool {
	if _, ok := remoteAlert(err); ok {
		return false
	}
	if reason, ok := errors.AsType[*mesh.ReasonError](err); ok && reason.Reason != mesh.ReasonAgentDown {
		return false // whatever it wraps, it is not the peer's silence
	}
	if header, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return header.Conn != nil || !tlsRecord(header.RecordHeader[0]) // Conn: it was the peer's first record
	}
	return cutOff(err)
}

// NotAgent reports whether err, of a client's Handshake, means that what
// answered is no agent: it does not speak TLS (NotTLS), or it does as an
// application of its own, where the server's node agent is down. Such a server
// refuses our versions or protocol names, or shows a certificate without a
// SPIFFE identity; an agent does neither. Nor would an agent answer with
// something that is not a ServerHello, as an echo server does.
//
// A certificate with a SPIFFE identity that is not the expected one, of a
// foreign trust domain or expired, is a peer that poses as one of the mesh: of
// that NotAgent is false.
func NotAgent(err error) bool { return NotTLS(err) || errors.Is(err, errNotAgent) }

var errNotAgent = errors.New("the peer is not an agent of the mesh")

// foreignAnswer judges an error from before the peer's ServerHello was taken.
// Of ours alone, only the end of the context can come so early.
func foreignAnswer(err error) bool {
	alert, ok := remoteAlert(err)
	if !ok {
		return !errors.Is(err, context.Canceled) && !NotTLS(err)
	}
	switch alert {
	case 40, // handshake_failure: no cipher suite in common
		70,  // protocol_version: TLS 1.2 at most
		112, // unrecognized_name: it goes by server names, of which we send none
		120: // no_application_protocol: it knows none of our ALPN names
		return true
	}
	return false
}

// tlsRecord: the content types of RFC 8446 section 5.1.
func tlsRecord(contentType byte) bool { return 20 <= contentType && contentType <= 23 }

var errSilent = errors.New("the peer did not answer the handshake in time")

// Silent reports whether err, of Handshake, means that the connection's deadline
// passed before the peer answered anything: an application that waits for more,
// where an agent is down, or an agent that is stuck. The end of the context is not
// that. An agent that has too much to do says so (Busy).
func Silent(err error) bool { return errors.Is(err, errSilent) }

// BusyAlert is what an agent answers a ClientHello with that it has no time for:
// a fatal alert, general_error, in a record of its own. No server of another kind
// says that.
var BusyAlert = []byte{recordAlert, 3, 3, 0, 2, alertFatal, alertGeneralError}

const (
	recordAlert       = 21 // RFC 8446 section 5.1
	alertFatal        = 2
	alertGeneralError = 117 // draft-ietf-tls-rfc8446bis
)

var errPeerBusy = errors.New("the peer's agent has too many handshakes to do")

// Busy reports whether err, of Handshake, is the word of an agent that is there and
// has no time. Anybody on the way can say it in its place: it is good for nothing
// but to try again a little later.
func Busy(err error) bool { return errors.Is(err, errPeerBusy) }

func busy(err error) bool {
	alert, ok := remoteAlert(err)
	return ok && alert == alertGeneralError
}

func cutOff(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// Refused reports whether err is a peer's alert about the certificate we sent,
// in the handshake or at the first read after it.
func Refused(err error) bool {
	alert, ok := remoteAlert(err)
	return ok && certificateAlert(alert)
}

// HandshakeReason classifies any error of a handshake: ours, an alert of the
// peer's, something that is not TLS, time. ReasonNone for nil.
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

// noClientCertificate is what crypto/tls's server says when the client sent an
// empty certificate list; there is no typed error (a test watches the text).
const noClientCertificate = "tls: client didn't provide a certificate"

func timedOut(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// remoteAlert returns the TLS alert that the peer sent. crypto/tls reports it
// as a net.OpError "remote error" around an unexported type, whose text is the
// same as that of the exported AlertError.
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

// certificateAlert: the alerts about the certificate we sent, or did not send
// (RFC 8446 section 6.2).
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
