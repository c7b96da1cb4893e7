package tap

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func redaction(t *testing.T, names ...string) *Redaction {
	t.Helper()
	r, err := NewRedaction(names...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRedaction(t *testing.T) {
	r := redaction(t, " X-API-Key", "")
	var h *Headers
	for _, f := range [][2]string{
		{":path", "/"},
		{"Authorization", "a"},
		{"PROXY-authorization", "a"},
		{"cookie", "a"},
		{"Set-Cookie", "a"},
		{"x-api-key", "a"},
		{"Accept", "b"},
		{"x-empty", ""},
	} {
		h = Add(r, h, []byte(f[0]), []byte(f[1]), false)
	}
	h = Add(r, h, "x-sensitive", "a", true)
	want := []Header{
		{"authorization", Redacted},
		{"proxy-authorization", Redacted},
		{"cookie", Redacted},
		{"set-cookie", Redacted},
		{"x-api-key", Redacted},
		{"accept", "b"},
		{"x-empty", ""},
		{"x-sensitive", Redacted},
	}
	if diff := cmp.Diff(want, h.List); diff != "" {
		t.Error(diff)
	}
	if h := Add(redaction(t, "*"), nil, "accept", "b", false); h.List[0].Value != Redacted {
		t.Errorf("with *, got %q, want %q", h.List[0].Value, Redacted)
	}
	for _, name := range []string{"a b", "x:", "ü", "a,b"} {
		if _, err := NewRedaction(name); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("NewRedaction(%q): error %v, want one that names it", name, err)
		}
	}
}

// TestHeadersAreBounded: neither many fields nor long ones make an event large.
func TestHeadersAreBounded(t *testing.T) {
	r := redaction(t)
	for name, c := range map[string]struct {
		fields, length int
		cut            bool
		want           int // fields
	}{
		"few":             {fields: 3, length: 100, want: 3},
		"many":            {fields: 1000, length: 1, want: MaxHeaders, cut: true},
		"long":            {fields: 1, length: 60_000, want: 1, cut: true},
		"several of 1 KB": {fields: 10, length: 1000, want: 9, cut: true},
	} {
		var h *Headers
		for i := range c.fields {
			h = Add(r, h, fmt.Sprint("x-", i), strings.Repeat("v", c.length), false)
		}
		if len(h.List) != c.want || h.Cut != c.cut || h.Size() > MaxHeaderBytes {
			t.Errorf("%s: %d fields of %d bytes, cut %v; want %d of %d at most, cut %v", name, len(h.List), h.Size(), h.Cut, c.want, MaxHeaderBytes, c.cut)
		}
	}
	if h := Add(r, nil, strings.Repeat("n", MaxHeaderBytes+1), "v", false); len(h.List) != 0 || !h.Cut {
		t.Errorf("a long name: %d fields, cut %v; want 0, cut", len(h.List), h.Cut)
	}
}

// TestHeadersForThoseWhoAsk: only a subscription that asks for fields gets them, and without
// one nothing is collected.
func TestHeadersForThoseWhoAsk(t *testing.T) {
	h := NewHub()
	plain := h.Subscribe(nil, 4)
	defer plain.Close()
	if h.Headers() != nil {
		t.Error("no subscription asks for fields, and they are collected")
	}
	asks := h.SubscribeHeaders(nil, 4)
	r := h.Headers()
	if r == nil {
		t.Fatal("a subscription asks for fields, and they are not collected")
	}
	e := Event{Headers: Add(r, nil, "accept", "x", false)}
	h.Emit(&e)
	for s, want := range map[*Subscription]bool{plain: false, asks: true} {
		events, _, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := events[0].Headers != nil; got != want {
			t.Errorf("a subscription that asks: %v, gets fields: %v", want, got)
		}
	}
	asks.Close()
	asks.Close()
	if h.Headers() != nil {
		t.Error("after the last subscription that asks for fields, they are still collected")
	}
}

// TestBufferedHeadersAreBounded: the fields in the buffer of a reader that does not read take
// a bounded amount of memory.
func TestBufferedHeadersAreBounded(t *testing.T) {
	h := NewHub()
	s := h.SubscribeHeaders(nil, 4096)
	defer s.Close()
	e := Event{Headers: Add(h.Headers(), nil, "x", strings.Repeat("v", MaxHeaderBytes), false)}
	for range 2 { // the second round shows that what was read does not count
		for range 1024 {
			h.Emit(&e)
		}
		events, lost, err := s.Next(t.Context())
		if err != nil || lost != 0 || len(events) != 1024 {
			t.Fatalf("%d events, lost %d, %v; want 1024", len(events), lost, err)
		}
		bytes := 0
		for i := range events {
			if bytes += events[i].Headers.Size(); !events[i].Headers.Cut {
				t.Fatalf("event %d is not marked as cut", i)
			}
		}
		if bytes > maxBufferedHeaders || bytes < maxBufferedHeaders-MaxHeaderBytes {
			t.Errorf("%d bytes of fields, want nearly %d", bytes, maxBufferedHeaders)
		}
	}
}

// TestEmitWithoutHeadersAllocatesNothing: a reader of fields costs events without any
// nothing.
func TestEmitWithoutHeadersAllocatesNothing(t *testing.T) {
	h := NewHub()
	s := h.SubscribeHeaders(nil, 1)
	defer s.Close()
	e := Event{Kind: RequestInit}
	if got := testing.AllocsPerRun(100, func() { h.Emit(&e) }); got != 0 {
		t.Errorf("%v allocations, want 0", got)
	}
}
