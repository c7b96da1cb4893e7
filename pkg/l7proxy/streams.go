package l7proxy

import "github.com/underlane/underlane/pkg/l7proxy/upstream"

// OpaqueStreams says which opaque connections between nodes are streams of shared connections.
type OpaqueStreams = upstream.OpaqueStreams

// ManyStreams has those be streams that are opened often and carry little each.
const ManyStreams = upstream.ManyStreams
