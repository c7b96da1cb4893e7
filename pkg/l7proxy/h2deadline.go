package l7proxy

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
)

// A gRPC call has its deadline in grpc-timeout, and client and server act upon
// it themselves: the proxy only ends a call that both have left alone for a
// while after it. That is looked for now and then on each client's connection,
// for a timer a call would cost more than all else about it.
const (
	h2DeadlineGrace = time.Second
	h2DeadlineLook  = time.Second
)

// grpcTimeout is the value of grpc-timeout (PROTOCOL-HTTP2 of gRPC). False:
// there is none, or it is malformed, or longer than can be said.
func grpcTimeout(value string) (time.Duration, bool) {
	const digits = 8
	if len(value) < 2 || len(value) > digits+1 {
		return 0, false
	}
	n, err := strconv.ParseUint(value[:len(value)-1], 10, 32)
	if err != nil {
		return 0, false
	}
	var unit time.Duration
	switch value[len(value)-1] {
	case 'H':
		unit = time.Hour
	case 'M':
		unit = time.Minute
	case 'S':
		unit = time.Second
	case 'm':
		unit = time.Millisecond
	case 'u':
		unit = time.Microsecond
	case 'n':
		unit = time.Nanosecond
	default:
		return 0, false
	}
	if n > uint64(math.MaxInt64/unit)/2 { // there is room for the time of day
		return 0, false
	}
	return time.Duration(n) * unit, true
}

// h2deadlines watches the deadlines of a connection's calls. The connection's mu
// guards it.
type h2deadlines struct {
	timer    *time.Timer
	watching bool
	more     bool // a call with a deadline came since the last look
}

// boundCall makes a gRPC call end by its deadline.
func (st *h2stream) boundCall() {
	d, ok := grpcTimeout(fieldValue(st.fields, "grpc-timeout"))
	if !ok {
		return
	}
	st.due(d)
	srv := st.srv
	srv.mu.Lock()
	defer srv.mu.Unlock()
	srv.deadlines.more = true
	if !srv.deadlines.watching {
		srv.lookLater()
	}
}

// lookLater is called with mu held.
func (srv *h2server) lookLater() {
	d := &srv.deadlines
	d.watching = !srv.closed
	switch {
	case srv.closed:
	case d.timer == nil:
		d.timer = time.AfterFunc(h2DeadlineLook, srv.endLateCalls)
	default:
		d.timer.Reset(h2DeadlineLook)
	}
}

// endLateCalls ends what is long past its deadline.
func (srv *h2server) endLateCalls() {
	srv.mu.Lock()
	srv.deadlines.more = false
	all := slices.Collect(maps.Values(srv.streams))
	srv.mu.Unlock()
	var b h2batch
	left := false
	for _, st := range all {
		st.mu.Lock()
		switch {
		case st.deadline == 0 || st.ended:
		case balance.Now()-st.deadline < h2DeadlineGrace:
			left = true
		default:
			st.requestLate(&b)
		}
		st.mu.Unlock()
	}
	b.flush()
	srv.mu.Lock()
	defer srv.mu.Unlock()
	srv.deadlines.watching = false
	if left || srv.deadlines.more {
		srv.lookLater()
	}
}

// stopLooking is for the end of the connection.
func (srv *h2server) stopLooking() {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if srv.deadlines.timer != nil {
		srv.deadlines.timer.Stop()
	}
}
