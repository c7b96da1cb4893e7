package wire

import (
	"cmp"
	"fmt"
	"path"
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
	bare, meshed := upSides(t)
	t.Cleanup(func() { meshed.checkCarried(t) })
	for i := range rows {
		for _, w := range ways {
			if r := &rows[i]; !w.v6 || r.row.v6 {
				t.Run(r.name+"/"+w.name, func(t *testing.T) {
					firsts.Add(1)
					t.Parallel()
					compare(t, r, w, bare, meshed)
				})
			}
		}
	}
}

// playAgain is how often a row is played again.
const playAgain = 3

// compare plays a row on both sides. A row in which something is not as it should be
// is played again, when the machine has less to do: what is wrong shows each time,
// and what a busy machine does to a row without the mesh does not. What did not show
// again is logged.
func compare(t *testing.T, r *row, w way, bare, meshed *side) {
	many <- struct{}{}
	want, got := both(t, r, w, bare, meshed)
	<-many
	problem := judge(r, w, want, got)
	firsts.Done()
	for try := 0; problem != "" && try < playAgain; try++ {
		t.Logf("played again, because of this:\n%s", problem)
		firsts.Wait()
		few <- struct{}{}
		want, got = both(t, r, w, bare, meshed)
		<-few
		problem = judge(r, w, want, got)
	}
	if problem != "" {
		t.Error(problem)
	}
}

// firsts are the rows that have not been played once.
var firsts sync.WaitGroup

// judge says what is wrong with what the ends have seen, "" if nothing is.
func judge(r *row, w way, want, got seen) string {
	known := differenceOf(r.name, w)
	bareText, meshedText := want.text(r), got.text(r)
	diff := gocmp.Diff(bareText, meshedText)
	if diff != "" {
		diff = "-bare +meshed:\n" + diff
	} else {
		diff = lateness(r, want, got)
	}
	scripts := fmt.Sprintf("client: %s\nserver: %s\n", r.client, r.server)
	switch {
	case diff == "" && (known == nil || known.race):
		return ""
	case diff == "":
		return "the known difference is not there any more, take it off the list: " + known.why
	case known == nil:
		return scripts + diff
	case !known.shows(bareText, meshedText):
		return fmt.Sprintf("another difference than the known one: %s\n%s%s", known.why, scripts, diff)
	}
	return ""
}

// many and few are how many rows are played at once: they wait most of the time.
var many, few = make(chan struct{}, 64), make(chan struct{}, 2)

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
	drop := !slices.ContainsFunc(want.server, silent)
	want.server, got.server = tidy(want.server, false), tidy(got.server, drop)
	return want, got
}

// silent is of a note about a connection without a byte. If there is none such
// without the mesh, it was made ahead of need.
func silent(n script.Note) bool { return n.Silent }

// tidy puts a server's notes into the order of its connections.
func tidy(notes []script.Note, dropSilent bool) []script.Note {
	if dropSilent {
		notes = slices.DeleteFunc(notes, silent)
	}
	slices.SortStableFunc(notes, func(a, b script.Note) int { return a.Conn - b.Conn })
	return notes
}

// text is what the ends saw, for comparison: a line for each note.
func (s seen) text(r *row) string {
	var out []string
	for _, n := range s.client {
		out = append(out, "client: "+masked(r, n.Text))
	}
	for _, n := range s.server {
		out = append(out, "server: "+masked(r, n.Text))
	}
	return strings.Join(out, "\n")
}

var (
	synthetic  = regexp.MustCompile(`HTTP/1\.[01] (\d+) [^"]*?underlane-reason: ([a-z-]+)\\r\\n[^"]*`)
	connection = regexp.MustCompile(`\\r\\nConnection: (close|keep-alive)`)
)

// masked shortens a response that the mesh has made, and leaves out what the two
// ends of one connection tell each other of it: connections of a client and of a
// server are different ones.
func masked(r *row, text string) string {
	text = synthetic.ReplaceAllString(text, "<$1 $2>")
	if !r.row.exact {
		text = connection.ReplaceAllString(text, "")
	}
	return text
}

// lateness says what was seen too late. Of what follows from it only the first is
// told.
func lateness(r *row, want, got seen) string {
	var out []string
	slack := cmp.Or(r.row.slack, defaultSlack)
	add := func(who string, want, got []script.Note) {
		for i := range want {
			if got[i].At-want[i].At > slack {
				out = append(out, fmt.Sprintf("%s: %s: bare after %s, meshed after %s", who, want[i].Text,
					want[i].At.Round(time.Millisecond), got[i].At.Round(time.Millisecond)))
				return
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

// TestDifferencesHaveRows: each pattern of a known difference is of some row.
func TestDifferencesHaveRows(t *testing.T) {
	for _, d := range differences {
		for _, pattern := range strings.Fields(d.rows) {
			if !slices.ContainsFunc(rows, func(r row) bool { ok, err := path.Match(pattern, r.name); return ok && err == nil }) {
				t.Errorf("there is no row %q", pattern)
			}
		}
	}
}
