package bench

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/test/bench/load"
	"github.com/underlane/underlane/test/bench/peers"
	"github.com/underlane/underlane/test/bench/report"
	"github.com/underlane/underlane/test/bench/rig"
	"github.com/underlane/underlane/test/bench/serve"
	"github.com/underlane/underlane/test/bench/work"
)

const usage = `Usage:
  bench run [flags]        measure Underlane, no proxy, the floor and the peers
  bench diff [flags] A B…  measure commits against the first of them; "." is the working tree
  bench plot DIR [MORE…]   make tables and plots of DIR/results.json anew, with the works of MORE/results.json,
                           which have to be of the same commit

Flags of run and diff: see bench run -h.
`

// Main runs the command line and returns the exit status. The parts that run in
// pods and on nodes are commands too: serve, load, scrape, reverse-proxy.
func Main(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := command(ctx, args)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return 0
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	return 1
}

func command(ctx context.Context, args []string) error {
	name := "help"
	if len(args) > 0 {
		name, args = args[0], args[1:]
	}
	arg := func() string { return strings.Join(args, " ") }
	switch name {
	case "run":
		return runCommand(ctx, args)
	case "diff":
		return diffCommand(ctx, args)
	case "plot":
		return plotCommand(args)
	case "serve":
		return serve.Servers(ctx, netip.IPv4Unspecified())
	case "scrape":
		v, err := rig.Scrape(arg())
		if err == nil {
			fmt.Println(v)
		}
		return err
	case "reverse-proxy":
		return peers.ReverseProxy(ctx, arg())
	case "load":
		var o load.Options
		if err := json.Unmarshal([]byte(arg()), &o); err != nil {
			return fmt.Errorf("load: options: %w", err)
		}
		r, err := load.Run(ctx, o)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(r)
	}
	fmt.Fprint(os.Stderr, usage)
	return nil
}

// plotCommand writes the tables and plots of the first directory, after adding the others' cells.
func plotCommand(dirs []string) error {
	var all *report.Report
	for _, dir := range dirs {
		r, err := report.Read(filepath.Join(dir, "results.json"))
		if err != nil {
			return err
		}
		if all == nil {
			all = r
		} else if err := all.Add(r); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	if all == nil {
		return errors.New("bench plot: which directory?")
	}
	return all.Write(dirs[0])
}

// settings are the flags of run and diff.
type settings struct {
	quick      bool
	works      string
	subjects   string
	topologies string
	rounds     int
	duration   time.Duration
	rate       float64
	out        string
	tools, bin string
	variant    string
	policies   string
	rest       []string
}

func parse(name string, args []string) (*settings, error) {
	s := &settings{}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	f := flag.NewFlagSet("bench "+name, flag.ContinueOnError)
	f.BoolVar(&s.quick, "quick", false, "short runs and one round: shows that everything works")
	f.StringVar(&s.works, "work", "", "regular expression of the works to do: "+strings.Join(work.Names(), ", "))
	f.StringVar(&s.subjects, "subjects", strings.Join(allSubjects(), ","), "what to measure")
	f.StringVar(&s.topologies, "topology", "cross-node,same-node", "where the server is")
	f.IntVar(&s.rounds, "rounds", 0, "how many rounds (default 7, or 1 if quick)")
	f.DurationVar(&s.duration, "for", 0, "how long each measurement takes (default 4s, or 400ms if quick)")
	f.Float64Var(&s.rate, "rate", 0, "requests a second of the open loop (default 40 % of what Underlane reaches)")
	f.StringVar(&s.out, "out", "", "directory for results.json, results.md and plots (default: none)")
	f.StringVar(&s.tools, "tools", filepath.Dir(self), "directory of the lab's command")
	f.StringVar(&s.bin, "bin", filepath.Dir(self), "directory of the agent and the controller to measure")
	f.StringVar(&s.variant, "variant", "", "run: measure Underlane also with this flag of the agent, such as --kernel-path-redirect=false")
	f.StringVar(&s.policies, "policies", "", "run: measure Underlane also with so many authorization policies of each server that look at requests, such as 1,1000")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	s.rest = f.Args()
	return s, nil
}

func allSubjects() []string {
	out := []string{rig.Direct, rig.Observed, report.Ours}
	for _, p := range peers.All {
		out = append(out, p.Name)
	}
	return out
}

func (s *settings) plan(reference string) (*Plan, error) {
	p := &Plan{
		Rounds: 7, Warm: time.Second, For: 4 * time.Second, Count: 2 * time.Second, Idle: 1000,
		PacedAt: s.rate, Reference: reference, Log: logf,
	}
	if s.quick {
		p.Rounds, p.Warm, p.For, p.Count, p.Idle = 1, 200*time.Millisecond, 400*time.Millisecond, 300*time.Millisecond, 100
	}
	if s.rounds > 0 {
		p.Rounds = s.rounds
	}
	if s.duration > 0 {
		p.For, p.Count = s.duration, s.duration
	}
	for _, t := range strings.Split(s.topologies, ",") {
		if !slices.Contains(rig.Topologies, rig.Topology(t)) {
			return nil, fmt.Errorf("there is no topology %q: want some of %v", t, rig.Topologies)
		}
		p.Topologies = append(p.Topologies, rig.Topology(t))
	}
	var err error
	p.Works, err = work.Select(s.works)
	return p, err
}

func logf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

func runCommand(ctx context.Context, args []string) error {
	s, err := parse("run", args)
	if err != nil {
		return err
	}
	wanted := strings.Split(s.subjects, ",")
	for _, name := range wanted {
		if !slices.Contains(allSubjects(), name) {
			return fmt.Errorf("there is nothing named %q to measure: want some of %v", name, allSubjects())
		}
	}
	// The mesh's lab is always needed: it also has the pods without the mesh.
	builds := []rig.Build{{Name: report.Ours, Bin: s.bin}}
	if s.variant != "" {
		name := report.Ours + " " + s.variant
		builds, wanted = append(builds, rig.Build{Name: name, Bin: s.bin, Args: []string{s.variant}}), append(wanted, name)
	}
	for text := range strings.SplitSeq(s.policies, ",") {
		n, err := strconv.Atoi(text)
		if text != "" && (err != nil || n < 1) {
			return fmt.Errorf("-policies: %q is no number of policies", text)
		}
		if n > 0 {
			name := fmt.Sprintf("%s, %d policies", report.Ours, n)
			builds, wanted = append(builds, rig.Build{Name: name, Bin: s.bin, Policies: n}), append(wanted, name)
		}
	}
	r, err := s.measure(ctx, report.Ours, builds, wanted)
	if err != nil {
		return err
	}
	r.Commit = describe(ctx)
	return s.show(r, r.Markdown())
}

// measure brings the rig up, runs the plan, and takes the rig down.
func (s *settings) measure(ctx context.Context, reference string, builds []rig.Build, wanted []string) (_ *report.Report, err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("the lab makes namespaces and cgroups: run it as root")
	}
	plan, err := s.plan(reference)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	logf("bringing up: %s", strings.Join(wanted, ", "))
	up, err := rig.Up(ctx, rig.Options{Tools: s.tools, Dir: dir, Builds: builds, Peers: wanted, CPUs: min(runtime.NumCPU(), 4), Log: logf})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, up.Close()) }()
	for name, why := range up.LeftOut {
		logf("left out: %s: %s", name, why)
	}
	up.Subjects = slices.DeleteFunc(up.Subjects, func(x *rig.Subject) bool { return !slices.Contains(wanted, x.Name) })
	r := &report.Report{
		When: time.Now(), Machine: machine(), Quick: s.quick, Rounds: plan.Rounds, Seconds: plan.For.Seconds(), LeftOut: up.LeftOut,
	}
	return r, plan.Run(ctx, up, r)
}

// show prints the tables and writes the report if that is wanted. It fails if any
// request failed.
func (s *settings) show(r *report.Report, text string) error {
	fmt.Print(text)
	if s.out != "" {
		if err := r.Write(s.out); err != nil {
			return err
		}
		logf("written to %s", s.out)
	}
	var errs []error
	for _, c := range r.Cells {
		if c.Errors > 0 {
			errs = append(errs, fmt.Errorf("%s, %s, %s: %d errors: %s", c.Subject, c.Topology, c.Work, c.Errors, c.Error))
		}
	}
	return errors.Join(errs...)
}

func machine() report.Machine {
	m := report.Machine{CPU: "unknown processor", Cores: runtime.NumCPU()}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				m.CPU = strings.TrimSpace(v)
				break
			}
		}
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	return m
}
