package work

import (
	"slices"
	"strings"
	"testing"
)

func TestEveryWorkHasItsPort(t *testing.T) {
	names := map[string]bool{}
	for _, w := range Works {
		if names[w.Name] {
			t.Errorf("two works are named %s, want different names", w.Name)
		}
		names[w.Name] = true
		want := w.Mode
		if want == HTTP1New {
			want = HTTP1
		}
		if port := w.Port(); port.Mode != want || strings.HasPrefix(port.Name, "opaque") != w.Settles() {
			t.Errorf("%s goes to port %+v, want one of %s", w.Name, port, want)
		}
		if w.Conns < 1 || w.Streams < 1 {
			t.Errorf("got %+v, want at least one connection and one stream", w)
		}
	}
}

func TestSelect(t *testing.T) {
	for pattern, want := range map[string]int{"": len(Works), "grpc": 1, "grpc.*": 3, "http1-16|tcp-1": 2, "none": 0, "(": 0} {
		got, err := Select(pattern)
		if len(got) != want || (err != nil) != (want == 0) {
			t.Errorf("Select(%q) = %v, %v; want %d works", pattern, got, err, want)
		}
	}
}

func TestAlone(t *testing.T) {
	var alone []string
	for _, w := range Works {
		if w.Alone() {
			alone = append(alone, w.Name)
		}
		if w.Volume() && (w.Alone() || w.Paced()) {
			t.Errorf("%s: alone %v, paced %v, want neither, for it is measured in bytes", w.Name, w.Alone(), w.Paced())
		}
	}
	if want := []string{"http1-1", "grpc-1", "ping-pong", "opaque-ping-pong"}; !slices.Equal(alone, want) {
		t.Errorf("alone: got %v, want %v", alone, want)
	}
}
