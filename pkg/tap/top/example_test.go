package top_test

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/tap/top"
)

func request(path string, d time.Duration, status int) *tap.Event {
	return &tap.Event{
		Kind: tap.ResponseEnd, Time: time.Unix(1_700_000_000, 0), Method: "GET", Path: path, Duration: d, Status: status,
		Source:      tap.Peer{Workload: &mesh.Workload{Name: "web"}},
		Destination: tap.Peer{Workload: &mesh.Workload{Name: "store"}},
	}
}

func ExampleTable() {
	table := top.NewTable(false, 0)
	table.Add(request("/items?page=1", 3*time.Millisecond, 200))
	table.Add(request("/items?page=2", 250*time.Microsecond, 500))
	table.Add(request("/cart", 12*time.Millisecond, 200))
	if err := table.WriteTable(os.Stdout, top.Order{By: top.Count}); err != nil {
		panic(err)
	}
	// Output:
	// Source  Destination  Method  Path    Count   Best  Worst   Last  Success Rate
	// web     store        GET     /items      2  250µs    3ms  250µs        50.00%
	// web     store        GET     /cart       1   12ms   12ms   12ms       100.00%
}

func ExampleTable_Rows() {
	table := top.NewTable(true, 0)
	table.Add(request("/items", time.Millisecond, 200))
	table.Add(request("/cart", time.Millisecond, 503))
	for _, row := range table.Rows(top.Order{By: top.SuccessRate}) { // the lowest rate first
		rate, ok := row.SuccessRate()
		fmt.Println(row.Path, row.Count(), rate, ok)
	}
	fmt.Println(table.HideSources())
	// Output:
	// /cart 1 0 true
	// /items 1 1 true
	// true
}

func ExampleTable_WriteJSON() {
	table := top.NewTable(true, 0)
	table.Add(request("/cart", 12*time.Millisecond, 200))
	if err := table.WriteJSON(os.Stdout, top.Order{By: top.Count}); err != nil {
		panic(err)
	}
	// Output:
	// {
	//   "evictedRows": 0,
	//   "lostEvents": 0,
	//   "rows": [
	//     {
	//       "destination": "store",
	//       "method": "GET",
	//       "path": "/cart",
	//       "count": 1,
	//       "bestMs": 12,
	//       "worstMs": 12,
	//       "lastMs": 12,
	//       "successes": 1,
	//       "failures": 0,
	//       "successRate": 1
	//     }
	//   ]
	// }
}

func ExampleParseOrder() {
	order, err := top.ParseOrder("-success")
	fmt.Println(order.By == top.SuccessRate, order.Reverse, err)
	_, err = top.ParseOrder("speed")
	fmt.Println(err)
	// Output:
	// true true <nil>
	// sort by "speed": use one of source, destination, method, path, count, best, worst, last, success
}

func ExampleRow_Cells() {
	row := top.Row{
		Key:       top.Key{Source: "web", Destination: "store", Method: "GET", Path: "/cart"},
		Successes: 1, Best: time.Millisecond, Worst: time.Millisecond, Last: time.Millisecond,
	}
	cells := row.Cells()
	fmt.Println(strings.Join(cells[:], " "))
	// Output: web store GET /cart 1 1ms 1ms 1ms 100.00%
}

func ExampleTable_Lines() {
	table := top.NewTable(true, 0)
	table.Add(request("/cart", 12*time.Millisecond, 200))
	for _, line := range table.Lines(table.Rows(top.Order{By: top.Count}), top.Count, "▼") {
		fmt.Println(line)
	}
	// Output:
	// Destination  Method  Path   Count▼  Best  Worst  Last  Success Rate
	// store        GET     /cart       1  12ms   12ms  12ms       100.00%
}

func ExampleFormatDuration() {
	for _, d := range []time.Duration{250_400 * time.Nanosecond, 12_600 * time.Microsecond, 2400 * time.Millisecond} {
		fmt.Println(top.FormatDuration(d))
	}
	// Output:
	// 250µs
	// 13ms
	// 2s
}

func ExampleAlign() {
	for _, line := range top.Align([][]string{{"Pod", "CPU"}, {"web", "12.0%"}, {"store-0", "0.5%"}}, 1) {
		fmt.Println(line)
	}
	// Output:
	// Pod        CPU
	// web      12.0%
	// store-0   0.5%
}
