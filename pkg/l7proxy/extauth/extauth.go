// Package extauth has the two protocols in which external authorizers are asked about
// requests: a request of HTTP/1, and the call envoy.service.auth.v3.Authorization/Check. It
// makes questions and reads answers. It has no socket and no clock.
//
// An answer that is not understood in whole, or is over a limit, is an error: the caller
// takes it for no answer.
package extauth

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	pb "github.com/underlane/underlane/api/extauth/v1"
	"github.com/underlane/underlane/pkg/mesh"
)

// Limits of an answer.
const (
	MaxAnswer = 64 << 10 // bytes of its head, and as many of its body
	MaxFields = 100      // header fields that it sets, removes or gives to the client
)

// Request is what an authorizer may be told about a request. Everything in it comes from the
// client.
type Request struct {
	ID       string // for the authorizer's log
	Method   string
	Extended bool // Method is the CONNECT of RFC 8441
	Scheme   string
	Host     string // with the port, if the client has said one
	Path     string // with the query
	Protocol string // HTTP/1.1 or HTTP/2
	Fields   iter.Seq2[string, string]

	Source, Destination Peer
}

// Peer is an end of the client's connection.
type Peer struct {
	Addr      netip.AddrPort
	Principal string // SPIFFE ID; "": none
}

// Question is a question about a request, without the body that the authorizer may see.
type Question struct {
	head  []byte           // HTTP, without Content-Length
	check *pb.CheckRequest // gRPC
}

// Ask begins a question. It keeps no string of r for HTTP; for gRPC it copies what it keeps.
func Ask(a *mesh.ExternalAuth, r *Request) (q Question, err error) {
	if a.GRPC {
		return Question{check: checkOf(a, r)}, nil
	}
	q.head, err = appendHTTP(nil, a, r)
	return q, err
}

// Message returns the question with a body, or the begin of it. size is that of the whole
// body; -1: it is not known.
func (q *Question) Message(body []byte, size int64) ([]byte, error) {
	if q.check != nil {
		return marshal(q.check, body, size)
	}
	out := strconv.AppendInt(append(q.head, "content-length: "...), int64(len(body)), 10)
	return append(append(out, "\r\n\r\n"...), body...), nil
}

// Answer is what an authorizer has decided.
type Answer struct {
	Allowed bool

	// Of a request that is allowed: fields to remove from it, with names in lower case, fields
	// to add then, and fields to add to the response for the client.
	Remove   []string
	Add      []mesh.HeaderField
	Response []mesh.HeaderField

	// Of one that is refused: the response for the client.
	Status int
	Fields []mesh.HeaderField
	Body   []byte
}

// denied is the status of a refusal that has none.
const denied = 403

var errTooLarge = errors.New("the authorizer's answer is over the limit")

// count checks the number of fields.
func (a *Answer) count() error {
	if len(a.Remove) > MaxFields || len(a.Add) > MaxFields || len(a.Response) > MaxFields || len(a.Fields) > MaxFields {
		return errTooLarge
	}
	return nil
}

// set replaces all fields of a name of the request. If it is called again, the request has
// both values.
func (a *Answer) set(name, value string) {
	if !slices.Contains(a.Remove, name) {
		a.Remove = append(a.Remove, name)
	}
	a.Add = append(a.Add, mesh.HeaderField{Name: name, Value: value})
}

// bound reports whether a field, with its name in lower case, belongs to a connection, frames
// a message, or says where the message goes. No authorizer gets, sets or removes such.
func bound(name string) bool {
	switch name {
	case "", "host", "content-length", "transfer-encoding", "connection", "keep-alive", "proxy-connection", "te", "trailer",
		"upgrade", "http2-settings", "expect", "underlane-reason":
		return true
	}
	return name[0] == ':'
}

// checkField checks a field that an authorizer has made.
func checkField(name, value string) error {
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return fmt.Errorf("the authorizer's field %q is not valid", name)
		}
	}
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return fmt.Errorf("the value of the authorizer's field %q is not valid", name)
		}
	}
	return nil
}
