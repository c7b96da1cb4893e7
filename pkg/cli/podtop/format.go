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

// Lines returns the heading and a line for each row, and one for what each agent uses for no
// pod. mark is appended to the heading of the column by which they are sorted.
func (t *Table) Lines(order top.Order, mark string) []string {
	head := titles
	head[order.By] += mark
	grid := [][]string{t.line(head[:], "Node")}
	for _, r := range t.Rows(order) {
		grid = append(grid, t.line(r.cells(), r.Node))
	}
	for _, s := range t.nodes {
		own := []string{"(agent)", percent(s.own())}
		for range numColumns - Total {
			own = append(own, "-")
		}
		grid = append(grid, t.line(own, s.last.GetNode()))
	}
	return top.Align(grid, 1)
}

// line appends the node to the cells of a line, if nodes are shown. It is the last column,
// so that the keys of the others do not depend on it.
func (t *Table) line(cells []string, node string) []string {
	if t.Nodes {
		cells = append(cells, node)
	}
	return cells
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
	Node      string   `json:"node"`
	Namespace string   `json:"namespace"`
	Pod       string   `json:"pod"`
	UID       string   `json:"uid"`
	Weight    uint32   `json:"weight"`
	Outbound  jsonSide `json:"outbound"`
	Inbound   jsonSide `json:"inbound"`
}

type jsonAgent struct {
	Node    string  `json:"node"`
	Seconds float64 `json:"seconds"` // over which the rates of its pods are
	CPU     float64 `json:"cpu"`     // processors that it has used for no pod
}

type jsonTable struct {
	Agents []jsonAgent `json:"agents"`
	Pods   []jsonRow   `json:"pods"`
}

// WriteJSON writes the table as one JSON object.
func (t *Table) WriteJSON(w io.Writer, order top.Order) error {
	doc := jsonTable{Agents: []jsonAgent{}, Pods: []jsonRow{}}
	for _, s := range t.nodes {
		doc.Agents = append(doc.Agents, jsonAgent{s.last.GetNode(), s.interval().Seconds(), s.own()})
	}
	for _, r := range t.Rows(order) {
		doc.Pods = append(doc.Pods, jsonRow{
			Node: r.Node, Namespace: r.Namespace, Pod: r.Name, UID: r.UID, Weight: r.Weight,
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
