package inject

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

// reading is what a process says of its clocks.
type reading struct {
	Wall      time.Time
	SinceSlow time.Duration // by the monotonic clock, since its start
}

// TestMain is the process whose clock is stepped, if it is told so: it answers each line
// with a reading.
func TestMain(m *testing.M) {
	if os.Getenv("INJECT_CLOCK") == "" {
		os.Exit(m.Run())
	}
	began := time.Now()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		now := time.Now()
		_ = json.NewEncoder(os.Stdout).Encode(reading{now.Round(0), now.Sub(began)})
	}
}

// TestClockOfOneProcess: the wall clock of the process is stepped to and fro, its
// monotonic clock and our clocks are not.
func TestClockOfOneProcess(t *testing.T) {
	if !HasClock {
		t.Log("left out: there is no code for this architecture")
		return
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "INJECT_CLOCK=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	lines := bufio.NewReader(out)
	ask := func() (r reading) {
		t.Helper()
		fmt.Fprintln(in)
		line, err := lines.ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(line, &r)
		}
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	first := ask()
	clock, err := OpenClock(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []time.Duration{0, 10 * time.Second, -10 * time.Second, 1000 * time.Hour, 0} {
		if err := clock.Step(step); err != nil {
			t.Fatal(err)
		}
		before := time.Now().Round(0)
		got := ask()
		after := time.Now().Round(0)
		if got.Wall.Before(before.Add(step)) || got.Wall.After(after.Add(step)) {
			t.Errorf("stepped by %s: the process says %s, want a time from %s to %s", step, got.Wall, before.Add(step), after.Add(step))
		}
		if passed := got.SinceSlow - first.SinceSlow; passed < 0 || passed > time.Minute {
			t.Errorf("stepped by %s: %s have passed by the monotonic clock", step, passed)
		}
	}
}
