// Package mtls keeps the workload certificates of a node fresh and makes
// tls.Configs of them. Agents speak TLS 1.3 with each other, and each side proves
// the SPIFFE identity of its pod.
//
// The package only requests certificates (Signer); it cannot sign them. Private
// keys are made here and never leave the process.
package mtls

import (
	"context"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// ALPN names of the protocols inside a mesh connection. A peer that does not
// accept one of them is not an agent.
const (
	ALPNHTTP1 = "underlane/h1"
	ALPNMux   = "underlane/mux" // many HTTP/1 connections; a client that offers it also accepts ALPNHTTP1
	ALPNHTTP2 = "underlane/h2"
	ALPNTCP   = "underlane/tcp"
	// ALPNStreams is for many opaque connections. A client that offers it also accepts
	// ALPNTCP, which an agent of an older version chooses.
	ALPNStreams = "underlane/mux3"
	ALPNMove    = "underlane/move" // the rest of a stream of ALPNStreams that carries much
	// ALPNTCPAlone is for what ALPNTCP is for. An agent that chooses it supports ALPNStreams,
	// too. A client that offers it also accepts ALPNTCP.
	ALPNTCPAlone = "underlane/tcp2"
)

// Signer requests a certificate for a workload identity.
type Signer interface {
	// SignWorkload sends csrDER, a PKCS #10 request, and returns the authority's
	// answer. It must return when ctx ends.
	SignWorkload(ctx context.Context, id mesh.Identity, csrDER []byte) (Issued, error)
}

// Issued is the answer of the authority. All certificates are DER.
type Issued struct {
	Chain    [][]byte  // leaf first, without the root
	Anchors  [][]byte  // the complete trust bundle; empty: keep the current one
	NotAfter time.Time // of the leaf, for information: the leaf itself is authoritative
}
