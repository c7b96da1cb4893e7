package cgroup

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/redirect/netns/nstest"
	"golang.org/x/sys/unix"
)

// inCgroups makes the test's program a process of a pod: it joins these cgroups, and does
// what it is told on its standard input.
const inCgroups = "UNDERLANE_TEST_CGROUPS"

func TestMain(m *testing.M) {
	if dirs := os.Getenv(inCgroups); dirs != "" {
		os.Exit(serve(strings.Split(dirs, ":")))
	}
	os.Exit(m.Run())
}

func serve(dirs []string) int {
	for _, dir := range dirs {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	fmt.Println("ready")
	var held [][]byte
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		what, much, _ := strings.Cut(lines.Text(), " ")
		n, _ := strconv.Atoi(much)
		switch what {
		case "compute": // n milliseconds of processor time
			for until := used() + time.Duration(n)*time.Millisecond; used() < until; {
			}
		case "hold": // n MiB
			data, err := unix.Mmap(-1, 0, n<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
			if err != nil {
				fmt.Println(err)
				return 1
			}
			for i := 0; i < len(data); i += os.Getpagesize() {
				data[i] = 1
			}
			held = append(held, data)
		}
		fmt.Println("done")
	}
	return len(held) / 1000
}

func used() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// realPod makes the cgroups of a pod with one container on this machine's kernel, in each
// hierarchy. It returns the directories of the container.
func realPod(t *testing.T, limits [][2]string) (container []string) {
	t.Helper()
	text, err := os.ReadFile("/proc/1/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range Mounts(string(text)) {
		at := m.Path
		for _, below := range []string{fmt.Sprintf("underlane-test-%d", os.Getpid()), "kubepods", "burstable", "pod" + uid, "container"} {
			at = filepath.Join(at, below)
			dir := at
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				for range 500 { // a killed process leaves its cgroup a moment later
					if err = unix.Rmdir(dir); err == nil {
						return
					}
					time.Sleep(10 * time.Millisecond)
				}
				t.Errorf("remove the test's cgroup %s: %v", dir, err)
			})
		}
		container = append(container, at)
		for _, l := range limits {
			path := filepath.Join(at, l[0])
			if _, err := os.Stat(path); err != nil {
				continue // not a controller of this hierarchy
			}
			if err := os.WriteFile(path, []byte(l[1]), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	return container
}

// process starts a process of a pod. Its do waits until the process has done what it is
// told, and returns false if it was killed.
func process(t *testing.T, dirs []string) (do func(what string, much int) bool, pid string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), inCgroups+"="+strings.Join(dirs, ":"))
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
	answers := bufio.NewReader(out)
	if line, err := answers.ReadString('\n'); line != "ready\n" {
		t.Fatalf("the process says %q, %v; want ready", line, err)
	}
	return func(what string, much int) bool {
		_, _ = fmt.Fprintf(in, "%s %d\n", what, much)
		line, err := answers.ReadString('\n')
		if err != nil && err != io.EOF || line != "done\n" && line != "" {
			t.Fatalf("%s: the process says %q, %v; want done", what, line, err)
		}
		return line != ""
	}, strconv.Itoa(cmd.Process.Pid)
}

// TestKernel: what a process of a pod does shows in the files of this machine's kernel.
func TestKernel(t *testing.T) {
	nstest.RequireRoot(t)
	const limit = 32
	container := realPod(t, [][2]string{
		{"cpu.cfs_quota_us", "20000"},
		{"cpu.max", "20000 100000"},
		{"cpu.shares", "2048"},
		{"cpu.weight", "200"},
		{"memory.limit_in_bytes", strconv.Itoa(limit << 20)},
		{"memory.memsw.limit_in_bytes", strconv.Itoa(limit << 20)},
		{"memory.max", strconv.Itoa(limit << 20)},
		{"memory.swap.max", "0"},
	})
	do, pid := process(t, container)
	trees, err := Host("/proc")
	if err != nil {
		t.Fatal(err)
	}
	dirs := Pods(trees)[uid]
	if dirs == nil || len(dirs) != len(trees) {
		t.Fatalf("cgroups of the pod: %v, want one in each of %d hierarchies", dirs, len(trees))
	}
	for i, its := range OfProcesses(trees, []string{pid}) {
		if len(its) != 1 || its[0] != dirs[i][0]+"/container" {
			t.Errorf("cgroups of the pod's process: %v, want the container of %v", its, dirs[i])
		}
	}
	for i, tree := range trees {
		weight, ok := tree.Weight(dirs[i][0] + "/container")
		if must := !tree.V2 && has(tree.Controllers, "cpu"); ok && weight != 200 || must && !ok {
			t.Errorf("weight of the container in %v: %d, %v; want 200", tree.Controllers, weight, ok)
		}
	}
	read := func() Usage {
		u, ok := Read(trees, dirs, Everything)
		if !ok {
			t.Fatal("the pod's cgroups are gone")
		}
		return u
	}
	before := read()
	if !before.Known.Has(KnowsCPU) {
		t.Fatalf("got %+v, want the processor time, which each kind of host knows", before)
	}
	do("compute", 100)
	do("hold", limit/2)
	after := read()
	if got := after.CPU - before.CPU; got < 100*time.Millisecond || got > 10*time.Second {
		t.Errorf("processor time %v, want 100 ms and what the start of the program takes", got)
	}
	if after.Known.Has(KnowsLimits) && (after.Throttled == 0 || after.ThrottledFor <= 0 || after.Periods < after.Throttled) {
		t.Errorf("got %+v, want a container that was throttled: it computes for 100 ms, and may for 20 in 100", after)
	}
	if after.Known.Has(KnowsPressure) && after.CPUPressure.Total < 0 {
		t.Errorf("pressure %+v, want none below 0", after.CPUPressure)
	}
	if !after.Known.Has(KnowsMemory) {
		return
	}
	if got := after.Memory; got < limit/2<<20 || got > limit<<20 {
		t.Errorf("memory of %d bytes, want between %d and %d MiB", got, limit/2, limit)
	}
	if after.Peak < after.WorkingSet || after.WorkingSet > after.Memory || after.Fill < 0.5 || after.Fill > 1 || after.OOMKills != 0 {
		t.Errorf("got %+v, want a peak, a container's limit that is half in use, and no kill", after)
	}
	if do("hold", 2*limit) {
		t.Fatal("the process has more memory than its limit")
	}
	if end := read(); end.OOMKills != 1 || end.MemoryLimit != 0 {
		t.Errorf("got %+v, want one OOM kill, and no limit of the pod itself", end)
	}
}
