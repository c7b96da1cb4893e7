package contract

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/underlane/underlane/test/contract/history"
	"github.com/underlane/underlane/test/demo/selfcheck/wire"
	"github.com/underlane/underlane/test/lab"
	"github.com/underlane/underlane/test/lab/fabric"
	"github.com/underlane/underlane/test/lab/host"
)

// startCapture reads the IDs of attempts from a node's link to the others until stop,
// which returns them.
func startCapture(t *testing.T, l *lab.Lab, node string) (stop func() []history.Sighting) {
	t.Helper()
	var netns string
	for _, n := range l.State().Nodes {
		if n.Name == node {
			netns = n.Netns
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	captured, read := make(chan error, 1), make(chan error, 1)
	var seen []history.Sighting
	go func() {
		err := host.InNetns(netns, func() error { return wire.Capture(ctx, w, fabric.Uplink) })
		captured <- errors.Join(err, w.Close())
	}()
	if err := wire.ReadHeader(r); err != nil {
		cancel()
		t.Fatal(err)
	}
	go func() {
		for {
			frame, err := wire.ReadFrame(r)
			if err != nil {
				r.CloseWithError(err) // for the capture, if this is not its end
				if errors.Is(err, io.EOF) {
					err = nil
				}
				read <- err
				return
			}
			if segment, ok := wire.ParseFrame(frame); ok {
				for _, id := range history.FindIDs(segment.Payload) {
					seen = append(seen, history.Sighting{At: time.Now(), ID: id, From: plain(segment.From), To: plain(segment.To)})
				}
			}
		}
	}()
	t.Cleanup(cancel)
	return func() []history.Sighting {
		t.Helper()
		cancel()
		if err := errors.Join(<-captured, <-read); err != nil {
			t.Errorf("capture on %s: %v", node, err)
		}
		return seen
	}
}

func plain(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
