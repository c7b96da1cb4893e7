// Package layout defines the names, paths and addresses of a test cluster's parts. It
// changes nothing on the machine, except for a cluster's own directory.
package layout

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
)

// NetnsDir is where named network namespaces are, as for `ip netns`.
const NetnsDir = "/run/netns"

// Addresses. They are the same in all clusters, because each has its own networks. The
// IPv6 addresses are for dual-stack clusters.
const (
	serviceCIDR4 = "10.96.0.0/16"
	serviceCIDR6 = "fd00:10:96::/112"
	podCIDR4     = "10.244.0.0/16"
	podCIDR6     = "fd00:10:244::/48"
	APIServiceIP = "10.96.0.1"
	DNSServiceIP = "10.96.0.10"
	// ControlPlaneIP is the API server's address, and the nodes' gateway.
	ControlPlaneIP  = "10.89.0.1"
	ControlPlaneIP6 = "fd00:10:89::1"
	APIServer       = "https://10.89.0.1:6443"
)

// Spec has the options of a cluster.
type Spec struct {
	Name      string `json:"name"`
	Nodes     int    `json:"nodes"`
	ProxyMode string `json:"proxyMode"` // kube-proxy's: nftables or iptables
	DualStack bool   `json:"dualStack"` // IPv6 in addition to IPv4
	Cgroup    string `json:"cgroup"`    // cgroup hierarchies of the nodes: a Cgroup constant for each node, separated by commas; the last one is for all others
}

// The cgroup hierarchies of the machine that a node has.
const (
	CgroupMachine = "machine" // all that the machine has
	CgroupV1      = "v1"      // only version 1
	CgroupV2      = "v2"      // only version 2
)

// Cluster is a cluster on the machine.
type Cluster struct {
	Spec
	Base string // directory with the state of all clusters
}

// validName allows no dash, because a dash ends the cluster's name in the names of
// namespaces.
var validName = regexp.MustCompile(`^[a-z0-9]{1,20}$`)

// ValidName returns an error for a name that cannot be used for files and namespaces.
func ValidName(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("cluster name %q: 1 to 20 lower-case letters and digits", name)
	}
	return nil
}

// Validate returns an error for options that cannot be built.
func (s Spec) Validate() error {
	if err := ValidName(s.Name); err != nil {
		return err
	}
	if s.Nodes < 1 || s.Nodes > 9 {
		return fmt.Errorf("%d nodes: from 1 to 9", s.Nodes)
	}
	if s.ProxyMode != "nftables" && s.ProxyMode != "iptables" {
		return fmt.Errorf("proxy mode %q: nftables or iptables", s.ProxyMode)
	}
	for _, kind := range strings.Split(s.Cgroup, ",") {
		if kind != CgroupMachine && kind != CgroupV1 && kind != CgroupV2 {
			return fmt.Errorf("cgroup %q: machine, v1 or v2, or one of them for each node, by commas", s.Cgroup)
		}
	}
	return nil
}

// CgroupOf returns the cgroup hierarchies of a node.
func (s Spec) CgroupOf(n Node) string {
	kinds := strings.Split(s.Cgroup, ",")
	return kinds[min(n.Index, len(kinds))-1]
}

// ServiceCIDR returns the networks of Services' addresses, in the form of flags.
func (s Spec) ServiceCIDR() string { return s.join(serviceCIDR4, serviceCIDR6) }

// PodCIDR returns the networks of all pods' addresses, in the form of flags.
func (s Spec) PodCIDR() string { return s.join(podCIDR4, podCIDR6) }

func (s Spec) join(v4, v6 string) string {
	if s.DualStack {
		return v4 + "," + v6
	}
	return v4
}

// Gateways returns the control plane's addresses, one for each family. They are the
// nodes' default gateways.
func (s Spec) Gateways() []netip.Addr {
	return s.families(netip.MustParseAddr(ControlPlaneIP), netip.MustParseAddr(ControlPlaneIP6))
}

// NodeIPs returns the node's InternalIPs, one for each family.
func (s Spec) NodeIPs(n Node) []netip.Addr { return s.families(n.IP(), n.IP6()) }

func (s Spec) families(v4, v6 netip.Addr) []netip.Addr {
	if s.DualStack {
		return []netip.Addr{v4, v6}
	}
	return []netip.Addr{v4}
}

// PodCIDRs returns the node's part of PodCIDR, one for each family.
func (s Spec) PodCIDRs(n Node) []netip.Prefix {
	v4 := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(n.Index), 0}), 24)
	if !s.DualStack {
		return []netip.Prefix{v4}
	}
	return []netip.Prefix{v4, netip.MustParsePrefix(fmt.Sprintf("fd00:10:244:%d::/64", n.Index))}
}

// Dir is the directory for everything that the cluster stores on disk.
func (c Cluster) Dir() string { return filepath.Join(c.Base, c.Name) }

// File is a path below Dir.
func (c Cluster) File(elem ...string) string {
	return filepath.Join(append([]string{c.Dir()}, elem...)...)
}

// Kubeconfig is the path of the administrator's kubeconfig.
func (c Cluster) Kubeconfig() string { return c.File("kubeconfig") }

// Cgroup is the name of the cluster's directory in all cgroup hierarchies.
func (c Cluster) Cgroup() string { return "ulc-" + c.Name }

// NetnsPrefix is the prefix of the names of the cluster's network namespaces.
func (c Cluster) NetnsPrefix() string { return "ulc-" + c.Name + "-" }

// Netns is the path of a part's network namespace.
func (c Cluster) Netns(part string) string {
	return filepath.Join(NetnsDir, c.NetnsPrefix()+part)
}

// ControlPlaneNetns is where the control plane, kubectl and tests run.
func (c Cluster) ControlPlaneNetns() string { return c.Netns("cp") }

// AllNodes lists the nodes.
func (c Cluster) AllNodes() []Node {
	nodes := make([]Node, c.Nodes)
	for i := range nodes {
		nodes[i] = Node{Index: i + 1}
	}
	return nodes
}

// Node finds a node by its name.
func (c Cluster) Node(name string) (Node, error) {
	for _, n := range c.AllNodes() {
		if n.Name() == name {
			return n, nil
		}
	}
	return Node{}, fmt.Errorf("cluster %s has no node %q: it has node-1 to node-%d", c.Name, name, c.Nodes)
}

// NodeFile is a path below the node's own directory, which is its disk.
func (c Cluster) NodeFile(n Node, elem ...string) string {
	return c.File(append([]string{n.Name()}, elem...)...)
}

// Node is a machine of the cluster.
type Node struct {
	Index int // counted from 1
}

// Name is the node's host name and Kubernetes name.
func (n Node) Name() string { return fmt.Sprintf("node-%d", n.Index) }

// IP6 is the node's second InternalIP, in a dual-stack cluster.
func (n Node) IP6() netip.Addr { return netip.MustParseAddr(fmt.Sprintf("fd00:10:89::1%d", n.Index)) }

// IP is the node's InternalIP.
func (n Node) IP() netip.Addr { return netip.AddrFrom4([4]byte{10, 89, 0, byte(10 + n.Index)}) }
