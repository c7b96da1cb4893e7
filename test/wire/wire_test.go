package wire

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/test/wire/script"
)

// TestWire plays every row without a mesh and with it.
func TestWire(t *testing.T) {
	sides := map[bool]*side{false: upSide(t, false), true: upSide(t, true)}
	for i := range rows {
		for _, w := range ways {
			if r := &rows[i]; !w.v6 || r.row.v6 {
				t.Run(r.name+"/"+w.name, func(t *testing.T) {
					t.Parallel()
					compare(t, r, w, sides[false], sides[true])
				})
			}
		}
	}
}

// slack is how much earlier or later something may be seen with the mesh than
// without: the machine is slow and shared, and what is looked for are waits.
const slack = 400 * time.Millisecond

// compare plays a row on both sides. What differs in time alone is played again:
// only what differs every time counts.
func compare(t *testing.T, r *row, w way, bare, meshed *side) {
	known := differenceOf(r.name, w)
	var bareLines, meshedLines []string
	var diff string
	for range 3 {
		want, got := both(t, r, w, bare, meshed)
		bareLines, meshedLines = want.lines(), got.lines()
		if diff = gocmp.Diff(bareLines, meshedLines); diff != "" {
			diff = "-bare +meshed:\n" + diff
			break
		}
		if diff = lateness(want, got); diff == "" || known != nil {
			break
		}
	}
	scripts := fmt.Sprintf("client: %s\nserver: %s\n", r.client, r.server)
	switch {
	case diff == "" && known != nil:
		t.Errorf("the known difference is not there any more, take it off the list: %s", known.why)
	case diff == "":
	case known == nil:
		t.Errorf("%s%s", scripts, diff)
	case !known.shows(bareLines, meshedLines):
		t.Errorf("another difference than the known one: %s\n%s%s", known.why, scripts, diff)
	}
}

var nextPort atomic.Int32

// both plays a row once on each side, at the same time: then both have the same
// machine.
func both(t *testing.T, r *row, w way, bare, meshed *side) (want, got seen) {
	t.Helper()
	port := 10_000 + int(nextPort.Add(1))
	limit := cmp.Or(r.row.limit, defaultLimit)
	var wg sync.WaitGroup
	var errs [2]error
	wg.Go(func() { want, errs[0] = bare.scene(w, port, limit).play(r.client, r.server) })
	wg.Go(func() { got, errs[1] = meshed.scene(w, port, limit).play(r.client, r.server) })
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatalf("play: %v", err)
		}
	}
	want.server, got.server = tidy(want.server, nil), tidy(got.server, want.server)
	return want, got
}

// tidy puts a server's notes into the order of its connections, and takes out
// those of a connection without a byte if there is none such without the mesh: it
// was made ahead of need.
func tidy(notes, bare []script.Note) []script.Note {
	silent := func(n script.Note) bool { return n.Silent }
	if bare != nil && !slices.ContainsFunc(bare, silent) {
		notes = slices.DeleteFunc(notes, silent)
	}
	slices.SortStableFunc(notes, func(a, b script.Note) int { return a.Conn - b.Conn })
	return notes
}

// lines are what the ends saw, for comparison.
func (s seen) lines() []string {
	var out []string
	for _, n := range s.client {
		out = append(out, "client: "+masked(n.Text))
	}
	for _, n := range s.server {
		out = append(out, "server: "+masked(n.Text))
	}
	return out
}

var synthetic = regexp.MustCompile(`HTTP/1\.[01] (\d+) [^"]*?underlane-reason: ([a-z-]+)\\r\\n[^"]*`)

// masked shortens a response that the mesh has made.
func masked(text string) string { return synthetic.ReplaceAllString(text, "<$1 $2>") }

// lateness says what was seen too early or too late.
func lateness(want, got seen) string {
	var out []string
	add := func(who string, want, got []script.Note) {
		for i := range want {
			if d := got[i].At - want[i].At; d.Abs() > slack {
				out = append(out, fmt.Sprintf("%s: %s: bare after %s, meshed after %s", who, want[i].Text,
					want[i].At.Round(time.Millisecond), got[i].At.Round(time.Millisecond)))
			}
		}
	}
	add("client", want.client, got.client)
	add("server", want.server, got.server)
	return strings.Join(out, "\n")
}

func TestScripts(t *testing.T) {
	for _, r := range rows {
		for who, err := range map[string]error{"client": script.Check(r.client, false), "server": script.Check(r.server, true)} {
			if err != nil {
				t.Errorf("%s: %s: %v", r.name, who, err)
			}
		}
	}
}
