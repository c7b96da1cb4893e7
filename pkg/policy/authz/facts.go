package authz

import (
	"net/netip"
	"strings"

	"github.com/underlane/underlane/pkg/mesh"
)

// Peer is the proven identity of a client. The zero Peer is a client without one.
type Peer struct {
	uri    string // SPIFFE ID
	domain string
	id     mesh.Identity // zero if the SPIFFE ID has another form than those of the mesh
}

// PeerOf returns the Peer with an identity of the mesh.
func PeerOf(id mesh.Identity) Peer {
	if id.IsZero() {
		return Peer{}
	}
	return Peer{uri: id.String(), domain: id.TrustDomain, id: id}
}

// ParsePeer returns the Peer with a SPIFFE ID of any form. It returns the zero Peer
// for what is not a SPIFFE ID.
func ParsePeer(uri string) Peer {
	if id, err := mesh.ParseIdentity(uri); err == nil {
		return PeerOf(id)
	}
	rest, ok := strings.CutPrefix(uri, "spiffe://")
	domain, _, _ := strings.Cut(rest, "/")
	if !ok || domain == "" {
		return Peer{}
	}
	return Peer{uri: uri, domain: domain}
}

// URI returns the client's SPIFFE ID, or "".
func (p Peer) URI() string { return p.uri }

// TrustDomain returns that of the client's SPIFFE ID, or "".
func (p Peer) TrustDomain() string { return p.domain }

// IsZero reports whether the client has no identity.
func (p Peer) IsZero() bool { return p.uri == "" }

// Identity returns the identity of the mesh that the client has, or the zero Identity.
func (p Peer) Identity() mesh.Identity { return p.id }

// Connection is what is known of a connection before any request.
type Connection struct {
	Peer   Peer       // proven by mTLS or, on the same node, by the kernel
	Client netip.Addr // as the server's node sees it
	Port   uint16     // of the workload
	Probe  bool       // the kernel knows that it comes from the workload's own node, for a probe
}

// Request is what is known of a request. The strings may point into a buffer that
// is reused later: this package does not keep them.
type Request struct {
	Method    string
	Authority string // host and port
	Path      string // as sent, with the query
	Fields    Fields // nil: none
	// Route is the name of the route that the request belongs to, or "". A Rule with
	// Operation.Routes compares it. A Workload finds it itself where a Group is Routed.
	Route string
	// Principal is "issuer/subject" of the request's verified token, or "".
	Principal string
	Claims    Claims // of that token; nil: none
	// External is what the authorizer Provider has said of this request. It counts for the
	// policies that ask this one.
	External Answer
	Provider string
}

// Fields are the header fields of a request.
type Fields interface {
	// Next returns the value of the first field line with that name at position from
	// or later, and the position after it; from is 0 at first. Without one, ok is
	// false. The name is in lower case and matches fields in any case.
	Next(name string, from int) (value string, next int, ok bool)
	// Alike is Next for the fields that only some servers take for those of that name: CGI, WSGI
	// and PHP make X_ROLE of x-role and of x_role.
	Alike(name string, from int) (value string, next int, ok bool)
}

// Claims are those of a verified token.
type Claims interface {
	// Value returns an element of the claim at path, counted from 0, and whether
	// there is one. A claim that is a string has one element.
	Value(path []string, i int) (value string, ok bool)
	// Object returns all claims, decoded from JSON; numbers are texts with the methods
	// Int64 and Float64. It must not be changed.
	Object() map[string]any
}

// Answer is what an external authorizer said.
type Answer uint8

// The answers. An authorizer that fails or does not answer in time is Refused.
const (
	NotAsked Answer = iota
	Granted
	Refused
)

// facts are what is looked at for one decision.
type facts struct {
	*Connection
	addr  netip.Addr
	r     *Request
	route string
	host  string
	clear bool // host is what every server reads in the request's authority
	path  readings

	err    error // of the last predicate that failed
	failed Failed
}

func factsOf(c *Connection, r *Request) facts {
	f := facts{Connection: c, addr: address(c.Client), r: r, route: r.Route, path: readPath(r.Path)}
	f.host, f.clear = readHost(r.Authority)
	return f
}
