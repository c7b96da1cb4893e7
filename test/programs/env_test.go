package programs

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/underlane/underlane/test/lab"
	"github.com/underlane/underlane/test/lab/host"
	"github.com/underlane/underlane/test/lab/layout"
)

// patience bounds every wait for something to become ready.
const patience = time.Minute

// side is one of the two labs.
type side struct {
	*lab.Side
	listeners map[string]*host.Listeners // of the pods
}

func upSides(t *testing.T) (bare, meshed *side) {
	t.Helper()
	b, m := lab.UpSides(t)
	return newSide(t, b), newSide(t, m)
}

func newSide(t *testing.T, l *lab.Side) *side {
	t.Helper()
	s := &side{Side: l, listeners: map[string]*host.Listeners{}}
	lay, err := layout.Open(l.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range lab.SidePods {
		l, err := host.OpenListeners(lay.PodNetns("default", p.Name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.Close)
		s.listeners[p.Name] = l
	}
	return s
}

func (s *side) addr(w way) netip.Addr {
	if w.v6 {
		return s.Addrs[w.server][1]
	}
	return s.Addrs[w.server][0]
}

// checkCarried fails a row whose traffic did not go through the mesh, because then the
// row says nothing about the mesh. An opaque connection may be counted a moment after
// its end.
func (s *side) checkCarried(t *testing.T, before map[string]float64, servers []string) {
	t.Helper()
	missing := func(now map[string]float64) bool {
		return slices.ContainsFunc(servers, func(server string) bool { return now[server] == before[server] })
	}
	now := s.Carried()
	for deadline := time.Now().Add(10 * time.Second); missing(now) && time.Now().Before(deadline); now = s.Carried() {
		time.Sleep(50 * time.Millisecond)
	}
	if missing(now) || now["past"] != before["past"] {
		t.Errorf("did the traffic go past the mesh? carried before: %v, now: %v", before, now)
	}
}

// emptyDir is a directory that every user may use, because some servers do not run as
// root.
func emptyDir(t *testing.T, parts ...string) string {
	t.Helper()
	dir := filepath.Join(parts...)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil { // whatever the umask is
		t.Fatal(err)
	}
	return dir
}
