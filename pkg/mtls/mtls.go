// Package mtls keeps the workload certificates of a node fresh and turns them
// into tls.Configs: TLS 1.3 between node agents, each side proving the SPIFFE
// identity of the pod it speaks for.
//
// The package only ever asks for certificates (Signer); it cannot make them.
// Private keys are made here and never leave the process.
package mtls

import (
	"context"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// ALPN names of what travels inside a mesh connection. A peer that does not
// agree to one of them is not an agent.
const (
	ALPNHTTP1 = "underlane/h1"
	ALPNMux   = "underlane/mux" // many connections of HTTP/1; a client that offers it takes ALPNHTTP1 too
	ALPNHTTP2 = "underlane/h2"
	ALPNTCP   = "underlane/tcp"
)

// Signer has a certificate made for a workload identity.
type Signer interface {
	// SignWorkload sends csrDER, a PKCS #10 request, and returns what the
	// authority answered. It must return when ctx ends.
	SignWorkload(ctx context.Context, id mesh.Identity, csrDER []byte) (Issued, error)
}

// Issued is the answer of the authority. All certificates are DER.
type Issued struct {
	Chain    [][]byte  // leaf first, without the root
	Anchors  [][]byte  // the whole trust bundle; empty leaves the current one
	NotAfter time.Time // of the leaf; the leaf itself is what counts
}
