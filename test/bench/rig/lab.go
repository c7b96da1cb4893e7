// Package rig brings up what is measured: labs with and without the mesh, the peers
// in the places of the agents, and clients in the pods.
package rig

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/underlane/underlane/test/lab/api"
	"github.com/underlane/underlane/test/lab/host"
	"github.com/underlane/underlane/test/lab/layout"
)

//go:embed pods.yaml
var pods string

// Topology is where the server is.
type Topology string

// The topologies. The client is on node-1.
const (
	CrossNode Topology = "cross-node" // two hops, mutual TLS between them
	SameNode  Topology = "same-node"  // one hop, plain
)

// Topologies has all topologies.
var Topologies = []Topology{CrossNode, SameNode}

// server returns the name of the server's pod and service.
func (t Topology) server() string {
	if t == SameNode {
		return "near"
	}
	return "far"
}

// The namespaces of the pods.
const (
	inMesh = "mesh"
	bare   = "bare"
)

// lab is a lab of two nodes. It has the same pods twice: in the mesh and outside.
type lab struct {
	layout layout.Layout
	state  api.State
	tool   string // the lab's command
}

// The labels of the pods of the namespace inMesh.
const (
	enabled = "underlane.io/mesh: enabled"
	observe = "underlane.io/mesh: observe"
)

// upLab brings up a lab with the agent and the controller of b. tools is the directory of
// the lab's command and of this program. label is what the pods of the namespace inMesh have.
func upLab(ctx context.Context, name, tools string, b Build, dir, label string) (*lab, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, name+".yaml")
	text := strings.NewReplacer("BENCH", self, enabled, label).Replace(pods) + policies(b.Policies)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return nil, fmt.Errorf("write the pods: %w", err)
	}
	l := &lab{tool: filepath.Join(tools, "lab")}
	if l.layout, err = layout.Open(name); err != nil {
		return nil, err
	}
	args := []string{"up", "--bin", b.Bin, "--owner", strconv.Itoa(os.Getpid())}
	for _, a := range b.Args {
		args = append(args, "--agent-arg="+a)
	}
	if err := l.run(ctx, append(args, path)...); err != nil {
		return nil, errors.Join(err, l.down())
	}
	if l.state, err = api.NewClient(l.layout.Socket()).State(ctx); err != nil {
		return nil, errors.Join(err, l.down())
	}
	return l, nil
}

func (l *lab) run(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, l.tool, append([]string{"--state", l.layout.Name}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("lab %s: %w\n%s", args[0], err, bytes.TrimSpace(out))
	}
	return nil
}

func (l *lab) down() error { return l.run(context.Background(), "down") }

func (l *lab) pod(namespace, name string) api.Pod {
	for _, p := range l.state.Pods {
		if p.Namespace == namespace && p.Name == name {
			return p
		}
	}
	return api.Pod{}
}

func (l *lab) clusterIP(namespace, name string) netip.Addr {
	for _, s := range l.state.Services {
		if s.Namespace == namespace && s.Name == name && len(s.IPs) > 0 {
			return s.IPs[0]
		}
	}
	return netip.Addr{}
}

// agents returns the processes of the agents.
func (l *lab) agents() []int {
	return append(host.CgroupProcs(l.layout.AgentCgroup("node-1")), host.CgroupProcs(l.layout.AgentCgroup("node-2"))...)
}

// place returns where programs of a node run.
func (l *lab) place(node, cgroup string) (host.Place, error) {
	dir := filepath.Join(l.layout.HostCgroup(node), cgroup)
	return host.Place{Cgroup: dir, Netns: l.layout.Netns(node)}, host.MakeCgroup(dir)
}
