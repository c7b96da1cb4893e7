package table

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/underlane/underlane/pkg/tap/filter"
	"github.com/underlane/underlane/pkg/tap/render"
)

// shortNames are kubectl's, for rows of several kinds in one table.
var shortNames = map[string]string{
	"deployment": "deploy", "statefulset": "sts", "daemonset": "ds", "replicaset": "rs", "replicationcontroller": "rc", "cronjob": "cj",
	string(KindTrafficSplit): "ts", string(filter.KindPod): "po", string(filter.KindNamespace): "ns", string(filter.KindService): "svc",
}

func short(kind string) string {
	if s := shortNames[kind]; s != "" {
		return s
	}
	return kind
}

// WriteStat writes the rows of one kind each as a table with Linkerd's columns. wide adds
// bytes, round-trip times and retransmitted segments, and the containers' processors and
// memory; namespaces adds the column NAMESPACE.
func WriteStat(out io.Writer, kinds [][]*StatRow, wide, namespaces bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	for i, rows := range kinds {
		if i > 0 {
			fmt.Fprintln(w)
		}
		head, requests := []string{"NAME"}, []string{"SUCCESS", "RPS", "LATENCY_P50", "LATENCY_P95", "LATENCY_P99"}
		via := len(rows) > 0 && rows[0].Via != nil
		switch {
		case via:
			head = append(viaHead(rows[0].Kind), requests...)
		case len(rows) > 0 && rows[0].Kind == string(filter.KindPod):
			head = append(append(head, "STATUS", "MESHED"), append(requests, "TCP_CONN")...)
		default:
			head = append(append(head, "MESHED"), append(requests, "TCP_CONN")...)
		}
		if wide && !via {
			head = append(head, "READ_BYTES/SEC", "WRITE_BYTES/SEC", "SRTT", "MIN_RTT", "RETRANSMITS", "CPU", "CPU_LIMIT", "MEMORY", "MEMORY_LIMIT", "DENIED", "AUDITED")
		}
		if namespaces {
			head = append([]string{"NAMESPACE"}, head...)
		}
		fmt.Fprintln(w, strings.Join(head, "\t"))
		for _, r := range rows {
			cells := r.cells(wide, len(kinds) > 1)
			if namespaces {
				cells = append([]string{render.Clean(r.Namespace)}, cells...)
			}
			fmt.Fprintln(w, strings.Join(cells, "\t"))
		}
	}
	return w.Flush()
}

func (r *StatRow) cells(wide, prefix bool) []string {
	name := render.Clean(r.Name)
	if prefix {
		name = short(r.Kind) + "/" + name
	}
	if r.Partial {
		name += " (part)"
	}
	if r.Via != nil {
		return r.viaCells(name)
	}
	cells := []string{name}
	if r.Kind == string(filter.KindPod) {
		cells = append(cells, r.StatusText())
	}
	cells = append(cells, r.MeshedText())
	cells = append(cells, r.requestCells()...)
	tcp := r.hasTCP()
	if tcp {
		cells = append(cells, fmt.Sprint(r.Sums.Open))
	} else {
		cells = append(cells, "-")
	}
	switch {
	case wide && tcp:
		cells = append(cells, fmt.Sprintf("%.1fB/s", r.byteRate(r.Sums.Read)), fmt.Sprintf("%.1fB/s", r.byteRate(r.Sums.Written)))
		cells = append(cells, r.mean(r.Sums.SRTT), r.mean(r.Sums.MinRTT))
		cells = append(cells, fmt.Sprint(r.Sums.Retransmits))
	case wide:
		cells = append(cells, "-", "-", "-", "-", "-")
	}
	if wide {
		cells = append(append(cells, r.usage()...), fmt.Sprint(r.Sums.Denied), fmt.Sprint(r.Sums.Audited))
	}
	return cells
}

// mean returns the cell of a sum of round-trip times.
func (r *StatRow) mean(sum time.Duration) string {
	if sum <= 0 || r.Sums.SRTTs == 0 {
		return "-"
	}
	return latency(sum / time.Duration(r.Sums.SRTTs))
}

// usage returns the cells of processors and memory. "-" is what is not known, and a limit
// that some container does not have.
func (r *StatRow) usage() []string {
	cells := []string{"-", "-", "-", "-"}
	u := r.Usage
	if u == nil {
		return cells
	}
	if u.CPU != nil {
		cells[0] = cores(*u.CPU)
	}
	if u.CPULimit > 0 {
		cells[1] = cores(u.CPULimit)
	}
	if u.Memory != nil {
		cells[2] = mebibytes(*u.Memory)
	}
	if u.MemoryLimit > 0 {
		cells[3] = mebibytes(u.MemoryLimit)
	}
	return cells
}

// cores writes processors as kubectl top does: 1500m. What is used is not written as 0.
func cores(n float64) string { return fmt.Sprintf("%.0fm", math.Ceil(n*1000)) }

// mebibytes writes bytes as kubectl top does: 35Mi.
func mebibytes(n uint64) string { return fmt.Sprintf("%dMi", (n+1<<20-1)>>20) }

// hasTCP reports whether there was a connection.
func (r *StatRow) hasTCP() bool { return r.Sums.Opened+r.Sums.Closed+r.Sums.Open+r.Sums.Failed > 0 }

// latency formats a latency in milliseconds, as Linkerd does, and a short one with one
// digit that counts.
func latency(d time.Duration) string {
	switch ms := float64(d) / float64(time.Millisecond); {
	case d == 0:
		return "0ms"
	case ms < 0.1:
		return fmt.Sprintf("%.2fms", ms)
	case ms < 0.95:
		return fmt.Sprintf("%.1fms", ms)
	default:
		return fmt.Sprintf("%.0fms", ms)
	}
}

// statJSON has Linkerd's keys first. Numbers that do not exist are null.
type statJSON struct {
	Namespace      string   `json:"namespace"`
	Kind           string   `json:"kind"`
	Name           string   `json:"name"`
	Meshed         string   `json:"meshed,omitempty"`
	Service        string   `json:"service,omitempty"` // of a route
	Apex           string   `json:"apex,omitempty"`    // the same of a TrafficSplit
	Leaf           string   `json:"leaf,omitempty"`
	Weight         string   `json:"weight,omitempty"`
	Success        *float64 `json:"success"`
	RPS            *float64 `json:"rps"`
	LatencyP50     *uint64  `json:"latency_ms_p50"`
	LatencyP95     *uint64  `json:"latency_ms_p95"`
	LatencyP99     *uint64  `json:"latency_ms_p99"`
	TCPConnections *uint64  `json:"tcp_open_connections,omitempty"`
	TCPRead        *float64 `json:"tcp_read_bytes_rate,omitempty"`
	TCPWrite       *float64 `json:"tcp_write_bytes_rate,omitempty"`

	LatencyMicrosP50 *int64            `json:"latency_us_p50"`
	LatencyMicrosP95 *int64            `json:"latency_us_p95"`
	LatencyMicrosP99 *int64            `json:"latency_us_p99"`
	Failures         map[string]uint64 `json:"failures,omitempty"`
	SRTTMicros       *int64            `json:"tcp_srtt_us,omitempty"`
	MinRTTMicros     *int64            `json:"tcp_min_rtt_us,omitempty"`
	Retransmits      *uint64           `json:"tcp_retransmits,omitempty"`
	Partial          bool              `json:"partial,omitempty"`
	Denied           uint64            `json:"denied,omitempty"`
	Audited          uint64            `json:"audited,omitempty"`

	CPU         *float64 `json:"cpu_cores,omitempty"`
	CPULimit    *float64 `json:"cpu_limit_cores,omitempty"`
	Memory      *uint64  `json:"memory_bytes,omitempty"`
	MemoryLimit *uint64  `json:"memory_limit_bytes,omitempty"`
}

// WriteStatJSON writes the rows as a JSON array with Linkerd's keys.
func WriteStatJSON(out io.Writer, kinds [][]*StatRow) error {
	all := []statJSON{}
	for _, rows := range kinds {
		for _, r := range rows {
			all = append(all, r.json())
		}
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(all)
}

func (r *StatRow) json() statJSON {
	out := statJSON{Namespace: r.Namespace, Kind: r.Kind, Name: r.Name, Meshed: r.MeshedText(), Partial: r.Partial, Denied: r.Sums.Denied, Audited: r.Sums.Audited}
	if v := r.Via; v != nil {
		if out.Meshed, out.Service = "", v.Service; filter.Kind(r.Kind) == KindTrafficSplit {
			out.Service, out.Apex, out.Leaf, out.Weight = "", v.Service, v.Leaf, fmt.Sprint(v.Weight)
		}
	}
	if part, ok := r.Success(); ok {
		out.Success, out.RPS = &part, ptr(r.Rate(r.Sums.Requests()))
		out.Failures = sumsJSON(&r.Sums, false).Failures
		if h := r.Sums.Latency; h != nil {
			for _, p := range []struct {
				q      float64
				ms     **uint64
				micros **int64
			}{{0.5, &out.LatencyP50, &out.LatencyMicrosP50}, {0.95, &out.LatencyP95, &out.LatencyMicrosP95}, {0.99, &out.LatencyP99, &out.LatencyMicrosP99}} {
				d := h.Quantile(p.q)
				*p.ms, *p.micros = ptr(uint64(max(d.Round(time.Millisecond)/time.Millisecond, min(1, d)))), ptr(d.Microseconds())
			}
		}
	}
	if r.hasTCP() {
		out.TCPConnections, out.TCPRead, out.TCPWrite = ptr(r.Sums.Open), ptr(r.byteRate(r.Sums.Read)), ptr(r.byteRate(r.Sums.Written))
		out.Retransmits = ptr(r.Sums.Retransmits)
		if r.Sums.SRTTs > 0 {
			out.SRTTMicros = ptr((r.Sums.SRTT / time.Duration(r.Sums.SRTTs)).Microseconds())
			if r.Sums.MinRTT > 0 {
				out.MinRTTMicros = ptr((r.Sums.MinRTT / time.Duration(r.Sums.SRTTs)).Microseconds())
			}
		}
	}
	if u := r.Usage; u != nil {
		out.CPU, out.Memory = u.CPU, u.Memory
		if u.CPULimit > 0 {
			out.CPULimit = &u.CPULimit
		}
		if u.MemoryLimit > 0 {
			out.MemoryLimit = &u.MemoryLimit
		}
	}
	return out
}

func ptr[T any](v T) *T { return &v }
