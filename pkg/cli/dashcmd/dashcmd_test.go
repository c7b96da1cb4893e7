package dashcmd

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// command has the flags of dashboard, which the user has given.
func command(t *testing.T, args ...string) (*cobra.Command, *bytes.Buffer) {
	t.Helper()
	cmd := Dashboard(&Source{Program: "x", Scope: "x"})
	var stderr bytes.Buffer
	cmd.SetErr(&stderr)
	cmd.SetContext(context.Background())
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	return cmd, &stderr
}

func TestPortInUse(t *testing.T) {
	ip := netip.MustParseAddr("127.0.0.1")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := netip.MustParseAddrPort(taken.Addr().String()).Port()

	cmd, stderr := command(t)
	l, err := listen(cmd, ip, port)
	if err != nil {
		t.Fatalf("the standard port is in use: %v, want another one", err)
	}
	l.Close()
	if !strings.Contains(stderr.String(), "another one is taken") {
		t.Errorf("it says %q, want that the port is another one", stderr)
	}

	cmd, _ = command(t, "--port", strconv.Itoa(int(port)))
	if l, err := listen(cmd, ip, port); err == nil || !strings.Contains(err.Error(), "--port 0") {
		t.Errorf("the named port is in use: %v %v, want an error that says what to do", l, err)
	}
}

func TestShow(t *testing.T) {
	for browser, want := range map[bool]string{true: showBrowser, false: showURL} {
		if got := Dashboard(&Source{Browser: browser}).Flags().Lookup("show").DefValue; got != want {
			t.Errorf("Browser %t: --show is %q, want %q", browser, got, want)
		}
	}
}

func TestNoDisplay(t *testing.T) {
	for _, name := range []string{"DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"} {
		t.Setenv(name, "")
	}
	t.Setenv("PATH", "")
	if err := openBrowser("http://127.0.0.1:1"); err == nil {
		t.Error("a browser was opened without a display and without programs, want an error")
	}
}
