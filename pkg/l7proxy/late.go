package l7proxy

import (
	"errors"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/detect"
	"github.com/underlane/underlane/pkg/mesh"
)

// errLate ends a connection that was forwarded as opaque and turned out to carry requests,
// to a destination with rules for requests.
var errLate = mesh.Fail(mesh.ReasonRequestTimeout, errors.New("the first request line came too late"))

// watchedFirst is the client's side of an opaque connection whose first bytes may still
// become a request line. As soon as they do, Read fails. The server has got at most the
// beginning of that line then.
type watchedFirst struct {
	conn.Conn
	first   []byte // all bytes so far
	decided bool
}

func (c *watchedFirst) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.decided {
		return n, err
	}
	c.first = append(c.first, p[:n]...)
	result := detect.Detect(c.first)
	if result.Protocol == detect.HTTP1 || result.Protocol == detect.HTTP2 {
		return 0, errLate
	}
	if !result.NeedMore {
		c.decided, c.first = true, nil
	}
	return n, err
}
