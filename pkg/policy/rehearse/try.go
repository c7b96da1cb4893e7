package rehearse

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/calls"
)

// Change is a kind of call that other policies would decide differently.
type Change struct {
	Call          Call
	Count         uint64
	Before, After authz.Finding
	// Unsure: a decision looked at what is not recorded (header fields, tokens, an address or
	// a port), so that it may be another one.
	Unsure bool
}

// Report is what Try has found.
type Report struct {
	Calls   uint64   // that were judged
	Allowed uint64   // by both
	Denied  uint64   // by both
	Unsure  uint64   // of Calls
	Changes []Change // the most frequent first
}

// Lost returns how many calls would be denied that are allowed now, and Won the opposite.
func (r *Report) Lost() uint64 { return r.count(false) }

// Won returns how many calls would be allowed that are denied now.
func (r *Report) Won() uint64 { return r.count(true) }

func (r *Report) count(denied bool) (n uint64) {
	for _, c := range r.Changes {
		if c.Before.Denied == denied {
			n += c.Count
		}
	}
	return n
}

// Decider decides calls: *authz.Set and *authz.Workload do.
type Decider interface {
	DecideConnection(c *authz.Connection) authz.Decision
	DecideRequest(c *authz.Connection, r *authz.Request) authz.Decision
}

// Try judges calls by the policies that are applied and by others. The functions return
// the compiled policies of a workload's port. A request of which an authorizer has to be asked
// counts as allowed.
func Try(recorded *Calls, current, other func(t Target, port uint16) Decider) *Report {
	r := new(Report)
	for c, count := range recorded.Counts {
		before, unsure := judge(current(c.Target, c.Port), &c)
		after, alsoUnsure := judge(other(c.Target, c.Port), &c)
		unsure = unsure || alsoUnsure
		r.Calls += count
		if unsure {
			r.Unsure += count
		}
		switch {
		case before.Denied != after.Denied:
			r.Changes = append(r.Changes, Change{c, count, before, after, unsure})
		case before.Denied:
			r.Denied += count
		default:
			r.Allowed += count
		}
	}
	slices.SortFunc(r.Changes, func(a, b Change) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), a.Call.compare(&b.Call))
	})
	return r
}

func (c *Call) compare(b *Call) int {
	return cmp.Or(
		cmp.Compare(c.Target.Namespace, b.Target.Namespace), cmp.Compare(c.Target.Kind, b.Target.Kind), cmp.Compare(c.Target.Name, b.Target.Name),
		cmp.Compare(c.Client.String(), b.Client.String()), c.Address.Compare(b.Address), cmp.Compare(c.Port, b.Port),
		cmp.Compare(c.Method, b.Method), cmp.Compare(c.Host, b.Host), cmp.Compare(c.Path, b.Path),
	)
}

// unrecorded are the header fields and claims of a recorded call: it notices whether they are
// asked for.
type unrecorded struct{ asked bool }

// Next implements authz.Fields.
func (u *unrecorded) Next(string, int) (string, int, bool) { u.asked = true; return "", 0, false }

// Alike implements authz.Fields.
func (u *unrecorded) Alike(string, int) (string, int, bool) { u.asked = true; return "", 0, false }

// Value implements authz.Claims.
func (u *unrecorded) Value([]string, int) (string, bool) { u.asked = true; return "", false }

// Object implements authz.Claims.
func (u *unrecorded) Object() map[string]any { u.asked = true; return nil }

// someAddresses stand for a client whose address was not recorded.
var someAddresses = []netip.Addr{
	netip.AddrFrom4([4]byte{10, 0, 0, 1}), netip.AddrFrom4([4]byte{192, 0, 2, 1}), netip.MustParseAddr("fd00::1"), netip.MustParseAddr("2001:db8::1"),
}

// someToken is a principal that no policy names.
const someToken = "rehearse.invalid/rehearse"

func judge(s Decider, c *Call) (authz.Finding, bool) {
	conn := &authz.Connection{Peer: authz.PeerOf(c.Client), Client: c.Address, Port: c.Port}
	if c.Method == "" {
		// Whether it carried requests is not known if only its ends were recorded.
		d := s.DecideConnection(conn)
		unsure := d.Verdict == authz.NeedsRequest && c.Port == 0
		d = d.Opaque()
		return found(&d), unsure || differs(s, c, d.Outcome, nil)
	}
	u := new(unrecorded)
	r := &authz.Request{Method: c.Method, Authority: c.Host, Path: c.Path, Fields: u, Claims: u}
	unsure := false
	if c.partial() && s.DecideConnection(conn).Verdict == authz.NeedsRequest {
		// A rule may be about what is not recorded of the request.
		other := *r
		r.Path, other.Path = c.fill(someText), c.fill("1")
		if unsure = strings.Contains(c.Path, "{**}") || c.Method == calls.AnyMethod; !unsure {
			unsure = s.DecideRequest(conn, r).Verdict != s.DecideRequest(conn, &other).Verdict
		}
	}
	d := s.DecideRequest(conn, r)
	withToken := *r
	withToken.Principal = someToken
	return found(&d), unsure || u.asked || differs(s, c, d.Outcome, r) || s.DecideRequest(conn, &withToken).Verdict != d.Verdict
}

// fill returns the path with a text for what was not recorded.
func (c *Call) fill(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(c.Path, "{**}", text), "{*}", text)
}

// found is the decision in words. What an authorizer is asked about counts as allowed.
func found(d *authz.Decision) authz.Finding {
	f := d.Finding()
	f.Denied = d.Verdict == authz.Deny
	return f
}

// someText stands for a part of a path that was not recorded.
const someText = "rehearse"

// partial reports whether a part of the request was not recorded.
func (c *Call) partial() bool { return strings.Contains(c.Path, "{") || c.Method == calls.AnyMethod }

// differs reports whether the decision depends on an address or a port that was not
// recorded.
func differs(s Decider, c *Call, out authz.Outcome, r *authz.Request) bool {
	if c.Port != 0 && c.Address.IsValid() {
		return false
	}
	for _, port := range []uint16{80, 8080, 443, 1, 65535} {
		for _, a := range someAddresses {
			conn := &authz.Connection{Peer: authz.PeerOf(c.Client), Client: a, Port: port}
			if c.Port != 0 {
				conn.Port = c.Port
			}
			if c.Address.IsValid() {
				conn.Client = c.Address
			}
			d := s.DecideConnection(conn).Opaque()
			if r != nil {
				d = s.DecideRequest(conn, r)
			}
			if d.Verdict != out.Verdict {
				return true
			}
		}
	}
	return false
}
