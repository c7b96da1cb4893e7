// Package layout says what a test cluster's parts are called and where they
// are: names, paths, addresses. It touches nothing.
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

// Addresses, the same in every cluster: each has networks of its own.
// IPv6 is for clusters of two stacks.
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

// Spec is what a cluster was asked to be.
type Spec struct {
	Name      string `json:"name"`
	Nodes     int    `json:"nodes"`
	ProxyMode string `json:"proxyMode"` // kube-proxy's: nftables or iptables
	DualStack bool   `json:"dualStack"` // IPv6 beside IPv4
	Cgroup    string `json:"cgroup"`    // what nodes show of cgroups: a Cgroup for each node, by commas, the last for the rest
}

// What a node shows of the machine's cgroup hierarchies.
const (
	CgroupMachine = "machine" // all, where the machine has them
	CgroupV1      = "v1"      // version 1 alone
	CgroupV2      = "v2"      // version 2 alone
)

// Cluster is a cluster's place on the machine.
type Cluster struct {
	Spec
	Base string // directory of all clusters' state
}

// validName has no dash: a dash ends the name in those of namespaces.
var validName = regexp.MustCompile(`^[a-z0-9]{1,20}$`)

// ValidName refuses names that would not do for files and namespaces.
func ValidName(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("cluster name %q: 1 to 20 lower-case letters and digits", name)
	}
	return nil
}

// Validate refuses what could not be built.
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

// CgroupOf is what the node shows of cgroups.
func (s Spec) CgroupOf(n Node) string {
	kinds := strings.Split(s.Cgroup, ",")
	return kinds[min(n.Index, len(kinds))-1]
}

// ServiceCIDR is the networks of Services' addresses, as flags take them.
func (s Spec) ServiceCIDR() string { return s.join(serviceCIDR4, serviceCIDR6) }

// PodCIDR is the networks of all pods' addresses, as flags take them.
func (s Spec) PodCIDR() string { return s.join(podCIDR4, podCIDR6) }

func (s Spec) join(v4, v6 string) string {
	if s.DualStack {
		return v4 + "," + v6
	}
	return v4
}

// Gateways are the control plane's addresses, by which nodes reach what they
// have no other route to. One for each family.
func (s Spec) Gateways() []netip.Addr {
	return s.families(netip.MustParseAddr(ControlPlaneIP), netip.MustParseAddr(ControlPlaneIP6))
}

// NodeIPs are the node's InternalIPs, one for each family.
func (s Spec) NodeIPs(n Node) []netip.Addr { return s.families(n.IP(), n.IP6()) }

func (s Spec) families(v4, v6 netip.Addr) []netip.Addr {
	if s.DualStack {
		return []netip.Addr{v4, v6}
	}
	return []netip.Addr{v4}
}

// PodCIDRs are the node's share of PodCIDR, one for each family.
func (s Spec) PodCIDRs(n Node) []netip.Prefix {
	v4 := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(n.Index), 0}), 24)
	if !s.DualStack {
		return []netip.Prefix{v4}
	}
	return []netip.Prefix{v4, netip.MustParsePrefix(fmt.Sprintf("fd00:10:244:%d::/64", n.Index))}
}

// Dir is the directory of everything the cluster keeps on disk.
func (c Cluster) Dir() string { return filepath.Join(c.Base, c.Name) }

// File is a path below Dir.
func (c Cluster) File(elem ...string) string {
	return filepath.Join(append([]string{c.Dir()}, elem...)...)
}

// Kubeconfig is the administrator's.
func (c Cluster) Kubeconfig() string { return c.File("kubeconfig") }

// Cgroup is the name of the cluster's directory in every cgroup hierarchy.
func (c Cluster) Cgroup() string { return "ulc-" + c.Name }

// NetnsPrefix begins the names of the cluster's network namespaces.
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

// NodeFile is a path below the node's own directory, its disk.
func (c Cluster) NodeFile(n Node, elem ...string) string {
	return c.File(append([]string{n.Name()}, elem...)...)
}

// Node is one machine of the cluster.
type Node struct {
	Index int // from 1
}

// Name is the node's host name and Kubernetes name.
func (n Node) Name() string { return fmt.Sprintf("node-%d", n.Index) }

// IP6 is the node's second InternalIP, in a cluster of two stacks.
func (n Node) IP6() netip.Addr { return netip.MustParseAddr(fmt.Sprintf("fd00:10:89::1%d", n.Index)) }

// IP is the node's InternalIP.
func (n Node) IP() netip.Addr { return netip.AddrFrom4([4]byte{10, 89, 0, byte(10 + n.Index)}) }
