package client

import (
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The node's certificate is given up after keepAtMost sessions that came to nothing, the first of
// them keepFor ago, if the controller has not said that it does not accept it. A controller that
// restarts, or to which all agents connect at once, closes connections without a word, and each
// bootstrap costs it another handshake, and the API server the review of a token.
const (
	keepAtMost = 3
	keepFor    = 2 * time.Minute
)

// vain is sessions in a row that the controller's host has accepted and that came to nothing.
type vain struct {
	n     int
	since time.Time // the first of them
}

// enough counts another one, and reports whether the certificate is to be given up.
func (v *vain) enough(now time.Time) bool {
	if v.n++; v.n == 1 {
		v.since = now
	}
	return v.n >= keepAtMost && now.Sub(v.since) >= keepFor
}

// refused reports whether a controller has said that it does not accept the certificate: in an
// answer, or by an alert of TLS, of which gRPC has the text only.
func refused(err error) bool {
	code := status.Code(err)
	return code == codes.Unauthenticated || code == codes.PermissionDenied || strings.Contains(err.Error(), "remote error: tls: ")
}
