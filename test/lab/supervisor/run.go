// Package supervisor manages a running lab. It is the API server, scheduler and
// kubelet of the lab's pods, and it runs the controller and the agents.
package supervisor

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/test/lab/api"
	"github.com/underlane/underlane/test/lab/fabric"
	"github.com/underlane/underlane/test/lab/host"
	"github.com/underlane/underlane/test/lab/layout"
)

// Run brings a lab up and keeps it until ctx ends, a client asks for a shutdown, or
// its owner has ended. Then it removes everything. The caller must have removed
// what an earlier lab of that name left.
func Run(ctx context.Context, log *slog.Logger, opts api.Options) error {
	l, err := layout.Open(opts.Name)
	if err != nil {
		return err
	}
	lock, err := host.TryLock(l.LockFile())
	if err != nil {
		return err
	}
	defer lock.Release()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if opts.Owner != 0 {
		if err := follow(opts.Owner, stop); err != nil {
			return err
		}
	}
	c := newCluster(l, opts, log)
	defer c.clear()
	if err := c.build(ctx); err != nil {
		return err
	}
	listener, err := net.Listen("unix", l.Socket())
	if err != nil {
		return fmt.Errorf("listen for commands: %w", err)
	}
	server := &http.Server{Handler: c.handler(stop)}
	go server.Serve(listener)
	defer server.Close()
	go c.watch(ctx)
	log.Info("lab is up", "name", opts.Name, "nodes", opts.Nodes, "mesh", opts.Mesh)
	<-ctx.Done()
	return nil
}

func (c *cluster) build(ctx context.Context) error {
	for _, dir := range []string{c.layout.Manifests(), c.staging(), c.layout.ControllerDir()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := fabric.Build(c.layout, c.opts.Nodes); err != nil {
		return err
	}
	for n := 1; n <= c.opts.Nodes; n++ {
		node := layout.NodeName(n)
		if err := os.MkdirAll(c.layout.NodeDir(node), 0o755); err != nil {
			return err
		}
		for _, cgroup := range []string{c.layout.AgentCgroup(node), c.layout.HostCgroup(node)} {
			if err := host.MakeCgroup(cgroup); err != nil {
				return err
			}
		}
	}
	if err := host.MakeCgroup(c.layout.ControllerCgroup()); err != nil {
		return err
	}
	if err := c.sync(); err != nil { // writes the nodes; there are no pods yet
		return err
	}
	if !c.opts.Mesh {
		return nil
	}
	if err := host.MountBPFFS(); err != nil {
		return err
	}
	return c.startMesh(ctx)
}

func (c *cluster) clear() {
	c.mu.Lock()
	c.ending = true
	close(c.end)
	c.mu.Unlock()
	if err := host.Clear(c.layout); err != nil {
		c.log.Error("clear the lab away", "err", err)
	}
	c.reaped.Wait()
}

// follow calls stop when the process ends.
func follow(pid int, stop func()) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("follow owner %d: %w", pid, err)
	}
	go func() {
		defer unix.Close(fd)
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
			if n > 0 || (err != nil && err != unix.EINTR) {
				stop()
				return
			}
		}
	}()
	return nil
}
