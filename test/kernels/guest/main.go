// Command guest is process 1 of a virtual machine of test/kernels. It mounts what the tests
// need, loads modules, runs the steps of its plan, and says on the console how they ended.
package main

import (
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/test/kernels/plan"
)

func main() {
	if os.Getpid() != 1 {
		if err := work(os.Stdout); err != nil {
			say(os.Stdout, plan.Message{Error: err.Error()})
		}
		say(os.Stdout, plan.Message{Done: true})
		return
	}
	if err := first(); err != nil {
		say(os.Stdout, plan.Message{Error: "process 1: " + err.Error()})
	}
	unix.Sync()
	// qemu ends at a reboot (-no-reboot).
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}

// first is the work of process 1: it waits for all processes that have lost their parent,
// until the one that does the rest has ended.
func first() error {
	if err := mountAll(); err != nil {
		return err
	}
	cmd := exec.Command("/proc/self/exe")
	console, err := os.OpenFile("/dev/console", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = console, console, console
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C"}
	if err := cmd.Start(); err != nil {
		return err
	}
	for {
		pid, err := unix.Wait4(-1, nil, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid == cmd.Process.Pid {
			return err
		}
	}
}
