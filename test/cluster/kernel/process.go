package kernel

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/underlane/underlane/test/lab/host"
)

// Process is a program to start in the background.
type Process struct {
	Argv       []string
	Env        []string // added to the caller's
	Netns      string   // path
	Cgroup     string   // directory in the version 2 hierarchy
	Log        string   // file for its output
	Cloneflags uintptr  // new namespaces
}

// Start starts the process in a new session, so that it survives the caller. It is in
// the cgroup from its first instruction on.
func (p Process) Start() (*os.Process, error) {
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cgroup, err := os.Open(p.Cgroup)
	if err != nil {
		return nil, fmt.Errorf("open cgroup: %w", err)
	}
	defer cgroup.Close()
	cmd := exec.Command(p.Argv[0], p.Argv[1:]...)
	cmd.Env = append(os.Environ(), p.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:      true,
		UseCgroupFD: true,
		CgroupFD:    int(cgroup.Fd()),
		Cloneflags:  p.Cloneflags,
	}
	if err := host.InNetns(p.Netns, cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", strings.Join(p.Argv[:min(2, len(p.Argv))], " "), err)
	}
	return cmd.Process, nil
}

// InitOf returns the process that is the first of its pid namespace, as seen from one
// level above that namespace. It returns 0 if there is none.
func InitOf(pids []int) int {
	for _, pid := range pids {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue // it has ended
		}
		for line := range strings.Lines(string(status)) {
			fields := strings.Fields(line)
			if len(fields) == 3 && fields[0] == "NSpid:" && fields[2] == "1" {
				return pid
			}
		}
	}
	return 0
}
