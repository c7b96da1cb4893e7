package node

import (
	"encoding/json"
	"net/netip"
	"strings"

	"github.com/underlane/underlane/test/cluster/layout"
)

// PauseImage is the image of the container that keeps a pod's namespaces.
const PauseImage = "registry.underlane.test/pause:dev"

// Paths on a node of the files that it is started with.
const (
	runDir           = "/run/node"
	confDir          = runDir + "/conf"
	kubernetesBin    = runDir + "/kubernetes/kubernetes"
	containerdDir    = runDir + "/containerd"
	containerdSocket = "/run/containerd/containerd.sock"
)

// containerdConfig returns containerd's config.toml. NRI is on by default. On a node
// without cgroup controllers (bare) containers get no limits.
func containerdConfig(bare bool) string {
	binary := runc
	if bare {
		binary = confDir + "/" + limitlessFile
	}
	return `version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.erofs",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.internal.v1.tracing",
]

[grpc]
  address = "/run/containerd/containerd.sock"

[plugins."io.containerd.grpc.v1.cri"]
  stream_server_address = "127.0.0.1"

[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "` + PauseImage + `"

[plugins."io.containerd.cri.v1.runtime"]
  # Lowering an OOM score needs CAP_SYS_RESOURCE.
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "` + confDir + `/cni"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      BinaryName = "` + binary + `"
      SystemdCgroup = false
`
}

// cniConfig returns a CNI configuration that gives each pod a veth pair, an address
// from each network and a route. It needs no bridge.
func cniConfig(cidrs []netip.Prefix) string {
	type object = map[string]any
	var ranges [][]object
	var routes []object
	for _, cidr := range cidrs {
		ranges = append(ranges, []object{{"subnet": cidr}})
		routes = append(routes, object{"dst": everywhere(cidr.Addr())})
	}
	ipam := object{"type": "host-local", "dataDir": "/run/cni-ipam", "ranges": ranges, "routes": routes}
	text, _ := json.MarshalIndent(object{ // cannot fail for plain values
		"cniVersion": "1.0.0",
		"name":       "pods",
		"plugins": []object{
			{"type": "ptp", "ipMasq": false, "mtu": 1500, "ipam": ipam},
			{"type": "portmap", "capabilities": object{"portMappings": true}},
		},
	}, "", "  ")
	return string(text) + "\n"
}

// everywhere returns the destination of the default route, of the address's family.
func everywhere(ip netip.Addr) netip.Prefix {
	if ip.Is6() {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

// kubeletConfig returns the kubelet's configuration file. On a node without cgroup
// controllers (bare) there are no cgroups for pods' QoS classes.
func kubeletConfig(n layout.Node, bare bool) string {
	qos := ""
	if bare {
		qos = "cgroupsPerQOS: false\nenforceNodeAllocatable: [none]\n"
	}
	return strings.NewReplacer("@conf", confDir, "@node", n.Name(), "@dns", layout.DNSServiceIP).Replace(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: @conf/ca.crt}
authorization: {mode: Webhook}
tlsCertFile: @conf/@node.crt
tlsPrivateKeyFile: @conf/@node.key
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
imageServiceEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
clusterDNS: [@dns]
clusterDomain: cluster.local
resolvConf: ""
volumePluginDir: /run/node/volume-plugins
# Detect the loss of a node in seconds, not in minutes.
nodeLeaseDurationSeconds: 8
nodeStatusUpdateFrequency: 5s
syncFrequency: 10s
# The disk belongs to the machine, so the cluster does not manage it.
evictionHard: {memory.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%"}
imageGCHighThresholdPercent: 100
localStorageCapacityIsolation: false
makeIPTablesUtilChains: false
`) + qos
}

// kubeProxyArgs returns kube-proxy's arguments. The conntrack limits belong to the
// machine and stay as they are.
func kubeProxyArgs(n layout.Node, s layout.Spec) []string {
	return []string{
		kubernetesBin, "kube-proxy",
		"--kubeconfig", confDir + "/kube-proxy.kubeconfig",
		"--hostname-override", n.Name(),
		"--proxy-mode", s.ProxyMode,
		"--cluster-cidr", s.PodCIDR(),
		"--conntrack-max-per-core", "0",
		"--conntrack-tcp-timeout-established", "0s",
		"--conntrack-tcp-timeout-close-wait", "0s",
	}
}

func kubeletArgs(n layout.Node, s layout.Spec) []string {
	var ips []string
	for _, ip := range s.NodeIPs(n) {
		ips = append(ips, ip.String())
	}
	return []string{
		kubernetesBin, "kubelet",
		"--config", confDir + "/kubelet.yaml",
		"--kubeconfig", confDir + "/" + n.Name() + ".kubeconfig",
		"--hostname-override", n.Name(),
		"--node-ip", strings.Join(ips, ","),
	}
}

// Ctr is the path of containerd's client on a node.
const Ctr = containerdDir + "/ctr"

func containerdArgs() []string {
	return []string{containerdDir + "/containerd", "--config", confDir + "/containerd.toml"}
}
