package rig

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/underlane/underlane/test/bench/load"
	"github.com/underlane/underlane/test/bench/proc"
	"github.com/underlane/underlane/test/bench/work"
	"github.com/underlane/underlane/test/lab/host"
)

// Measure runs the clients of a work against a subject. It sets Target, Work and
// Watch of o.
func (s *Subject) Measure(ctx context.Context, t Topology, w work.Work, o load.Options) (*load.Result, error) {
	o.Target, o.Work, o.Watch = s.target(t, w.Port()), w, s.pids()
	config, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "load", string(config))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := host.Start(cmd, host.Place{Cgroup: s.client.Cgroup, Pid: s.client.Pid}); err != nil {
		return nil, fmt.Errorf("start the clients: %w", err)
	}
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("%s, %s, %s: clients: %w\n%s", s.Name, t, w.Name, err, bytes.TrimSpace(stderr.Bytes()))
	}
	var r load.Result
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		return nil, fmt.Errorf("read what the clients measured: %w", err)
	}
	return &r, nil
}

// Counts has countable costs of a request.
type Counts struct {
	Calls   map[string]float64 `json:",omitempty"` // system calls per request, by name; failed ones also as "name!"
	Allocs  float64            // allocations per request by the agents of both nodes; -1: unknown
	Problem string             `json:",omitempty"` // why something is missing
}

// String lists the system calls, the most frequent first.
func (c *Counts) String() string {
	names := slices.Collect(maps.Keys(c.Calls))
	slices.SortFunc(names, func(x, y string) int { return cmp.Or(cmp.Compare(c.Calls[y], c.Calls[x]), cmp.Compare(x, y)) })
	var parts []string
	for _, name := range names {
		if n := c.Calls[name]; n >= 0.01 && !strings.HasSuffix(name, "!") {
			text := fmt.Sprintf("%s %.2f", name, n)
			if failed := c.Calls[name+"!"]; failed >= 0.01 {
				text += fmt.Sprintf(" (%.2f failed)", failed)
			}
			parts = append(parts, text)
		}
	}
	return strings.Join(parts, ", ")
}

// Count runs a work once more to count system calls and allocations. Allocations
// are those of the whole run including its connections, so the run should be long.
func (s *Subject) Count(ctx context.Context, t Topology, w work.Work, o load.Options) (Counts, error) {
	c := Counts{Allocs: -1}
	o.Calls = true
	r, err := s.Measure(ctx, t, w, o)
	if err != nil {
		return c, err
	}
	if r.Requests > 0 {
		c.Calls = map[string]float64{}
		for name, n := range r.Calls {
			c.Calls[name] = float64(n) / float64(r.Requests)
		}
	}
	if len(s.nodes) == 0 {
		return c, nil
	}
	// The scrape itself allocates, so measure that first.
	own, err := s.mallocs(ctx, func() error { return nil })
	if err != nil {
		c.Problem = err.Error()
		return c, nil
	}
	o.Calls = false
	n, err := s.mallocs(ctx, func() (err error) { r, err = s.Measure(ctx, t, w, o); return err })
	if err != nil {
		return c, err
	}
	if r.All > 0 {
		c.Allocs = max(0, (n-own)/float64(r.All))
	}
	return c, nil
}

// mallocs returns the number of allocations by the agents while f runs.
func (s *Subject) mallocs(ctx context.Context, f func() error) (float64, error) {
	before, err := s.metric(ctx, "go_memstats_mallocs_total")
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	after, err := s.metric(ctx, "go_memstats_mallocs_total")
	return after - before, err
}

// metric returns the sum of a metric over the agents.
func (s *Subject) metric(ctx context.Context, name string) (float64, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	sum := 0.0
	for _, node := range s.nodes {
		place, err := s.lab.place(node, "bench-scrape")
		if err != nil {
			return 0, err
		}
		var out bytes.Buffer
		cmd := exec.CommandContext(ctx, self, "scrape", name)
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := host.Start(cmd, place); err != nil {
			return 0, fmt.Errorf("ask the agent of %s: %w", node, err)
		}
		if err := cmd.Wait(); err != nil {
			return 0, fmt.Errorf("ask the agent of %s: %w: %s", node, err, out.String())
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(out.String()), 64)
		if err != nil {
			return 0, fmt.Errorf("ask the agent of %s: %w", node, err)
		}
		sum += v
	}
	return sum, nil
}

// Scrape reads a metric of the agent of the node that this process runs on.
func Scrape(name string) (float64, error) {
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get("http://127.0.0.1:4191/metrics")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	return proc.ParseMetric(string(text), name)
}
