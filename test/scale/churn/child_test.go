package churn

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// asAgents and asController are the first argument of this program where it is to be one of
// them. Each is a process of its own, so that its processor time is its own.
const (
	asAgents     = "agents"
	asController = "controller"
)

// TestMain is the agents and the controller, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		run := map[string]func([]string) error{asAgents: runAgents, asController: runController}[os.Args[1]]
		if run != nil {
			if err := run(os.Args[2:]); err != nil {
				fmt.Fprintln(os.Stderr, os.Args[1]+":", err)
				os.Exit(1)
			}
			return
		}
	}
	os.Exit(m.Run())
}

// processors returns the processor of the controller, and that of all the rest; -1: the machine
// has one only.
func processors() (controller, rest int) {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil || set.Count() < 2 {
		return -1, -1
	}
	controller = -1
	for i := range 1024 {
		switch {
		case !set.IsSet(i):
		case controller < 0:
			controller = i
		default:
			return controller, i
		}
	}
	return -1, -1
}

// pin binds this process to a processor, all its threads, and has the Go runtime use one.
func pin(processor int) error {
	runtime.GOMAXPROCS(1)
	if processor < 0 {
		return nil
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	var set unix.CPUSet
	set.Set(processor)
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err == nil {
			err = unix.SchedSetaffinity(id, &set)
		}
		if err != nil {
			return fmt.Errorf("bind to processor %d: %w", processor, err)
		}
	}
	return nil
}

// seconds returns the processor time of this process.
func seconds() float64 {
	var used unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &used) != nil {
		return 0
	}
	return float64(used.Utime.Nano()+used.Stime.Nano()) / 1e9
}

// child is a process that answers questions, a line each.
type child struct {
	t       testing.TB
	name    string
	in      io.WriteCloser
	answers *bufio.Reader
}

func startChild(t testing.TB, name string, env []string, args ...string) *child {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, append([]string{name}, args...)...)
	cmd.Stderr, cmd.Env = os.Stderr, append(os.Environ(), env...)
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
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &child{t, name, in, bufio.NewReaderSize(out, 1<<20)}
}

// answer returns the next answer.
func (c *child) answer(what string) string {
	c.t.Helper()
	answer, err := c.answers.ReadString('\n')
	if err != nil {
		c.t.Fatalf("the process of the %s does not say %q: %v", c.name, what, err)
	}
	return strings.TrimSpace(answer)
}
