package main

import (
	"net/netip"
	"testing"

	"github.com/underlane/underlane/test/contract/history"
)

// Every way to every address of every target has its turn.
func TestTurns(t *testing.T) {
	c := &caller{name: "open"}
	if _, _, _, ended, ok := c.next(0); ended || ok {
		t.Errorf("without a target: got ended %v, ok %v, want neither", ended, ok)
	}
	for _, to := range []string{"far", "near"} {
		c.setTarget(target{to, []netip.Addr{netip.MustParseAddr("10.0.0.1")}})
	}
	c.setTarget(target{"far", []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}})
	type attempt struct {
		to   string
		addr netip.AddrPort
		how  history.How
	}
	seen, ids := map[attempt]int{}, map[string]bool{}
	for n := range 2 * 2 * len(history.Ways) {
		to, how, turn, _, _ := c.next(n)
		a := c.attempt(n, turn, to, how)
		seen[attempt{a.To, a.Addr, a.How}]++
		ids[a.ID] = true
	}
	if got, want := len(seen), 3*len(history.Ways); got != want {
		t.Errorf("got %d kinds of attempts, want %d: %v", got, want, seen)
	}
	if got, want := len(ids), 2*2*len(history.Ways); got != want {
		t.Errorf("got %d IDs, want %d", got, want)
	}
	if got := seen[attempt{"far", netip.MustParseAddrPort("[fd00::1]:7000"), history.TCP}]; got != 1 {
		t.Errorf("got %d attempts by TCP to far over IPv6, want 1: %v", got, seen)
	}
}
