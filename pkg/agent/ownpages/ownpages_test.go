package ownpages

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const smaps = `00400000-00f37000 r-xp 00000000 fe:00 9001                               /usr/bin/agent
Size:              11484 kB
Rss:                8192 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd ex mr mw me 
00f37000-01ceb000 r--p 00b37000 fe:00 9001                               /usr/bin/agent (deleted)
Rss:                4096 kB
Anonymous:             0 kB
Swap:                  0 kB
01ceb000-01cec000 r--p 018eb000 fe:00 9001                               /usr/bin/agent
Rss:                   4 kB
Anonymous:             4 kB
Swap:                  0 kB
01cec000-01ced000 r--p 018ec000 fe:00 9001                               /usr/bin/agent
Rss:                   0 kB
Anonymous:             0 kB
Swap:                  4 kB
01ced000-01e16000 rw-p 018ed000 fe:00 9001                               /usr/bin/agent
Rss:                1000 kB
Anonymous:           900 kB
Swap:                  0 kB
01e16000-03e61000 rw-p 00000000 00:00 0 
Rss:                 100 kB
Anonymous:           100 kB
7f0000000000-7f0000001000 r--p 00000000 fe:00 9002                       /usr/bin/agent-handover
Rss:                   4 kB
Anonymous:             0 kB
7ffc0000-7ffc1000 r-xp 00000000 00:00 0                                  [vdso]
Rss:                   4 kB
`

// TestOfProgram: only what the file has unchanged is given back.
func TestOfProgram(t *testing.T) {
	all, err := read(strings.NewReader(smaps))
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 8 {
		t.Fatalf("got %d mappings, want 8", len(all))
	}
	want := []mapping{
		{0x400000, 0xf37000, "r-xp", "fe:00 9001", 8 << 20, 0},
		{0xf37000, 0x1ceb000, "r--p", "fe:00 9001", 4 << 20, 0},
	}
	if diff := cmp.Diff(want, ofProgram(all, 0x401234), cmp.AllowUnexported(mapping{})); diff != "" {
		t.Errorf("mappings to give back (-want +got):\n%s", diff)
	}
	for _, bad := range []string{"Rss: 1 kB\n", "x y\n", "00zz-01 r-xp 0 0 0\n", "0-1 r-xp 0 fe:00 1\nRss: x kB\n"} {
		if _, err := read(strings.NewReader(bad)); err == nil {
			t.Errorf("%q: got no error, want one", bad)
		}
	}
}

// TestDrop: the program is resident, is not after Drop, and runs on.
func TestDrop(t *testing.T) {
	before := resident(t)
	bytes, err := Drop()
	if err != nil {
		t.Fatal(err)
	}
	after := resident(t)
	// The test itself touches some of it again, 64 KiB around each place.
	if before == 0 || bytes < before/2 || after > before*3/4 {
		t.Errorf("%d bytes of the program were resident, %d were given back, and %d are resident then: want three quarters at most", before, bytes, after)
	}
	t.Logf("%d KiB before, %d after", before>>10, after>>10)
}

// resident returns how many bytes of this program's code and constants are.
func resident(t *testing.T) (bytes int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	all, err := read(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range ofProgram(all, reflect.ValueOf(resident).Pointer()) {
		bytes += m.resident
	}
	return bytes
}
