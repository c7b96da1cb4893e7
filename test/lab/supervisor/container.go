package supervisor

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/underlane/underlane/test/lab/host"
	"github.com/underlane/underlane/test/lab/manifest"
)

// container is a program of a pod. The cluster's mu guards its mutable fields.
type container struct {
	spec     *corev1.Container
	cmd      *exec.Cmd // while running
	restarts int
	ended    bool   // the restart policy does not restart it
	failed   bool   // the last run ended with an error
	broken   bool   // it could not be started
	why      string // how the last run ended
	gone     chan struct{}
}

func newContainer(spec *corev1.Container) *container {
	return &container{spec: spec, gone: make(chan struct{})}
}

const (
	firstBackoff = 250 * time.Millisecond
	lastBackoff  = 10 * time.Second
	goodRun      = 10 * time.Second // a run of this length resets the back-off
)

// runContainer keeps a container running until the pod is deleted or its
// restart policy is satisfied.
func (c *cluster) runContainer(p *pod, ct *container) {
	defer close(ct.gone)
	backoff := firstBackoff
	for {
		began := time.Now()
		err := c.runOnce(p, ct)
		policy := p.obj.Spec.RestartPolicy
		c.mu.Lock()
		ct.cmd = nil
		ct.failed = err != nil
		ct.why = "completed"
		if err != nil {
			ct.why = err.Error()
		}
		ct.ended = policy == corev1.RestartPolicyNever || (policy == corev1.RestartPolicyOnFailure && err == nil)
		over := ct.ended || p.deleting || c.ending
		setReady(p.obj, false)
		c.mu.Unlock()
		c.changed()
		if over {
			return
		}
		c.log.Warn("container ended", "pod", p.obj.Namespace+"/"+p.obj.Name, "container", ct.spec.Name, "why", ct.why)
		if time.Since(began) > goodRun {
			backoff = firstBackoff
		}
		select {
		case <-p.stop:
			return
		case <-c.end:
			return
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, lastBackoff)
		c.mu.Lock()
		ct.restarts++
		c.mu.Unlock()
	}
}

func (c *cluster) runOnce(p *pod, ct *container) error {
	log, err := os.OpenFile(c.layout.PodLog(p.obj.Namespace, p.obj.Name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd, err := c.command(p, ct)
	if err == nil {
		cmd.Stdout, cmd.Stderr = log, log
		c.mu.Lock()
		if p.deleting || c.ending {
			c.mu.Unlock()
			return nil
		}
		if err = host.Start(cmd, host.Place{Cgroup: p.cgroup(c.layout), Pid: p.pause.Process.Pid}); err == nil {
			ct.cmd, ct.broken = cmd, false
		}
		c.mu.Unlock()
	}
	if err != nil {
		c.mu.Lock()
		ct.broken = true
		c.mu.Unlock()
		fmt.Fprintf(log, "lab: container %s: %v\n", ct.spec.Name, err)
		return err
	}
	c.changed()
	return cmd.Wait()
}

// command returns the container's command line with the pod's environment.
func (c *cluster) command(p *pod, ct *container) (*exec.Cmd, error) {
	c.mu.Lock()
	env, err := manifest.Environment(p.obj, ct.spec, c.baseEnv(p))
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	argv := manifest.Command(ct.spec, env)
	path, err := host.LookPath(argv[0], env)
	if err != nil {
		return nil, err
	}
	dir := ct.spec.WorkingDir
	if dir == "" {
		dir = "/"
	}
	return &exec.Cmd{Path: path, Args: argv, Env: env, Dir: dir, SysProcAttr: &syscall.SysProcAttr{Setsid: true}}, nil
}

func (c *cluster) baseEnv(p *pod) []string {
	return []string{
		"PATH=" + c.opts.Bin + ":" + os.Getenv("PATH"),
		"HOME=/root",
		"HOSTNAME=" + hostname(p.obj),
	}
}

// terminate asks a pod's programs to end and waits up to grace for that.
func (c *cluster) terminate(p *pod, grace time.Duration) {
	c.mu.Lock()
	var wait []*container
	for _, ct := range p.containers {
		if ct.cmd != nil {
			ct.cmd.Process.Signal(syscall.SIGTERM)
			wait = append(wait, ct)
		}
	}
	c.mu.Unlock()
	limit := time.After(grace)
	for _, ct := range wait {
		select {
		case <-ct.gone:
		case <-limit:
			return // the caller kills its cgroup next
		}
	}
}

// status returns the pod's status as kubectl shows it. The cluster's mu is held.
func (p *pod) status() (status string, restarts int) {
	status = "Running"
	ended, failed := 0, false
	for _, ct := range p.containers {
		restarts += ct.restarts
		switch {
		case ct.ended:
			ended++
			failed = failed || ct.failed
		case ct.cmd != nil:
		case ct.broken:
			status = "StartError"
		case ct.why != "":
			status = "CrashLoopBackOff"
		default:
			status = "ContainerCreating"
		}
	}
	switch {
	case p.deleting:
		status = "Terminating"
	case ended == len(p.containers) && failed:
		status = "Error"
	case ended == len(p.containers):
		status = "Completed"
	}
	return status, restarts
}
