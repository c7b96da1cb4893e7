package host

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// Place is where a program runs. A zero field means the same place as the lab.
type Place struct {
	Cgroup string // cgroup v2 directory
	Netns  string // path of a network namespace
	Pid    int    // network, UTS and mount namespaces of this process; wins over Netns
}

// Start starts cmd in place. The program is looked up there, in the PATH of
// cmd.Env. It is in the cgroup from its first instruction on.
func Start(cmd *exec.Cmd, place Place) error {
	cgroup, err := os.Open(place.Cgroup)
	if err != nil {
		return fmt.Errorf("open cgroup: %w", err)
	}
	defer cgroup.Close()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.UseCgroupFD = true
	cmd.SysProcAttr.CgroupFD = int(cgroup.Fd())
	return onThread(func() error {
		if err := place.enter(); err != nil {
			return err
		}
		return cmd.Start()
	})
}

// Exec replaces the calling process by argv in place. It returns only on an
// error.
func Exec(argv, env []string, place Place) error {
	runtime.LockOSThread()
	if err := JoinCgroup(place.Cgroup); err != nil {
		return err
	}
	if err := place.enter(); err != nil {
		return err
	}
	path, err := LookPath(argv[0], env)
	if err != nil {
		return err
	}
	return fmt.Errorf("run %s: %w", path, syscall.Exec(path, argv, env))
}

func (p Place) enter() error {
	switch {
	case p.Pid != 0:
		return enterProcess(p.Pid)
	case p.Netns != "":
		return EnterNetns(p.Netns)
	}
	return nil
}

// LookPath finds an executable in the PATH of env. A name with a slash is returned
// as it is.
func LookPath(name string, env []string) (string, error) {
	var dirs string
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			dirs = v
		}
	}
	candidates := []string{name}
	if !strings.Contains(name, "/") {
		candidates = nil
		for _, dir := range strings.Split(dirs, ":") {
			candidates = append(candidates, dir+"/"+name)
		}
	}
	for _, c := range candidates {
		if st, err := os.Stat(c); err == nil && !st.IsDir() && st.Mode()&0o111 != 0 {
			return c, nil
		}
	}
	return "", fmt.Errorf("command %q: no such program on this machine (PATH=%s)", name, dirs)
}

// Alive reports whether the process exists and is not a zombie.
func Alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, ok := strings.Cut(string(stat), ") ") // the name before it may contain any character
	return ok && !strings.HasPrefix(rest, "Z")
}
