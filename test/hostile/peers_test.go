package hostile

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/test/hostile/peers"
)

// leftOut is said where -peers is not given.
const leftOut = "left out: make hostile-peers"

// tool is a proxy with its program.
type tool struct {
	*peers.Peer
	path string
}

// tools finds the programs, and says of each which version it is, or why it is left out.
func tools(t *testing.T) (found []tool) {
	t.Helper()
	for i := range peers.All {
		p := &peers.All[i]
		path, err := p.Find(t.Context(), t.TempDir())
		if err != nil {
			t.Logf("left out: %s: %v", p.Name, err)
			continue
		}
		version, err := p.Version(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %s", p.Name, version)
		found = append(found, tool{p, path})
	}
	if len(found) == 0 {
		t.Fatal("no shared proxy is there: scripts/deps.sh bench")
	}
	return found
}

// TestPeerConfigurations: each program accepts its configuration.
func TestPeerConfigurations(t *testing.T) {
	if !*beside {
		t.Log(leftOut)
		return
	}
	s := &stage{addrs: loopback("server", "target", "vault"), nodes: loopback("node-2")}
	for _, p := range tools(t) {
		t.Run(p.Name, func(t *testing.T) {
			if err := p.Check(frontSetup(t, s, p.path)); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPeers makes the attacks in a lab without the mesh, on the mesh, and on each shared
// proxy, one after the other, and prints a table. It judges nothing.
func TestPeers(t *testing.T) {
	if !*beside {
		t.Log(leftOut)
		return
	}
	f := fullForm
	f.rounds = *rounds
	proxies := tools(t)
	meshed, bare := newStage(t, true), newStage(t, false)
	head := []string{"bare", "Underlane"}
	for _, p := range proxies {
		head = append(head, p.Name)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "| Attack | %s |\n|%s\n", strings.Join(head, " | "), strings.Repeat(" --- |", len(head)+1))
	for _, a := range attacks {
		on, can := a.against()
		if !can {
			continue
		}
		t.Run(a.name, func(t *testing.T) {
			var alone *measured
			cells := []string{"–"}
			if a.bare {
				alone = measure(t, a, f, bare)
				cells[0] = cell(a, alone, nil)
			}
			look := func(name string, a attack, m *measured) {
				t.Logf("%s\n%s", name, row{attack: a, bare: alone, meshed: m})
				cells = append(cells, cell(a, m, alone))
			}
			look("Underlane", a, measure(t, a, f, meshed))
			for _, p := range proxies {
				t.Run(p.Name, func(t *testing.T) { look(p.Name, on, measure(t, on, f, behind(t, bare, p.Peer, p.path))) })
			}
			fmt.Fprintf(&b, "| `%s` | %s |\n", a.name, strings.Join(cells, " | "))
		})
	}
	t.Logf("\n%s", b.String())
}

// noise is what a p99 of two seconds may be on a machine that does other things, too.
const noise = 20 * time.Millisecond

// cell is what the slower of the quiet clients felt and what the proxy took: "p99 before
// → under attack", and where it is so how many requests a second were made, how many
// failed, how many connections of an honest pod were lost, how many descriptors were kept
// after the attack, and that a process ended. It is bold where a rule of the mesh is
// broken, but not for a p99 below noise.
func cell(a attack, m, bare *measured) string {
	var calm, under time.Duration
	rate, failed := 1e9, 0
	for _, way := range ways {
		calm, under = max(calm, m.calm[way].P99), max(under, m.under[way].P99)
		rate, failed = min(rate, m.under[way].Rate), failed+m.under[way].Failed+m.fresh[way].Failed
	}
	parts := []string{arrow(calm, under)}
	if rate < 190 { // of 200
		parts = append(parts, fmt.Sprintf("%.0f/s", rate))
	}
	if failed > 0 {
		parts = append(parts, fmt.Sprintf("%d failed", failed))
	}
	if a.honest && m.got.Lost > 0 {
		parts = append(parts, fmt.Sprintf("%d lost", m.got.Lost))
	}
	if m.kept > 0 {
		parts = append(parts, fmt.Sprintf("%d descriptors", m.kept))
	}
	if u, is := m.used["node-2"]; is {
		parts = append(parts, fmt.Sprintf("%d MB", u.RSS>>20))
		if u.Gone {
			parts = append(parts, "ended")
		}
	}
	text := strings.Join(parts, ", ")
	for _, f := range judge(a, m, bare) {
		if small := f.rule == ruleLatency && under < noise; len(m.used) > 0 && f.rule != ruleStrict && !small {
			return "**" + text + "**"
		}
	}
	return text
}

func loopback(names ...string) map[string]netip.Addr {
	out := map[string]netip.Addr{}
	for _, name := range names {
		out[name] = netip.MustParseAddr("127.0.0.1")
	}
	return out
}

// TestCell: what is in a cell of the table, and when it is bold.
func TestCell(t *testing.T) {
	was := *full
	*full = true
	t.Cleanup(func() { *full = was })
	a := attack{name: "x", conns: 10, honest: true}
	for want, change := range map[string]func(m *measured){
		"2.0 → 2.0, 10 MB":                       func(*measured) {},
		"2.0 → 19.0, 10 MB":                      func(m *measured) { m.under = quiet(19*time.Millisecond, 200) },
		"**2.0 → 30.0, 100/s, 10 MB**":           func(m *measured) { m.under = quiet(30*time.Millisecond, 100) },
		"**2.0 → 2.0, 3 failed, 10 MB**":         func(m *measured) { m.fresh["far"] = felt{Count: 9, Failed: 3} },
		"**2.0 → 2.0, 7 lost, 10 MB**":           func(m *measured) { m.got.Lost = 7 },
		"**2.0 → 2.0, 10 MB, ended**":            func(m *measured) { m.used["node-2"] = used{RSS: 10 << 20, Gone: true} },
		"2.0 → 2.0":                              func(m *measured) { m.used = nil }, // without a proxy
		"**2.0 → 2.0, 5000 descriptors, 10 MB**": func(m *measured) { m.kept = 5000 },
	} {
		m := &measured{
			calm: quiet(2*time.Millisecond, 200), under: quiet(2*time.Millisecond, 200), fresh: map[string]felt{},
			used: map[string]used{"node-2": {RSS: 10 << 20}},
		}
		change(m)
		if got := cell(a, m, nil); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
