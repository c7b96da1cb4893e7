package supervisor

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/test/lab/host"
	"github.com/underlane/underlane/test/lab/layout"
	"github.com/underlane/underlane/test/slow"
)

// enrolPatience bounds the wait for an agent to enrol a pod. An agent that hangs
// must not keep pods from running.
var enrolPatience = slow.Times(3 * time.Second)

// agentReport has the fields of `agent status -o json` that the lab uses.
type agentReport struct {
	Pods []struct{ Namespace, Name, State string }
}

const stateEnrolled = "enrolled"

// awaitEnrolled waits up to enrolPatience until the agents have enrolled the
// meshed ones of pods. It does not wait for an agent that is not running.
func (c *cluster) awaitEnrolled(pods []*pod) {
	waiting := map[string]map[string]bool{} // node → namespace/name
	c.mu.Lock()
	for _, p := range pods {
		node := layout.NodeName(p.node)
		agent := c.procs[node]
		if agent == nil || agent.cmd == nil || !meshed(p.obj, c.objects["namespace//"+p.obj.Namespace]) {
			continue
		}
		if waiting[node] == nil {
			waiting[node] = map[string]bool{}
		}
		waiting[node][p.obj.Namespace+"/"+p.obj.Name] = true
	}
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), enrolPatience)
	defer cancel()
	for node, names := range waiting {
		err := c.until(ctx, enrolPatience, node, func() error { return c.enrolled(ctx, node, names) })
		if err != nil {
			c.log.Warn("pods start before they are in the mesh", "node", node, "err", err)
		}
	}
}

// meshed reports whether the labels of a pod or its namespace opt in.
func meshed(obj *corev1.Pod, namespace interface{ GetLabels() map[string]string }) bool {
	label, own := obj.Labels[mesh.LabelMesh]
	if !own && namespace != nil {
		label = namespace.GetLabels()[mesh.LabelMesh]
	}
	return label == mesh.LabelEnabled
}

// enrolled returns nil if the agent of a node has enrolled all pods of names.
func (c *cluster) enrolled(ctx context.Context, node string, names map[string]bool) error {
	text, err := c.agentStatus(ctx, node)
	if err != nil {
		return err
	}
	var report agentReport
	if err := json.Unmarshal(text, &report); err != nil {
		return fmt.Errorf("agent status: %w", err)
	}
	n := 0
	for _, p := range report.Pods {
		if p.State == stateEnrolled && names[p.Namespace+"/"+p.Name] {
			n++
		}
	}
	if n < len(names) {
		return fmt.Errorf("%d of %d new pods are enrolled", n, len(names))
	}
	return nil
}

// agentStatus returns the status of the agent of a node as JSON, or an error if it
// is not ready.
func (c *cluster) agentStatus(ctx context.Context, node string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, slow.Times(2*time.Second))
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(c.opts.Bin, "agent"), "status", "--socket", c.layout.AgentSocket(node), "-o", "json")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := host.Start(cmd, host.Place{Cgroup: c.layout.HostCgroup(node), Netns: c.layout.Netns(node)}); err != nil {
		return nil, fmt.Errorf("ask the agent for its status: %w", err)
	}
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("agent status: %w: %s", err, lastBytes(stdout.String()+stderr.String(), 500))
	}
	return stdout.Bytes(), nil
}
