package calls

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCounts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("left out: eBPF needs root")
	}
	c, err := Start([]int{os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	const times = 1000
	for range times {
		_ = unix.Shutdown(-1, 0)
		_, _ = unix.Getsockname(0) // not a socket
		unix.Umask(0o22)
	}
	got, err := c.Stop()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"shutdown", "shutdown!", "getsockname", "getsockname!"} {
		if got[name] != times {
			t.Errorf("%s: %d times, want %d", name, got[name], times)
		}
	}
	umask, failed := name(unix.SYS_UMASK), name(unix.SYS_UMASK)+"!"
	if got[umask] != times || got[failed] != 0 {
		t.Errorf("%s: %d times and %d failed, want %d and none", umask, got[umask], got[failed], times)
	}

	other, err := Start([]int{1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	unix.Umask(0o22)
	if got, err := other.Stop(); len(got) != 0 || err != nil {
		t.Errorf("a process that does not exist: got %v, %v; want no calls and no error", got, err)
	}
}
