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
			t.Errorf("reason %d has no name or no text", r)
		}
		if other, twice := names[r.String()]; twice {
			t.Errorf("%d and %d are both %q", other, r, r)
		}
		names[r.String()] = r
		if got := ParseReason(r.String()); got != r {
			t.Errorf("ParseReason(%q) = %d, want %d", r, got, r)
		}
		if (r.HTTPStatus() == 0) != (r.GRPCCode() == 0) {
			t.Errorf("%s: an answer in HTTP and none in gRPC, or the other way round", r)
		}
	}
	if ParseReason("") != ReasonNone || ParseReason("nonsense") != ReasonNone {
		t.Error("what is no name has a reason")
	}
	err := Fail(ReasonTimeout, io.EOF)
	if !errors.Is(err, io.EOF) {
		t.Errorf("%v hides its cause", err)
	}
}

func TestIdentity(t *testing.T) {
	id := Identity{TrustDomain: "cluster.local", Namespace: "default", ServiceAccount: "web"}
	if got, err := ParseIdentity(id.String()); err != nil || got != id {
		t.Errorf("ParseIdentity(%q) = %v, %v", id, got, err)
	}
	if (Identity{}).String() != "" || !(Identity{}).IsZero() {
		t.Error("no identity is to be nothing")
	}
	for _, uri := range []string{
		"", "https://cluster.local/ns/default/sa/web", "spiffe://cluster.local/ns/default/sa/", "spiffe:///ns/default/sa/web",
		"spiffe://cluster.local/ns/default/sa/web/x", "spiffe://cluster.local/ns/default", "spiffe://cluster.local/sa/web/ns/default",
		"spiffe://cluster.local/ns/default/sa/web?x", "spiffe://user@cluster.local/ns/default/sa/web", "spiffe://cluster.local:1/ns/default/sa/web",
		"spiffe://cluster.local/node/node-1",
	} {
		if got, err := ParseIdentity(uri); err == nil {
			t.Errorf("ParseIdentity(%q) = %v", uri, got)
		}
	}
}

func TestInRanges(t *testing.T) {
	ranges := []PortRange{{25, 25}, {9000, 9010}}
	for port, want := range map[uint16]bool{24: false, 25: true, 26: false, 8999: false, 9000: true, 9010: true, 9011: false} {
		if InRanges(ranges, port) != want {
			t.Errorf("port %d: %v", port, !want)
		}
	}
}
