package supervisor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/test/lab/host"
	"github.com/underlane/underlane/test/lab/layout"
	"github.com/underlane/underlane/test/slow"
)

var (
	controllerPatience = slow.Times(30 * time.Second)
	agentPatience      = slow.Times(60 * time.Second)
)

// controllerArgs returns the controller's command line, the contract with
// cmd/controller.
func controllerArgs(l layout.Layout, bin string, extra []string) []string {
	return append([]string{
		filepath.Join(bin, "controller"),
		"--manifests", l.Manifests(),
		"--data-dir", l.ControllerDir(),
		"--listen", controllerAddr(),
		"--trust-domain", "cluster.local",
	}, extra...)
}

// agentArgs returns an agent's command line, the contract with cmd/agent.
func agentArgs(l layout.Layout, bin string, n int, extra []string) []string {
	node := layout.NodeName(n)
	return append([]string{
		filepath.Join(bin, "agent"), "run",
		"--node", node,
		"--controller", controllerAddr(),
		"--trust-anchors", anchors(l),
		"--bootstrap-token-file", token(l, node),
		"--cgroup-root", l.NodeCgroup(node),
		"--pin-root", l.NodePins(node),
		"--socket", l.AgentSocket(node),
		"--metrics-addr", "0.0.0.0:4191",
		"--nri-socket=", // the machine's container runtime, if any, does not run the lab's pods
	}, extra...)
}

func controllerAddr() string {
	return netip.AddrPortFrom(layout.ControllerAddrs()[0], 8443).String()
}

// controllerStatusAddr is the address of the controller's status page by default, in its
// own namespace. Over loopback the page shows the values of the moment, at any rate.
const controllerStatusAddr = "127.0.0.1:4192"

func anchors(l layout.Layout) string { return filepath.Join(l.ControllerDir(), "anchors.pem") }

func token(l layout.Layout, node string) string { return filepath.Join(l.NodeDir(node), "token") }

// startMesh starts the controller and, when that has made its trust anchors, an
// agent on each node. It waits until the agents are ready, so that everything that
// pods do is in the mesh.
func (c *cluster) startMesh(ctx context.Context) error {
	l, o := c.layout, c.opts
	env := os.Environ()
	c.procs[controllerProcess] = &process{
		argv: controllerArgs(l, o.Bin, o.ControllerArgs), env: env, log: l.ControllerLog(),
		place: host.Place{Cgroup: l.ControllerCgroup(), Netns: l.Netns("controller")},
	}
	if err := c.startProcess(controllerProcess); err != nil {
		return err
	}
	err := c.until(ctx, controllerPatience, controllerProcess, func() error {
		_, err := os.Stat(anchors(l))
		return err
	})
	if err != nil {
		return fmt.Errorf("the controller makes no trust anchors: %w%s", err, logTail(l.ControllerLog()))
	}
	for n := 1; n <= o.Nodes; n++ {
		node := layout.NodeName(n)
		if err := c.issueToken(ctx, node); err != nil {
			return err
		}
		c.procs[node] = &process{
			argv: agentArgs(l, o.Bin, n, o.AgentArgs), env: env, log: l.AgentLog(node),
			place: host.Place{Cgroup: l.AgentCgroup(node), Netns: l.Netns(node)},
		}
		if err := c.startProcess(node); err != nil {
			return err
		}
	}
	for n := 1; n <= o.Nodes; n++ {
		if err := c.awaitAgent(ctx, layout.NodeName(n)); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) issueToken(ctx context.Context, node string) error {
	ctx, cancel := context.WithTimeout(ctx, controllerPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(c.opts.Bin, "controller"), "token", "--data-dir", c.layout.ControllerDir(), "--node", node)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("issue a bootstrap token for %s: %w: %s", node, err, strings.TrimSpace(stderr.String()))
	}
	return os.WriteFile(token(c.layout, node), out, 0o600)
}

// awaitAgent waits until the agent of the node reports that it is ready.
func (c *cluster) awaitAgent(ctx context.Context, node string) error {
	err := c.until(ctx, agentPatience, node, func() error {
		_, err := c.agentStatus(ctx, node)
		return err
	})
	if err != nil {
		return fmt.Errorf("the agent of %s does not become ready: %w%s", node, err, logTail(c.layout.AgentLog(node)))
	}
	return nil
}

// awaitController waits until the controller serves the current manifests.
func (c *cluster) awaitController(ctx context.Context) error {
	c.mu.Lock()
	running := c.procs[controllerProcess] != nil && c.procs[controllerProcess].cmd != nil
	c.mu.Unlock()
	if !running {
		return nil
	}
	c.syncMu.Lock()
	written := c.written
	c.syncMu.Unlock()
	err := c.until(ctx, controllerPatience, controllerProcess, func() error {
		asOf, err := c.controllerAsOf(ctx)
		if errors.Is(err, unix.ECONNREFUSED) {
			return nil // its status page is disabled
		}
		if err == nil && !asOf.IsZero() && asOf.Before(written) { // zero: the controller does not report it
			err = fmt.Errorf("it serves what there was at %s, and the last manifest is of %s", asOf.Format(time.StampMilli), written.Format(time.StampMilli))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("the controller does not take the manifests in: %w%s", err, logTail(c.layout.ControllerLog()))
	}
	return nil
}

// controllerAsOf asks the controller for the time of the manifests that it serves.
func (c *cluster) controllerAsOf(ctx context.Context) (time.Time, error) {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
			err = host.InNetns(c.layout.Netns("controller"), func() error {
				conn, err = new(net.Dialer).DialContext(ctx, network, addr)
				return err
			})
			return conn, err
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+controllerStatusAddr+"/status", nil)
	if err != nil {
		return time.Time{}, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return time.Time{}, err
	}
	defer resp.Body.Close()
	var status struct{ AsOf time.Time }
	return status.AsOf, json.NewDecoder(resp.Body).Decode(&status)
}

// until polls f until it succeeds, the process ends, or patience is over.
func (c *cluster) until(ctx context.Context, patience time.Duration, process string, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return nil
		}
		if how := c.endedHow(process); how != "" {
			return fmt.Errorf("it ended: %s", how)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("given up after %s: %w", patience, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// logTail returns the end of a log, for an error message.
func logTail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil || len(bytes.TrimSpace(text)) == 0 {
		return " (it has logged nothing)"
	}
	return "; its log ends:\n" + indent(lastBytes(string(text), 2000))
}

func lastBytes(s string, n int) string {
	s = strings.TrimSpace(s)
	if len(s) > n {
		s = "…" + s[len(s)-n:]
	}
	return s
}

func indent(s string) string { return "    " + strings.ReplaceAll(s, "\n", "\n    ") }
