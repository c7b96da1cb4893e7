package agent

import (
	"net/netip"
	"testing"

	"github.com/underlane/underlane/pkg/control/client"
	"github.com/underlane/underlane/pkg/state"
)

// Subscribe is all that the proxy does for an inbound client: it must ask the
// controller whose address it is, or tap and metrics never name the client.
func TestSubscribeAsksForUnknownAddresses(t *testing.T) {
	m := &meshState{client: client.New(client.Options{Node: "n", Store: state.NewStore("n")})}
	for range 2 {
		m.Subscribe(netip.MustParseAddr("10.0.0.9"))
	}
	if n := m.client.Status().Subscriptions; n != 1 {
		t.Errorf("%d subscriptions after touching one address, want 1", n)
	}
}
