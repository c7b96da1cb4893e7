package podtop

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/tap/top"
)

func cost(processor, waited time.Duration, waits uint64) *agentv1.Cost {
	return &agentv1.Cost{
		Processor: durationpb.New(processor), Waited: durationpb.New(waited), Waits: waits,
		Connections: 3, Descriptors: 6, Streams: 2, Bytes: 70_000, Clients: 1,
	}
}

// table has the figures of three pods over two seconds.
func table() *Table {
	at := time.Unix(1_700_000_000, 0)
	idle := &agentv1.PodCost{Namespace: "shop", Name: "idle", Uid: "3", Weight: 39}
	t := &Table{}
	t.Add(&agentv1.CostsResponse{
		Node: "node-1", Time: timestamppb.New(at), Process: durationpb.New(time.Minute),
		Pods: []*agentv1.PodCost{
			{Namespace: "shop", Name: "web", Uid: "1", Weight: 100, Outbound: cost(10*time.Second, time.Second, 50)},
			{Namespace: "base", Name: "db", Uid: "2", Weight: 5, Inbound: cost(30*time.Second, 0, 0)}, // is replaced
			idle,
		},
	})
	t.Add(&agentv1.CostsResponse{
		Node: "node-1", Time: timestamppb.New(at.Add(2 * time.Second)), Process: durationpb.New(time.Minute + 2*time.Second),
		Pods: []*agentv1.PodCost{
			{Namespace: "shop", Name: "web", Uid: "1", Weight: 100, Outbound: cost(11*time.Second, 4*time.Second, 250), Inbound: cost(100*time.Millisecond, 0, 0)},
			{Namespace: "base", Name: "db", Uid: "2", Weight: 5, Inbound: cost(500*time.Millisecond, 0, 0)}, // the agent has begun anew
			idle,
		},
	})
	return t
}

func TestTable(t *testing.T) {
	for _, tt := range []struct{ sort, namespace, want string }{
		{sort: "cpu", want: `
Pod          CPU  CPU Time    Wait  Waits/s  Memory  Conns  FDs  Weight
shop/web   55.0%     11.1s  150.0%      100    137K      6   12     100
base/db    25.0%     500ms    0.0%        0     68K      3    6       5
shop/idle   0.0%        0s    0.0%        0      0B      0    0      39
(agent)    20.0%         -       -        -       -      -    -       -
`},
		{sort: "-weight", namespace: "shop", want: `
Pod          CPU  CPU Time    Wait  Waits/s  Memory  Conns  FDs  Weight
shop/idle   0.0%        0s    0.0%        0      0B      0    0      39
shop/web   55.0%     11.1s  150.0%      100    137K      6   12     100
(agent)    20.0%         -       -        -       -      -    -       -
`},
	} {
		order, err := ParseOrder(tt.sort)
		if err != nil {
			t.Fatal(err)
		}
		table := table()
		table.Namespace = tt.namespace
		var got bytes.Buffer
		if err := table.WriteTable(&got, order); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want[1:], got.String()); diff != "" {
			t.Errorf("sorted by %s, of namespace %q (-want +got):\n%s", tt.sort, tt.namespace, diff)
		}
	}
}

// TestSort: each column has a name, and sorts names from A and figures from the highest.
func TestSort(t *testing.T) {
	for sort, want := range map[string]string{
		"pod": "db idle web", "cpu": "web db idle", "total": "web db idle", "wait": "web db idle", "waits": "web db idle",
		"memory": "web db idle", "conns": "web db idle", "fds": "web db idle", "weight": "web idle db", "-pod": "web idle db",
	} {
		order, err := ParseOrder(sort)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range table().Rows(order) {
			got = append(got, r.Name)
		}
		if got := strings.Join(got, " "); got != want {
			t.Errorf("by %s: got %s, want %s", sort, got, want)
		}
	}
	if _, err := ParseOrder("speed"); err == nil || !strings.Contains(err.Error(), "pod, cpu, total") {
		t.Errorf("an unknown column: got the error %v, want one that names those that there are", err)
	}
}

// TestOneAnswer: without a second answer there are sums and no rates, and without the first
// nothing.
func TestOneAnswer(t *testing.T) {
	empty, one := &Table{}, &Table{}
	if rows := empty.Rows(top.Order{}); len(rows) != 0 || len(empty.Lines(top.Order{}, "")) != 1 {
		t.Errorf("without an answer: got %v, want no rows", rows)
	}
	one.Add(table().nodes[0].last)
	row := one.Rows(top.Order{})[2]
	if s := row.sum(); s.CPU != 0 || s.Wait != 0 || s.Waits != 0 || s.Total != 11100*time.Millisecond || one.nodes[0].own() != 0 {
		t.Errorf("with one answer: got %+v and %v of the agent's own, want a sum of 11.1s and no rates", s, one.nodes[0].own())
	}
}

// TestNodes: the pods of several nodes are in one table, each with its node. A node that does
// not answer is left out, and has no rates when it is back.
func TestNodes(t *testing.T) {
	answer := func(node string, at, spent time.Duration) *agentv1.CostsResponse {
		return &agentv1.CostsResponse{
			Node: node, Time: timestamppb.New(time.Unix(0, int64(at))), Process: durationpb.New(spent),
			Pods: []*agentv1.PodCost{{Namespace: "shop", Name: "web-" + node, Uid: node, Weight: 100, Inbound: &agentv1.Cost{Processor: durationpb.New(spent)}}},
		}
	}
	table := &Table{Nodes: true}
	check := func(what, want string) {
		t.Helper()
		var got bytes.Buffer
		if err := table.WriteTable(&got, top.Order{By: CPU}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want[1:], got.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	table.Add(answer("b", time.Second, time.Second), answer("a", time.Second, time.Second))
	table.Add(answer("a", 2*time.Second, 1100*time.Millisecond), answer("b", 3*time.Second, 1400*time.Millisecond))
	check("two nodes", `
Pod           CPU  CPU Time  Wait  Waits/s  Memory  Conns  FDs  Weight  Node
shop/web-b  20.0%      1.4s  0.0%        0      0B      0    0     100     b
shop/web-a  10.0%      1.1s  0.0%        0      0B      0    0     100     a
(agent)      0.0%         -     -        -       -      -    -       -     a
(agent)      0.0%         -     -        -       -      -    -       -     b
`)
	table.Add(answer("b", 4*time.Second, 2*time.Second))
	check("one does not answer", `
Pod           CPU  CPU Time  Wait  Waits/s  Memory  Conns  FDs  Weight  Node
shop/web-b  60.0%        2s  0.0%        0      0B      0    0     100     b
(agent)      0.0%         -     -        -       -      -    -       -     b
`)
	table.Add(answer("a", 5*time.Second, 3*time.Second), answer("b", 5*time.Second, 2*time.Second))
	check("it is back", `
Pod          CPU  CPU Time  Wait  Waits/s  Memory  Conns  FDs  Weight  Node
shop/web-a  0.0%        3s  0.0%        0      0B      0    0     100     a
shop/web-b  0.0%        2s  0.0%        0      0B      0    0     100     b
(agent)     0.0%         -     -        -       -      -    -       -     a
(agent)     0.0%         -     -        -       -      -    -       -     b
`)
}

func TestJSON(t *testing.T) {
	table := table()
	table.Namespace = "base"
	var got bytes.Buffer
	if err := table.WriteJSON(&got, top.Order{By: CPU}); err != nil {
		t.Fatal(err)
	}
	want := `{
  "agents": [
    {
      "node": "node-1",
      "seconds": 2,
      "cpu": 0.2
    }
  ],
  "pods": [
    {
      "node": "node-1",
      "namespace": "base",
      "pod": "db",
      "uid": "2",
      "weight": 5,
      "outbound": {
        "cpu": 0,
        "cpuSeconds": 0,
        "wait": 0,
        "waitsPerSecond": 0,
        "bufferedBytes": 0,
        "connections": 0,
        "descriptors": 0,
        "streams": 0,
        "clients": 0
      },
      "inbound": {
        "cpu": 0.25,
        "cpuSeconds": 0.5,
        "wait": 0,
        "waitsPerSecond": 0,
        "bufferedBytes": 70000,
        "connections": 3,
        "descriptors": 6,
        "streams": 2,
        "clients": 1
      }
    }
  ]
}
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
}

func TestUnits(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 12345 * time.Microsecond: "12ms", 12345 * time.Millisecond: "12.3s", 250500 * time.Millisecond: "4m11s",
	} {
		if got := seconds(d); got != want {
			t.Errorf("%v: got %s, want %s", int64(d), got, want)
		}
	}
	for n, want := range map[uint64]string{
		0: "0B", 1023: "1023B", 1024: "1K", 1536: "1.5K", 64 << 10: "64K", 5 << 20: "5M", 3 << 30: "3G", 2048 << 30: "2048G",
	} {
		if got := size(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}
