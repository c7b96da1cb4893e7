package mesh

import (
	"errors"
	"io"
	"testing"
)

func TestReasonTable(t *testing.T) {
	names := make(map[string]Reason)
	for r := ReasonNone + 1; r < NumReasons; r++ {
		if r.String() == "" || r.Text() == "" {
			t.Errorf("reason %d: name %q and text %q, want neither empty", r, r.String(), r.Text())
		}
		if other, twice := names[r.String()]; twice {
			t.Errorf("reasons %d and %d are both named %q, want different names", other, r, r)
		}
		names[r.String()] = r
		if got := ParseReason(r.String()); got != r {
			t.Errorf("ParseReason(%q) = %d, want %d", r, got, r)
		}
		if (r.HTTPStatus() == 0) != (r.GRPCCode() == 0) {
			t.Errorf("%s: HTTP status %d and gRPC code %d, want both or neither", r, r.HTTPStatus(), r.GRPCCode())
		}
	}
	for _, name := range []string{"", "nonsense"} {
		if got := ParseReason(name); got != ReasonNone {
			t.Errorf("ParseReason(%q) = %d, want ReasonNone", name, got)
		}
	}
	// A pod may end while it works on a request: that another endpoint gets it without
	// regard to its method is for connections that were not made.
	for r := ReasonNone; r < NumReasons; r++ {
		want := r == ReasonConnectRefused || r == ReasonConnectTimeout || r == ReasonConnectFailed
		if got := r.NotReached(); got != want {
			t.Errorf("%q.NotReached() = %v, want %v", r, got, want)
		}
	}
	err := Fail(ReasonTimeout, io.EOF)
	if !errors.Is(err, io.EOF) {
		t.Errorf("errors.Is(%v, io.EOF) = false, want true", err)
	}
}

func TestIdentity(t *testing.T) {
	id := Identity{TrustDomain: "cluster.local", Namespace: "default", ServiceAccount: "web"}
	if got, err := ParseIdentity(id.String()); err != nil || got != id {
		t.Errorf("ParseIdentity(%q) = %#v, %v, want %#v", id, got, err, id)
	}
	if got := (Identity{}).String(); got != "" {
		t.Errorf("zero Identity: String() = %q, want empty", got)
	}
	if !(Identity{}).IsZero() {
		t.Error("zero Identity: IsZero() = false, want true")
	}
	for _, uri := range []string{
		"", "https://cluster.local/ns/default/sa/web", "spiffe://cluster.local/ns/default/sa/", "spiffe:///ns/default/sa/web",
		"spiffe://cluster.local/ns/default/sa/web/x", "spiffe://cluster.local/ns/default", "spiffe://cluster.local/sa/web/ns/default",
		"spiffe://cluster.local/ns/default/sa/web?x", "spiffe://user@cluster.local/ns/default/sa/web", "spiffe://cluster.local:1/ns/default/sa/web",
		"spiffe://cluster.local/node/node-1",
	} {
		if got, err := ParseIdentity(uri); err == nil {
			t.Errorf("ParseIdentity(%q) = %#v, want an error", uri, got)
		}
	}
}

func TestInRanges(t *testing.T) {
	ranges := []PortRange{{25, 25}, {9000, 9010}}
	for port, want := range map[uint16]bool{24: false, 25: true, 26: false, 8999: false, 9000: true, 9010: true, 9011: false} {
		if got := InRanges(ranges, port); got != want {
			t.Errorf("InRanges(%v, %d) = %v, want %v", ranges, port, got, want)
		}
	}
}
