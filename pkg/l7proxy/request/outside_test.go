package request

import (
	"strings"
	"testing"
	"unsafe"
)

// TestOutsideName: the name of the last authority is kept, and an authority in a buffer that
// is used again does not change it.
func TestOutsideName(t *testing.T) {
	var s Session
	buf := []byte("API.example.com:80")
	name := s.OutsideName(unsafeText(buf))
	copy(buf, "xxx")
	if name != "api.example.com" || s.OutsideName("API.example.com:80") != name {
		t.Errorf("got %q", name)
	}
	if n := testing.AllocsPerRun(100, func() { s.OutsideName("API.example.com:80") }); n != 0 {
		t.Errorf("%v allocations for the same authority, want 0", n)
	}
	long := strings.Repeat("a.", 1<<10) + "com"
	if got := s.OutsideName(long); got != "" {
		t.Errorf("a long authority: got %q", got)
	}
	if s.outsideName.authority != "API.example.com:80" {
		t.Errorf("a long authority is kept")
	}
}

// unsafeText shares the memory of b, as the drivers do.
func unsafeText(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
