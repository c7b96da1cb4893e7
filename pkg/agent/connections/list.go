package connections

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/redirect/netns"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/tap/filter"
	"github.com/underlane/underlane/pkg/tap/wire"
)

const (
	// maxAsked bounds the questions that are answered at once. Others wait.
	maxAsked = 2
	// DefaultLimit and MaxLimit bound the connections in an answer.
	DefaultLimit = 1000
	MaxLimit     = 10_000
	// maxSockets bounds the connections that no proxy carries and that one question reads.
	maxSockets = 50_000
)

// open is a connection that is a candidate for an answer.
type open struct {
	*conn
	socket *netns.Connection // of a connection that no proxy carries
}

// List answers the rpc Connections. Its errors are those of ctx, and of the filter.
func (t *Table) List(ctx context.Context, r *agentv1.ConnectionsRequest) (*agentv1.ConnectionsResponse, error) {
	wanted, err := filter.New(filter.Request{Target: r.GetTarget(), Namespace: r.GetNamespace(), Legs: true})
	if err != nil {
		return nil, err
	}
	limit := int(min(r.GetLimit(), MaxLimit))
	if limit == 0 {
		limit = DefaultLimit
	}
	select {
	case t.asked <- struct{}{}:
		defer func() { <-t.asked }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}

	out := &agentv1.ConnectionsResponse{Node: t.Node}
	all, warnings := t.candidates(ctx)
	all = slices.DeleteFunc(all, func(o open) bool {
		e := t.eventOf(o)
		return !wanted.Match(&e)
	})
	out.Total, out.Warnings = uint64(len(all)), warnings
	slices.SortStableFunc(all, func(a, b open) int { return a.began.Compare(b.began) })
	for _, o := range all[:min(len(all), limit)] {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if m := t.describe(o); m != nil {
			out.Connections = append(out.Connections, m)
		}
	}
	out.Time = timestamppb.Now()
	return out, nil
}

// candidates returns all connections that are open, and a sentence for what is not known.
func (t *Table) candidates(ctx context.Context) (all []open, warnings []string) {
	t.mu.Lock()
	all = make([]open, 0, len(t.order))
	for _, c := range t.order {
		all = append(all, open{conn: c})
	}
	t.mu.Unlock()
	if t.Direct == nil {
		return all, nil
	}
	unknown, sockets := 0, 0
	var cause error
	for _, w := range t.Pods() {
		if !w.Meshed {
			continue
		}
		if ctx.Err() != nil || sockets > maxSockets {
			unknown++
			continue
		}
		list, err := t.Direct(w.UID)
		if err != nil {
			unknown, cause = unknown+1, err
			continue
		}
		sockets += len(list)
		for i := range list {
			all = append(all, open{t.connOf(w, &list[i]), &list[i]})
		}
	}
	if unknown > 0 {
		text := fmt.Sprintf("connections of %d pods that no proxy carries are missing", unknown)
		if cause != nil {
			text += ": " + cause.Error()
		}
		warnings = append(warnings, text)
	}
	return all, warnings
}

// connOf returns a connection that no proxy carries. began is zero if the kernel has not
// told when it was opened.
func (t *Table) connOf(w *mesh.Workload, s *netns.Connection) *conn {
	t.mu.Lock()
	c := t.direct[direct{w.UID, s.Local, s.Remote}]
	t.mu.Unlock()
	if c != nil {
		return c
	}
	own, other := tap.Peer{Addr: s.Local, Workload: w}, tap.Peer{Addr: s.Remote}
	c = &conn{source: own, destination: other, tls: tap.TLSNotProxied, protocol: "tcp"}
	if s.Server {
		c.source, c.destination, c.direction = other, own, mesh.Inbound
	} else {
		c.service = t.Service(s.Remote.Addr())
	}
	return c
}

// eventOf returns the event that says that a connection is open.
func (t *Table) eventOf(o open) tap.Event {
	kind := tap.ConnOpen
	if o.side != 0 {
		kind = tap.LegOpen
	}
	e := o.event(kind, o.began)
	for _, p := range []*tap.Peer{&e.Source, &e.Destination} {
		if p.Workload == nil && p.Addr.IsValid() { // it may be known by now
			p.Workload = t.Workload(p.Addr.Addr())
		}
	}
	return e
}

// describe asks the kernel for the facts of a connection. It returns nil if the connection
// has ended meanwhile.
func (t *Table) describe(o open) *agentv1.OpenConnection {
	o.mu.Lock()
	ended := o.ended
	o.mu.Unlock()
	if ended {
		return nil
	}
	e := t.eventOf(o)
	m := &agentv1.OpenConnection{}
	if s := o.socket; s != nil {
		e.SRTT, e.MinRTT, e.Retransmits = s.SRTT, s.MinRTT, s.Retransmits
		e.ReadBytes, e.WriteBytes = s.Sent, s.Received
		if s.Server {
			e.ReadBytes, e.WriteBytes = s.Received, s.Sent
		}
		leg := tap.Leg{SRTT: s.SRTT, MinRTT: s.MinRTT, Retransmits: s.Retransmits, Received: s.Received, Sent: s.Sent, Unread: s.Unread}
		e.Legs = &tap.Legs{Server: leg}
		m.Server = ends(s.Local, s.Remote)
	} else {
		legs := o.live.Legs()
		e.ReadBytes, e.WriteBytes = o.live.Bytes()
		e.Legs = &tap.Legs{Client: legs.Client.Leg, Server: legs.Server.Leg}
		facts := e.Legs.Wire(e.Direction)
		switch e.Side {
		case tap.ClientSide:
			facts = &e.Legs.Client
		case tap.ServerSide:
			facts = &e.Legs.Server
		}
		e.SRTT, e.MinRTT, e.Retransmits = facts.SRTT, facts.MinRTT, facts.Retransmits
		m.Client, m.Server = ends(legs.Client.Local, legs.Client.Remote), ends(legs.Server.Local, legs.Server.Remote)
	}
	m.Event = wire.ToProto(&e)
	if o.began.Equal(time.Time{}) {
		m.Event.Time = nil
	}
	return m
}

func ends(local, remote netip.AddrPort) *agentv1.OpenConnection_Ends {
	if !local.IsValid() {
		return nil
	}
	return &agentv1.OpenConnection_Ends{Local: local.String(), Remote: remote.String()}
}
