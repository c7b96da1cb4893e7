package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/test/lab/api"
	"github.com/underlane/underlane/test/lab/host"
)

// controllerProcess is the name of the controller among the lab's processes. An
// agent has the name of its node.
const controllerProcess = "controller"

// process is the controller or an agent. It is not restarted automatically, so
// that a test can see that it has ended. The cluster's mu guards it.
type process struct {
	argv  []string
	env   []string
	place host.Place
	log   string
	cmd   *exec.Cmd     // nil while not running
	gone  chan struct{} // closed when cmd has ended
	exit  string
}

func (p *process) report() api.Process {
	if p == nil {
		return api.Process{}
	}
	r := api.Process{Exit: p.exit, Log: p.log}
	if p.cmd != nil {
		r.Pid = p.cmd.Process.Pid
	}
	return r
}

// startProcess starts a process that is not running.
func (c *cluster) startProcess(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.procs[name]
	switch {
	case p == nil:
		return fmt.Errorf("there is no process %q: want a node's name or %q (and a lab with a mesh)", name, controllerProcess)
	case p.cmd != nil:
		return fmt.Errorf("%s is running already, pid %d", name, p.cmd.Process.Pid)
	case c.ending:
		return errors.New("the lab is going down")
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := &exec.Cmd{
		Path: p.argv[0], Args: p.argv, Env: p.env, Dir: "/",
		Stdout: log, Stderr: log, SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := host.Start(cmd, p.place); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	gone := make(chan struct{})
	p.cmd, p.gone, p.exit = cmd, gone, ""
	c.reaped.Go(func() {
		defer close(gone)
		err := cmd.Wait()
		c.mu.Lock()
		defer c.mu.Unlock()
		p.cmd, p.exit = nil, "exit status 0"
		if err != nil {
			p.exit = err.Error()
		}
		if !c.ending {
			c.log.Warn("process ended", "process", name, "pid", cmd.Process.Pid, "how", p.exit)
		}
	})
	return nil
}

// signalProcess sends a signal. If the signal ends the process, it waits for that.
func (c *cluster) signalProcess(ctx context.Context, name, signal string) error {
	sig := unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(signal), "SIG"))
	if sig == 0 {
		return fmt.Errorf("signal %q: no such signal", signal)
	}
	c.mu.Lock()
	p := c.procs[name]
	if p == nil || p.cmd == nil {
		c.mu.Unlock()
		return fmt.Errorf("%s is not running", name)
	}
	gone := p.gone
	err := p.cmd.Process.Signal(sig)
	c.mu.Unlock()
	if err != nil {
		return fmt.Errorf("signal %s: %w", name, err)
	}
	switch sig {
	case unix.SIGKILL, unix.SIGTERM, unix.SIGINT, unix.SIGQUIT, unix.SIGABRT:
	default:
		return nil
	}
	select {
	case <-gone:
		return nil
	case <-time.After(60 * time.Second):
		return fmt.Errorf("%s still runs 60 s after SIG%s", name, strings.TrimPrefix(strings.ToUpper(signal), "SIG"))
	case <-ctx.Done():
		return ctx.Err()
	}
}

// endedHow says how a process ended, "" while it runs.
func (c *cluster) endedHow(name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.procs[name]; p != nil && p.cmd == nil && p.exit != "" {
		return p.exit
	}
	return ""
}
