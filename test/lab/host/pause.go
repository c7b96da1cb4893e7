package host

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Pause starts the process that keeps a pod's namespaces alive while its programs
// start and end. It has new network, UTS and mount namespaces, runs in the cgroup,
// has the host name, and has the given files (target → source) mounted over the
// machine's. The caller must wait for the command.
func Pause(cgroup, hostname string, files map[string]string) (*exec.Cmd, error) {
	// Any program that waits will do. sleep takes 1 MB, a re-executed lab would
	// take 30.
	cmd := exec.Command("sleep", "infinity")
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWNS,
		Setsid:     true,
	}
	if err := Start(cmd, Place{Cgroup: cgroup}); err != nil {
		return nil, fmt.Errorf("start the pod's pause process: %w", err)
	}
	err := InProcess(cmd.Process.Pid, func() error { return setUpNamespaces(hostname, files) })
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		return nil, err
	}
	return cmd, nil
}

// setUpNamespaces prepares the UTS and mount namespaces of the calling thread.
func setUpNamespaces(hostname string, files map[string]string) error {
	if err := unix.Sethostname([]byte(hostname)); err != nil {
		return fmt.Errorf("set host name %q: %w", hostname, err)
	}
	// Slave, not private: when the machine unmounts something, so does the pod.
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("make the pod's mounts its own: %w", err)
	}
	for target, source := range files {
		if real, err := filepath.EvalSymlinks(target); err == nil {
			target = real
		} else if err := os.WriteFile(target, nil, 0o644); err != nil {
			return fmt.Errorf("no %s to mount over: %w", target, err)
		}
		if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s over %s: %w", source, target, err)
		}
	}
	return nil
}
