// Package proc reads the resource usage of processes from /proc and their clocks.
package proc

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is the resource usage of processes since they began.
type Usage struct {
	CPU      time.Duration // user and system, all threads including ended ones
	Switches uint64        // context switches of the running threads, voluntary or not
	RSS      uint64        // bytes, now
}

// Since returns the usage since before. RSS stays the current value.
func (u Usage) Since(before Usage) Usage {
	u.CPU -= before.CPU
	u.Switches -= min(before.Switches, u.Switches)
	return u
}

// Of returns the total usage of processes.
func Of(pids []int) (Usage, error) {
	var sum Usage
	for _, pid := range pids {
		u, err := of(pid)
		if err != nil {
			return Usage{}, fmt.Errorf("usage of process %d: %w", pid, err)
		}
		sum.CPU += u.CPU
		sum.Switches += u.Switches
		sum.RSS += u.RSS
	}
	return sum, nil
}

func of(pid int) (u Usage, err error) {
	if u.CPU, err = CPU(pid); err != nil {
		return u, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, err
	}
	if u.RSS, err = ParseRSS(status); err != nil {
		return u, err
	}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return u, err
	}
	for _, t := range tasks {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/status", pid, t.Name()))
		if err == nil { // on an error the thread has just ended
			u.Switches += ParseSwitches(status)
		}
	}
	return u, nil
}

// CPU returns the processor time of a process, in nanoseconds. /proc/PID/stat has
// the same in hundredths of a second, which is too coarse for runs of a second.
func CPU(pid int) (time.Duration, error) {
	var ts unix.Timespec
	// The id of a process's clock is the complement of its pid, shifted by three,
	// plus 2 for the scheduler's time (CPUCLOCK_SCHED). clock_getcpuclockid(3) does
	// the same.
	if err := unix.ClockGettime(int32(^pid<<3|2), &ts); err != nil {
		return 0, fmt.Errorf("process clock: %w", err)
	}
	return time.Duration(ts.Nano()), nil
}

// ParseStatCPU parses user and system time in /proc/PID/stat, in ticks of a
// hundredth of a second.
func ParseStatCPU(stat []byte) (time.Duration, error) {
	// The name in parentheses may contain any character, including parentheses.
	end := bytes.LastIndexByte(stat, ')')
	fields := bytes.Fields(stat[end+1:])
	if end < 0 || len(fields) < 13 {
		return 0, fmt.Errorf("this is no /proc/PID/stat: %.60q", stat)
	}
	var ticks uint64
	for _, f := range fields[11:13] { // 14 and 15 of proc(5), which counts from pid
		n, err := strconv.ParseUint(string(f), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("processor time in /proc/PID/stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// ParseRSS parses the resident bytes in /proc/PID/status.
func ParseRSS(status []byte) (uint64, error) {
	v, ok := statusField(status, "VmRSS")
	kb, err := strconv.ParseUint(strings.TrimSuffix(v, " kB"), 10, 64)
	if !ok || err != nil {
		return 0, fmt.Errorf("no resident size in the status (%q): has the process ended?", v)
	}
	return kb << 10, nil
}

// ParseSwitches parses a thread's context switches in /proc/PID/task/TID/status.
func ParseSwitches(status []byte) uint64 {
	var sum uint64
	for _, name := range []string{"voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"} {
		v, _ := statusField(status, name)
		n, _ := strconv.ParseUint(v, 10, 64) // 0 if absent
		sum += n
	}
	return sum
}

func statusField(status []byte, name string) (string, bool) {
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(v), true
		}
	}
	return "", false
}
