package topui

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/cli/podtop"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/tap/top"
)

func event(path string, n int, status int) []tap.Event {
	e := tap.Event{
		Kind: tap.ResponseEnd, Time: time.Unix(1_700_000_000, 0), Method: "GET", Path: path, Status: status, Duration: 3 * time.Millisecond,
		Source:      tap.Peer{Addr: netip.MustParseAddrPort("10.0.0.1:999")},
		Destination: tap.Peer{Workload: &mesh.Workload{Name: "web-1"}},
	}
	var out []tap.Event
	for range n {
		out = append(out, e)
	}
	return out
}

// screen is what the terminal shows, without the codes of the bold heading.
func screen(m tea.Model) string {
	text := m.View().Content
	for _, code := range []string{"\x1b[1m", "\x1b[m", "\x1b[0m"} {
		text = strings.ReplaceAll(text, code, "")
	}
	return text
}

func send(t *testing.T, m tea.Model, msgs ...tea.Msg) tea.Model {
	t.Helper()
	for _, msg := range msgs {
		m, _ = m.Update(msg)
	}
	return m
}

func key(s string) tea.KeyPressMsg {
	special := map[string]rune{
		"left": tea.KeyLeft, "right": tea.KeyRight, "up": tea.KeyUp, "down": tea.KeyDown, "pgdown": tea.KeyPgDown, "home": tea.KeyHome,
	}
	if code, ok := special[s]; ok {
		return tea.KeyPressMsg{Code: code}
	}
	return tea.KeyPressMsg{Code: rune(s[0]), Text: s}
}

func start() tea.Model {
	return New(&Traffic{Table: top.NewTable(false, 0)}, top.Order{By: top.Count})
}

const help = `(press q to quit, 1-9 to sort by a column, r to reverse)
(press a/LeftArrowKey to scroll left, d/RightArrowKey to scroll right)
`

func TestScreen(t *testing.T) {
	m := send(t, start(), tea.WindowSizeMsg{Width: 100, Height: 20},
		Events{Events: event("/a", 3, 200), Lost: 7}, Events{Events: event("/b", 1, 500)}, Refresh{})
	want := help + `7 events lost: counts are too low
Source    Destination  Method  Path  Count↓  Best  Worst  Last  Success Rate
10.0.0.1  web-1        GET     /a         3   3ms    3ms   3ms       100.00%
10.0.0.1  web-1        GET     /b         1   3ms    3ms   3ms         0.00%`
	if diff := cmp.Diff(want, screen(m)); diff != "" {
		t.Error(diff)
	}

	m = send(t, m, key("9")) // the failing first
	want = help + `7 events lost: counts are too low
Source    Destination  Method  Path  Count  Best  Worst  Last  Success Rate↓
10.0.0.1  web-1        GET     /b        1   3ms    3ms   3ms          0.00%
10.0.0.1  web-1        GET     /a        3   3ms    3ms   3ms        100.00%`
	if diff := cmp.Diff(want, screen(m)); diff != "" {
		t.Error(diff)
	}
	again, reversed := send(t, m, key("9")), send(t, m, key("r"))
	if diff := cmp.Diff(screen(again), screen(reversed)); diff != "" || !strings.Contains(screen(again), "Success Rate↑") {
		t.Errorf("9 twice and r differ, or do not reverse: %s", diff)
	}
}

// Between two looks the screen stands still.
func TestRefresh(t *testing.T) {
	m := start()
	before := screen(m)
	m = send(t, m, Events{Events: event("/a", 1, 200)})
	if screen(m) != before {
		t.Error("the screen changes before the refresh")
	}
	m, cmd := m.Update(Refresh{})
	if cmd == nil || screen(m) == before {
		t.Error("a refresh must show the event and ask for the next refresh")
	}
}

func TestScroll(t *testing.T) {
	m := send(t, start(), tea.WindowSizeMsg{Width: 40, Height: headerLines + 3})
	for i := range 10 {
		m = send(t, m, Events{Events: event(fmt.Sprintf("/%d", i), 1, 200)})
	}
	m = send(t, m, Refresh{})
	rows := func() string {
		var paths []string
		for _, line := range strings.Split(screen(m), "\n")[headerLines:] {
			paths = append(paths, strings.Fields(line)[3])
		}
		return strings.Join(paths, " ")
	}
	for _, step := range []struct{ key, want string }{
		{"down", "/1 /2 /3"},
		{"pgdown", "/4 /5 /6"},
		{"pgdown", "/7 /8 /9"},
		{"pgdown", "/7 /8 /9"},
		{"up", "/6 /7 /8"},
		{"home", "/0 /1 /2"},
		{"up", "/0 /1 /2"},
	} {
		m = send(t, m, key(step.key))
		if got := rows(); got != step.want {
			t.Errorf("after %s: %s, want %s", step.key, got, step.want)
		}
	}
	for _, line := range strings.Split(screen(m), "\n") {
		if n := len([]rune(line)); n > 40 {
			t.Errorf("line of %d columns: %q", n, line)
		}
	}
	for range 20 {
		m = send(t, m, key("right"))
	}
	if !strings.Contains(screen(m), "Success Rate") {
		t.Errorf("the last column cannot be reached:\n%s", screen(m))
	}
	for range 20 {
		m = send(t, m, key("a"))
	}
	if !strings.Contains(screen(m), "Source") {
		t.Errorf("no way back:\n%s", screen(m))
	}
}

func TestQuit(t *testing.T) {
	for _, k := range []tea.KeyPressMsg{key("q"), {Code: 'c', Mod: tea.ModCtrl}} {
		_, cmd := start().Update(k)
		if cmd == nil {
			t.Fatalf("%s does nothing", k)
		}
		if _, ok := cmd().(tea.QuitMsg); !ok {
			t.Errorf("%s does not quit", k)
		}
	}
	if m, cmd := start().Update(key("z")); cmd != nil || screen(m) != screen(start()) {
		t.Error("z does something")
	}
}

// TestPods: the same screen shows what pods cost, and sorts by its columns.
func TestPods(t *testing.T) {
	answer := func(at, spent time.Duration) Costs {
		return Costs{Costs: []*agentv1.CostsResponse{{
			Time: timestamppb.New(time.Unix(0, int64(at))), Process: durationpb.New(2 * spent),
			Pods: []*agentv1.PodCost{
				{Namespace: "shop", Name: "idle", Uid: "1", Weight: 100},
				{Namespace: "shop", Name: "web", Uid: "2", Weight: 39, Inbound: &agentv1.Cost{Processor: durationpb.New(spent), Connections: 1, Descriptors: 2}},
			},
		}}, Warnings: []string{"node-2 is not in the table"}}
	}
	m := send(t, New(&Pods{Table: new(podtop.Table)}, top.Order{By: podtop.CPU}), tea.WindowSizeMsg{Width: 100, Height: 20},
		answer(time.Second, time.Second), answer(2*time.Second, time.Second+100*time.Millisecond), Refresh{})
	want := help + `node-2 is not in the table
Pod         CPU↓  CPU Time  Wait  Waits/s  Memory  Conns  FDs  Weight
shop/web   10.0%      1.1s  0.0%        0      0B      1    2      39
shop/idle   0.0%        0s  0.0%        0      0B      0    0     100
(agent)    10.0%         -     -        -       -      -    -       -`
	if diff := cmp.Diff(want, screen(m)); diff != "" {
		t.Errorf("screen (-want +got):\n%s", diff)
	}
	m = send(t, m, key("9"))
	if got, want := strings.Fields(strings.Split(screen(m), "\n")[headerLines])[0], "shop/idle"; got != want {
		t.Errorf("by weight: got %s first, want %s", got, want)
	}
}
