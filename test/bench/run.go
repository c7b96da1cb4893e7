// Package bench compares Underlane with no proxy, with the floor and with other
// proxies, and one version of it with another. docs/benchmarks says how, and what
// the figures mean.
package bench

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/underlane/underlane/test/bench/load"
	"github.com/underlane/underlane/test/bench/report"
	"github.com/underlane/underlane/test/bench/rig"
	"github.com/underlane/underlane/test/bench/work"
)

// Plan says what a run measures.
type Plan struct {
	Works      []work.Work
	Topologies []rig.Topology
	Rounds     int
	Warm, For  time.Duration // of each measurement
	// PacedAt is the rate of the open loop in requests per second; 0: 40 % of the rate
	// that Reference reaches in the first round.
	PacedAt   float64
	Reference string        // name of a subject
	Count     time.Duration // time for counting system calls and allocations; 0: do not count
	Idle      int           // idle connections; 0: not measured
	Log       func(format string, args ...any)
}

// Run measures all subjects of a rig. In each round it measures the subjects that
// are compared directly one after the other, because the machine's speed drifts.
func (p *Plan) Run(ctx context.Context, r *rig.Rig, out *report.Report) error {
	for round := range p.Rounds {
		for _, t := range p.Topologies {
			for _, w := range p.Works {
				p.Log("round %d of %d: %s, %s", round+1, p.Rounds, w.Name, t)
				if err := p.round(ctx, r, out, round, t, w); err != nil {
					return err
				}
			}
		}
	}
	for _, t := range p.Topologies {
		for i, w := range p.Works {
			for _, s := range r.Subjects {
				if !s.Proxied() || !s.Can(t, w) {
					continue
				}
				if err := p.once(ctx, s, out.Cell(s.Name, t, w.Name), i == 0); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// round measures all subjects with one work: at saturation, and then paced.
func (p *Plan) round(ctx context.Context, r *rig.Rig, out *report.Report, round int, t rig.Topology, w work.Work) error {
	each := func(f func(*rig.Subject, *report.Cell) error) error {
		for i := range r.Subjects {
			// Each round begins with another subject: one measured after a heavy one may
			// suffer from it.
			s := r.Subjects[(i+round)%len(r.Subjects)]
			if !s.Can(t, w) {
				continue
			}
			if err := f(s, out.Cell(s.Name, t, w.Name)); err != nil {
				return err
			}
		}
		return nil
	}
	if round == 0 { // add the rows of the tables in the order of the subjects
		for _, s := range r.Subjects {
			if s.Can(t, w) {
				out.Cell(s.Name, t, w.Name).Volume = w.Volume()
			}
		}
	}
	err := each(func(s *rig.Subject, c *report.Cell) error { return p.saturate(ctx, s, c, t, w) })
	if err != nil || !w.Paced() || w.Alone() {
		return err
	}
	rate := p.rate(out, t, w)
	return each(func(s *rig.Subject, c *report.Cell) error {
		c.PacedAt = rate
		res, err := s.Measure(ctx, t, w, load.Options{Warm: p.Warm, For: p.For, Rate: rate})
		if err == nil {
			paced(c, w, res)
		}
		return err
	})
}

// saturate measures a subject at saturation, and what agents see of it that observe it.
func (p *Plan) saturate(ctx context.Context, s *rig.Subject, c *report.Cell, t rig.Topology, w work.Work) error {
	before, observed, err := s.Seen(ctx)
	if err != nil {
		return err
	}
	res, err := s.Measure(ctx, t, w, load.Options{Warm: p.Warm, For: p.For})
	if err != nil {
		return err
	}
	saturated(c, w, res)
	if !observed {
		return nil
	}
	after, _, err := s.Seen(ctx)
	if err != nil {
		return err
	}
	given, missed := after.Given-before.Given, after.Missed-before.Missed
	if given == 0 {
		return fmt.Errorf("%s, %s, %s: the agents have seen nothing", s.Name, t, w.Name)
	}
	c.Seen = append(c.Seen, given/(given+missed))
	return nil
}

// rate returns the rate of the open loop for a work. It is the same in all rounds.
func (p *Plan) rate(out *report.Report, t rig.Topology, w work.Work) float64 {
	if p.PacedAt > 0 {
		return p.PacedAt
	}
	c := out.Find(p.Reference, t, w.Name)
	if c == nil {
		for _, other := range out.Cells { // the slowest subject that was measured
			if other.Topology == t && other.Work == w.Name && (c == nil || other.Rate[0] < c.Rate[0]) {
				c = other
			}
		}
	}
	if c.PacedAt > 0 {
		return c.PacedAt
	}
	rate := 0.4 * c.Rate[0]
	if math.IsNaN(rate) || rate < 100 {
		return 100
	}
	step := math.Pow(10, math.Floor(math.Log10(rate))-1) // round to two digits
	return math.Round(rate/step) * step
}

// unit returns what processor time is divided by: a million requests, or a GiB.
func unit(w work.Work) float64 {
	if w.Volume() {
		return 1 << 30
	}
	return 1e6
}

func noteErrors(c *report.Cell, res *load.Result) {
	c.Errors += res.Errors
	if c.Error == "" {
		c.Error = res.Error
	}
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// ratio returns total divided by n, NaN if n is 0.
func ratio(total, n float64) float64 {
	if n == 0 {
		return math.NaN()
	}
	return total / n
}

func saturated(c *report.Cell, w work.Work, res *load.Result) {
	n := float64(res.Requests)
	c.Rate = append(c.Rate, n/res.Seconds)
	c.CPU = append(c.CPU, ratio(res.Usage.CPU.Seconds()*unit(w), n))
	c.Switches = append(c.Switches, ratio(float64(res.Usage.Switches), n))
	c.RSS = append(c.RSS, float64(res.Usage.RSS))
	if w.Alone() {
		quantiles(c, res)
	}
	noteErrors(c, res)
}

func paced(c *report.Cell, w work.Work, res *load.Result) {
	c.PacedCPU = append(c.PacedCPU, ratio(res.Usage.CPU.Seconds()*unit(w), float64(res.Requests)))
	c.Late = append(c.Late, micros(res.Late.Quantile(0.99)))
	quantiles(c, res)
	noteErrors(c, res)
}

func quantiles(c *report.Cell, res *load.Result) {
	q := func(q float64) float64 {
		if res.Latency.Count() == 0 {
			return math.NaN()
		}
		return micros(res.Latency.Quantile(q))
	}
	c.P50, c.P99, c.P999 = append(c.P50, q(0.5)), append(c.P99, q(0.99)), append(c.P999, q(0.999))
	c.Latency.Merge(&res.Latency)
}

// once measures, after the rounds, what does not depend on noise.
func (p *Plan) once(ctx context.Context, s *rig.Subject, c *report.Cell, first bool) error {
	w, err := work.Select(c.Work)
	if err != nil {
		return err
	}
	if p.Count > 0 && !w[0].Volume() {
		p.Log("counting: %s, %s, %s", c.Work, c.Topology, s.Name)
		counts, err := s.Count(ctx, c.Topology, w[0], load.Options{Warm: p.Warm / 4, For: p.Count})
		if err != nil {
			return err
		}
		c.Counts = &counts
		if counts.Problem != "" {
			p.Log("%s", counts.Problem)
		}
	}
	if p.Idle > 0 && first && w[0].Mode == work.HTTP1 {
		p.Log("%d idle connections: %s, %s", p.Idle, c.Topology, s.Name)
		res, err := s.Measure(ctx, c.Topology, w[0], load.Options{Idle: p.Idle, For: max(p.For/2, 300*time.Millisecond)})
		if err != nil {
			return fmt.Errorf("idle connections: %w", err)
		}
		c.IdleBytes = float64(res.Growth) / float64(p.Idle)
		noteErrors(c, res)
	}
	return nil
}
