package l7proxy

import (
	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/detect"
	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/opaque"
)

// opening is what a session has until its driver has it.
type opening struct {
	buf  *[]byte        // for the first bytes: the HTTP/1 driver gets it, the others a copy of these
	up   *opaque.Opened // made while the client was silent; nil: none
	seen detected       // its connection ahead is made while the first bytes do not show the protocol
}

// serverSpoke reports whether the server spoke first: the connection is opaque.
func (o *opening) serverSpoke() bool {
	up := o.up
	return up != nil && (len(up.First) > 0 && !detect.HTTP2Server(up.First) || up.Err != nil)
}

// tried is the attempt to reach the endpoint; nil: there was none.
func (o *opening) tried() *endpoints.Attempt {
	if o.up == nil {
		return nil
	}
	return o.up.Attempt
}

// putBuffer gives the buffer back.
func (o *opening) putBuffer() {
	conn.PutBuffer(o.buf)
	o.buf = nil
}

// giveUp closes the connections to the endpoint: the driver chooses one itself.
func (o *opening) giveUp() {
	o.up.Discard()
	o.seen.ahead.drop()
	o.up, o.seen.ahead = nil, nil
}
