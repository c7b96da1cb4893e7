package programs

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

// TestPrograms runs every row without a mesh and with it.
func TestPrograms(t *testing.T) {
	bare, meshed := upSides(t)
	for i := range rows {
		t.Run(rows[i].name, func(t *testing.T) { testRow(t, &rows[i], bare, meshed) })
	}
}

func testRow(t *testing.T, r *row, bare, meshed *side) {
	dir, err := os.MkdirTemp("", "ulp") // paths of unix sockets must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	emptyDir(t, dir)
	data, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	base := []string{"DATA=" + data, "SHARED=" + emptyDir(t, dir, "shared")}
	if r.prepare != "" {
		own := "OWN=" + emptyDir(t, dir, "prepare")
		o, err := runClient(script(exec.Command("sh", "-euc", r.prepare), append(base, own)...), patience)
		if err != nil || o.code != 0 {
			t.Fatalf("prepare: %v: %s", err, o)
		}
	}
	startServers(t, r, []*side{bare, meshed}, base, dir)
	before, served := meshed.Carried(), map[string]bool{}
	for i := range r.cases {
		c := &r.cases[i]
		name := r.name + "/" + c.name
		t.Run(c.name, func(t *testing.T) {
			for _, together := range waysOf(name, c) {
				t.Run(together[0].name+"+"+together[1].name, func(t *testing.T) {
					for _, w := range together {
						served[w.server] = true
						t.Run(w.name, func(t *testing.T) {
							t.Parallel() // with the other server's: most of the time is waiting
							compare(t, name, c, w, bare, meshed, base, dir)
						})
					}
				})
			}
		})
	}
	if !t.Failed() {
		meshed.checkCarried(t, before, slices.Collect(maps.Keys(served)))
	}
}

// slack is how much longer a client may take with the mesh where the machine has
// nothing else to do: what is looked for are waits, which are longer than that.
const slack = time.Second

// runAgain is how often a case is run again.
const runAgain = 2

// compare runs a case on both sides. A case with a problem is run again: what is wrong
// shows each time, and what luck and a busy machine do to a program does not. What did
// not show again is logged.
func compare(t *testing.T, name string, c *testCase, w way, bare, meshed *side, base []string, dir string) {
	t.Helper()
	problem := judge(t, name, c, w, bare, meshed, base, dir)
	for try := 0; problem != "" && try < runAgain; try++ {
		t.Logf("run again, because of this:\n%s", problem)
		problem = judge(t, name, c, w, bare, meshed, base, dir)
	}
	if problem != "" {
		t.Error(problem)
	}
}

// judge runs a case on both sides and says what is wrong, "" if nothing is. What is
// slow is run again: only what is slow every time counts, by more than the machine's
// other work and what there is to compute account for.
func judge(t *testing.T, name string, c *testCase, w way, bare, meshed *side, base []string, dir string) string {
	t.Helper()
	known := differenceOf(name, w)
	want, got := both(t, c, w, bare, meshed, base, dir)
	if want.code == -1 {
		t.Fatalf("without the mesh the client does not end:\n%s", want)
	}
	var diff string
	if got.String() != want.String() {
		diff = "-bare +meshed:\n" + gocmp.Diff(strings.Split(want.String(), "\n"), strings.Split(got.String(), "\n"))
	}
	allowed := slack
	slower := func() bool { return got.took > want.took+allowed }
	for try := 0; diff == "" && slower() && known == nil && try < 3; try++ {
		if allowed = max(want.took, time.Duration(float64(slack)*busy())); !slower() {
			break
		}
		wantAgain, gotAgain := both(t, c, w, bare, meshed, base, dir)
		want.took, got.took = min(want.took, wantAgain.took), min(got.took, gotAgain.took)
	}
	if diff == "" && slower() {
		diff = fmt.Sprintf("slow: bare %s, meshed %s", want.took, got.took)
	}
	t.Logf("bare %s, meshed %s: %s", want.took.Round(time.Millisecond), got.took.Round(time.Millisecond), want)
	switch {
	case diff == "" && known != nil:
		return fmt.Sprintf("the known difference %q is not there any more: take it off the list", known.why)
	case diff == "":
	case known == nil:
		return diff
	case !known.shows(got, want):
		return fmt.Sprintf("another difference than the known one, %q:\n%s", known.why, diff)
	default:
		t.Logf("known: %s\n%s", known.why, diff)
	}
	return ""
}

// both runs a client once on each side, at the same time: then both have the same
// machine.
func both(t *testing.T, c *testCase, w way, bare, meshed *side, base []string, dir string) (want, got outcome) {
	t.Helper()
	var wg sync.WaitGroup
	var errs [2]error
	bareDir, meshedDir := emptyDir(t, dir, "bare-client-"+w.server), emptyDir(t, dir, "meshed-client-"+w.server)
	wg.Go(func() { want, errs[0] = one(c, w, bare, base, bareDir) })
	wg.Go(func() { got, errs[1] = one(c, w, meshed, base, meshedDir) })
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatalf("run the client: %v", err)
	}
	return want, got
}

// one runs a client once.
func one(c *testCase, w way, s *side, base []string, own string) (outcome, error) {
	defer os.RemoveAll(own)
	addr := s.addr(w)
	urlHost := addr.String()
	if addr.Is6() {
		urlHost = "[" + urlHost + "]"
	}
	vars := append(base[:len(base):len(base)], "OWN="+own, "HOST="+addr.String(), "URLHOST="+urlHost, "SERVER="+w.server)
	o, err := runClient(script(s.PodCommand("client", "sh", "-euc", c.client), vars...), cmp.Or(c.limit, time.Minute))
	o.output = mask(strings.ReplaceAll(o.output, own, "OWN"), c.masks, s, filepath.Dir(own))
	return o, err
}

// mask takes out of an output what differs from run to run, and names the pods.
func mask(out string, masks []string, s *side, dir string) string {
	out = strings.ReplaceAll(out, dir, "DIR")
	for _, pod := range []string{"client", "near", "far"} {
		for _, addr := range s.Addrs[pod] {
			out = regexp.MustCompile(`\b`+regexp.QuoteMeta(addr.String())+`\b`).ReplaceAllString(out, strings.ToUpper(pod))
		}
	}
	for _, m := range masks {
		out = regexp.MustCompile(m).ReplaceAllString(out, "#")
	}
	return out
}
