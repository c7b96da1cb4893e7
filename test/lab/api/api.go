// Package api is the protocol between the lab's commands and its supervisor:
// JSON over HTTP on the lab's socket.
package api

import (
	"net/netip"
	"time"

	"github.com/underlane/underlane/test/lab/manifest"
)

// Options are the settings of a new lab.
type Options struct {
	Name           string   // of the lab
	Nodes          int      // how many
	Mesh           bool     // start a controller and the agents
	Bin            string   // directory of the agent and controller, first in the pods' PATH
	AgentArgs      []string // more arguments for `agent run`
	ControllerArgs []string // more arguments for the controller
	Owner          int      // pid: the lab goes down when this process ends; 0 for none
}

// State is everything about a running lab.
type State struct {
	Options    Options
	Controller Process
	Nodes      []Node
	Pods       []Pod // by namespace, then name
	Services   []Service
}

// Process is a process that the lab manages. It may have ended.
type Process struct {
	Pid  int    `json:",omitempty"` // 0: not running
	Exit string `json:",omitempty"` // how it ended, if it did
	Log  string `json:",omitempty"`
}

// Node is one node.
type Node struct {
	Name   string
	Addrs  []netip.Addr // IPv4 first
	Netns  string       // path of its network namespace
	Cgroup string       // the agent's --cgroup-root
	Pins   string       // the agent's --pin-root
	Socket string       // the agent's --socket
	Agent  Process
}

// Pod is one pod.
type Pod struct {
	Namespace, Name, Node, UID string
	Deployment                 string            `json:",omitempty"` // owner, if it has one
	Labels                     map[string]string `json:",omitempty"`
	IPs                        []netip.Addr      // IPv4 first
	Ready                      bool
	Meshed                     bool   // the labels of the pod or its namespace opt in
	Status                     string // as kubectl shows it: Running, CrashLoopBackOff…
	Restarts                   int
	Pid                        int    // of the process that holds its namespaces
	Netns                      string // path of its network namespace
	Cgroup                     string
	HostVeth                   string // the node's end of its link, in the node's namespace
	Log                        string
}

// IP is the pod's IPv4 address, and IP6 its IPv6 address.
func (p Pod) IP() netip.Addr { return p.IPs[0] }

// IP6 is the pod's IPv6 address.
func (p Pod) IP6() netip.Addr { return p.IPs[1] }

// Key is namespace/name.
func (p Pod) Key() string { return p.Namespace + "/" + p.Name }

// Service is one service and its ClusterIPs, none if it is headless.
type Service struct {
	Namespace, Name string
	IPs             []netip.Addr
}

// Files is a request to apply or delete manifests.
type Files struct{ Files []manifest.File }

// Warnings is the answer to Files.
type Warnings struct{ Warnings []string }

// Target names an object: Kind is pod, ns or deploy.
type Target struct{ Kind, Namespace, Name string }

// Mark is a request to change labels or annotations of a running target. Set
// overwrites and Remove deletes. A deployment stands for all its pods, including
// future ones.
type Mark struct {
	Target
	Annotations bool
	Set         map[string]string
	Remove      []string
}

// Scale is a request to change the replicas of a deployment.
type Scale struct {
	Target
	Replicas int32
}

// Signal is a request to signal a process: a node's agent, or the "controller".
// The answer to a signal that ends the process comes after its end.
type Signal struct {
	Process string
	Signal  string // KILL, TERM, STOP, CONT…
}

// Start is a request to start a process that is not running.
type Start struct{ Process string }

// Wait is a request that is answered when all pods and all running agents are
// ready.
type Wait struct{ Timeout time.Duration }

// Error is the body of an answer that is not 200.
type Error struct{ Error string }
