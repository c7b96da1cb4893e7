package agent

import (
	"encoding/binary"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/underlane/underlane/pkg/mesh"
)

// TestNamesOverTCP: what a DNS server sends on a connection is learnt for the pod that has it, in
// whatever pieces it comes, and nothing where nobody wants names.
func TestNamesOverTCP(t *testing.T) {
	name, addr := dnsmessage.MustNewName("db.example.com."), netip.MustParseAddr("203.0.113.7")
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{Response: true},
		Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
		Answers: []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET, TTL: 60},
			Body:   &dnsmessage.AResource{A: addr.As4()},
		}},
	}
	packed, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	sent := append(binary.BigEndian.AppendUint16(nil, uint16(len(packed))), packed...)
	n := &names{log: slog.New(slog.DiscardHandler)}
	pod := &mesh.Workload{UID: "a"}
	if n.Answers(pod) != nil {
		t.Error("names are learnt that nobody wants")
	}
	n.wanted = true
	seen := n.Answers(pod)
	for i := range sent {
		if got := n.cache.Name("a", addr, time.Now()); got != "" {
			t.Fatalf("after %d bytes of the answer: name %q, want none yet", i, got)
		}
		seen(sent[i : i+1])
	}
	if got := n.Name(pod, addr); got != "db.example.com" {
		t.Errorf("name %q, want db.example.com", got)
	}
	if got := n.Name(&mesh.Workload{UID: "b"}, addr); got != "" {
		t.Errorf("another pod: name %q, want none", got)
	}
}
