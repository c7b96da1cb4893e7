package history

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/test/contract/schedule"
)

func TestReadReadsWhatWriteWrites(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	addr := netip.MustParseAddrPort("10.77.2.3:8080")
	want := &History{
		Attempts:   []Attempt{{ID: NewID("open", 1), Client: "open", To: "far", Addr: addr, How: TCP, Start: at, End: at.Add(time.Second), Outcome: "ECONNREFUSED", Error: "no"}},
		Deliveries: []Delivery{{At: at, ID: NewID("open", 2), Server: "far", Run: "1", From: addr}},
		Sightings:  []Sighting{{At: at, ID: NewID("open", 3), From: addr, To: addr}},
		Tenures:    []Tenure{{Pod: "far", Node: "node-2", Addrs: []netip.Addr{addr.Addr()}, From: at}},
		Faults:     []Fault{{Fault: schedule.Fault{Kind: schedule.AgentKilled, Node: "node-2", For: time.Second}, Began: at, Healed: at.Add(time.Minute)}},
		Loads:      []Load{{At: at, Factor: 2.5}},
	}
	var file bytes.Buffer
	if err := want.Write(&file); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(file.String(), "\n"); got != 6 {
		t.Errorf("got %d lines, want 6:\n%s", got, file.String())
	}
	got, err := Read(&file)
	if err != nil {
		t.Fatal(err)
	}
	equal := cmp.Options{
		cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	}
	if diff := cmp.Diff(want, got, equal); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
}

func TestReadRefusesWhatIsNoHistory(t *testing.T) {
	for _, text := range []string{"{}\n", "no\n", `{"attempt":7}`, `{"attempt":{"id":"`} {
		if h, err := Read(strings.NewReader(text)); err == nil {
			t.Errorf("%q: got %+v, want an error", text, h)
		}
	}
}

func ExampleFindIDs() {
	id := NewID("open", 17)
	fmt.Println(FindIDs([]byte("POST / HTTP/1.1\r\n\r\n" + id + "…")))
	fmt.Println(ClientOf(id))
	// Output:
	// [ulc.open.17.z]
	// open
}
