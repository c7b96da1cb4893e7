package podtop

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/underlane/underlane/pkg/tap/top"
)

// titles are the headings of the columns.
var titles = [numColumns]string{"Pod", "CPU", "CPU Time", "Wait", "Waits/s", "Memory", "Conns", "FDs", "Weight"}

// Columns returns the number of columns.
func (t *Table) Columns() top.Column { return numColumns }

// own is the name of the row of what the agent uses for no pod.
const own = "(agent)"

// Lines returns the heading and a line for each row, and one for what the agent uses for no
// pod. mark is appended to the heading of the column by which they are sorted.
func (t *Table) Lines(order top.Order, mark string) []string {
	head := titles
	head[order.By] += mark
	grid := [][]string{head[:]}
	for _, r := range t.Rows(order) {
		grid = append(grid, r.cells())
	}
	rest := []string{own, percent(t.Own())}
	for range numColumns - Total {
		rest = append(rest, "-")
	}
	return top.Align(append(grid, rest), 1)
}

func (r *Row) cells() []string {
	s := r.sum()
	return []string{
		r.name(), percent(s.CPU), seconds(s.Total), percent(s.Wait), strconv.FormatFloat(s.Waits, 'f', 0, 64), size(s.Bytes),
		strconv.FormatUint(s.Connections, 10), strconv.FormatUint(s.Descriptors, 10), strconv.FormatUint(uint64(r.Weight), 10),
	}
}

func percent(part float64) string { return strconv.FormatFloat(100*part, 'f', 1, 64) + "%" }

// seconds formats a processor time: 250ms, 12.3s, 4m10s.
func seconds(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// size formats bytes: 512B, 64K, 1.5M.
func size(n uint64) string {
	if n < 1<<10 {
		return strconv.FormatUint(n, 10) + "B"
	}
	value, unit := float64(n)/(1<<10), "K"
	for _, next := range []string{"M", "G"} {
		if value < 1<<10 {
			break
		}
		value, unit = value/(1<<10), next
	}
	digits := 0
	if value < 10 {
		digits = 1
	}
	return strings.TrimSuffix(strconv.FormatFloat(value, 'f', digits, 64), ".0") + unit
}

// WriteTable writes the table as text.
func (t *Table) WriteTable(w io.Writer, order top.Order) error {
	for _, line := range t.Lines(order, "") {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " ")); err != nil {
			return err
		}
	}
	return nil
}

type jsonSide struct {
	CPU           float64 `json:"cpu"` // processors
	CPUSeconds    float64 `json:"cpuSeconds"`
	Wait          float64 `json:"wait"` // seconds a second
	WaitsPerS     float64 `json:"waitsPerSecond"`
	BufferedBytes uint64  `json:"bufferedBytes"`
	Connections   uint64  `json:"connections"`
	Descriptors   uint64  `json:"descriptors"`
	Streams       uint64  `json:"streams"`
	Clients       uint64  `json:"clients"`
}

type jsonRow struct {
	Namespace string   `json:"namespace"`
	Pod       string   `json:"pod"`
	UID       string   `json:"uid"`
	Weight    uint32   `json:"weight"`
	Outbound  jsonSide `json:"outbound"`
	Inbound   jsonSide `json:"inbound"`
}

type jsonTable struct {
	Node     string    `json:"node"`
	Seconds  float64   `json:"seconds"`  // over which the rates are
	AgentCPU float64   `json:"agentCpu"` // processors that the agent has used for no pod
	Pods     []jsonRow `json:"pods"`
}

// WriteJSON writes the table as one JSON object.
func (t *Table) WriteJSON(w io.Writer, order top.Order) error {
	doc := jsonTable{Node: t.last.GetNode(), Seconds: t.Interval().Seconds(), AgentCPU: t.Own(), Pods: []jsonRow{}}
	for _, r := range t.Rows(order) {
		doc.Pods = append(doc.Pods, jsonRow{
			Namespace: r.Namespace, Pod: r.Name, UID: r.UID, Weight: r.Weight,
			Outbound: r.Outbound.json(), Inbound: r.Inbound.json(),
		})
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(doc)
}

func (s *Side) json() jsonSide {
	return jsonSide{
		CPU: s.CPU, CPUSeconds: s.Total.Seconds(), Wait: s.Wait, WaitsPerS: s.Waits,
		BufferedBytes: s.Bytes, Connections: s.Connections, Descriptors: s.Descriptors, Streams: s.Streams, Clients: s.Clients,
	}
}
