package agent

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"

	"github.com/underlane/underlane/pkg/agent/nri"
	"github.com/underlane/underlane/pkg/l7proxy"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/redirect"
	"github.com/underlane/underlane/pkg/telemetry"
)

// Config configures an agent. Each field is a flag and, by the same name, a key of the
// config file. A flag on the command line overrides the file.
type Config struct {
	Node             string        // this node's name
	Controller       string        // host:port
	TrustDomain      string        // of the mesh
	TrustAnchors     string        // PEM file with the roots that the controller's certificate must chain to
	TokenFile        string        // the node's bootstrap token
	CgroupRoot       string        // cgroup v2 directory whose processes are hooked
	PinRoot          string        // bpffs directory of pins
	Socket           string        // node API
	APIAddr          string        // node API for the controller, over mutual TLS; "" for none
	NRISocket        string        // socket of the container runtime for plugins; "" for none
	MetricsAddr      string        // metrics and health; "" for none
	NodeIPs          []netip.Addr  // clients with these addresses are treated like processes of the node
	Proc             string        // proc file system of the host
	HeartbeatTimeout time.Duration // an agent without a heartbeat for this time counts as hung
	DrainTimeout     time.Duration // a stopping agent cuts the connections that are still open after this time
	TakeOver         bool          // take the node over from a running agent; false: refuse to run beside it
	Cleanup          bool          // remove programs and pins when the agent stops
	ObservePaths     bool          // read requests from connections of the kernel path
	KernelPath       bool          // let the kernel connect pods of this node where the proxy has nothing to decide
	KernelPathHTTP   bool          // also to ports that are not opaque
	// KernelPathRedirect has packets of kernel paths go past the host, from one pod's veth into
	// the other pod.
	KernelPathRedirect bool
	OpaqueStreams      l7proxy.OpaqueStreams
	// Confine, if set, is called when the agent has started: it takes from the process what
	// the agent does not need any more (confine.Process).
	Confine        func(unmounts bool) error
	PodConnections int  // l7proxy.Limits.PodConnections
	PodBuffer      int  // l7proxy.Limits.PodBuffer, in bytes
	PodMetrics     int  // telemetry.Options.MaxPods
	DNSNames       bool // redirect.Options.DNS: destinations outside the mesh have names from DNS
	// RedactHeaders names header fields whose values tap does not show (tap.NewRedaction).
	RedactHeaders []string
	LogLevel      string

	Observe ObserveConfig
}

// Flags declares c's fields with their defaults as flags in f, except for those that
// the node CLI shares (socket, pin-root, cgroup-root).
func (c *Config) Flags(f *pflag.FlagSet) {
	host, _ := os.Hostname()
	f.StringVar(&c.Node, "node", host, "name of this node")
	f.StringVar(&c.Controller, "controller", "underlane-controller.underlane-system.svc:8443", "address of the controller")
	f.StringVar(&c.TrustDomain, "trust-domain", mesh.DefaultTrustDomain, "trust domain of the mesh's identities")
	f.StringVar(&c.TrustAnchors, "trust-anchors", "/etc/underlane/anchors.pem", "PEM file of the mesh's trust anchors")
	f.StringVar(&c.TokenFile, "bootstrap-token-file", "/etc/underlane/token", "file with this node's bootstrap token")
	f.StringVar(&c.APIAddr, "api-addr", ":4193", "address where the controller, and nobody else, may call the node API; empty for none")
	f.StringVar(&c.NRISocket, "nri-socket", nri.DefaultSocket, "socket of the container runtime's NRI: pods are enrolled before they start; empty for none")
	f.StringVar(&c.MetricsAddr, "metrics-addr", telemetry.DefaultAddr, "address of metrics and health, empty for none")
	f.Var((*addrList)(&c.NodeIPs), "node-ip", "address that strict pods let in without an identity, where probes do not come from a process of this host (repeatable, comma-separated)")
	f.StringVar(&c.Proc, "proc", "/proc", "proc file system of the host")
	f.DurationVar(&c.HeartbeatTimeout, "heartbeat-timeout", 2*time.Second, "an agent silent for so long counts as hung: its pods fail open or closed")
	f.DurationVar(&c.DrainTimeout, "drain-timeout", 10*time.Second, "how long a stopping agent waits for open connections")
	f.BoolVar(&c.TakeOver, "take-over", false, "take the node over from an agent that runs, which ends then; without it a second agent refuses to start")
	f.BoolVar(&c.Cleanup, "cleanup", false, "remove all programs and pins when the agent stops")
	f.BoolVar(&c.ObservePaths, "observe-kernel-path", true, "show requests that connections of the kernel path carry, of HTTP in the clear, in tap and metrics")
	f.BoolVar(&c.KernelPath, "kernel-path", true, "let the kernel connect pods of this node to opaque ports of each other, where the proxy has nothing to decide")
	f.BoolVar(&c.KernelPathHTTP, "kernel-path-http", false, "let it connect them to other ports, too, where nothing is asked of requests: no routes, policies, limits, logs or traces; with traces (otlp-endpoint) it does not")
	f.BoolVar(&c.KernelPathRedirect, "kernel-path-redirect", true, "let packets of the kernel path go from one pod's veth into the other pod, past the host's bridge, routes and packet filters, where nothing there wants to see them (Linux 6.6)")
	c.OpaqueStreams = l7proxy.ManyStreams
	f.Var(&c.OpaqueStreams, "opaque-streams", "carry opaque connections between two pods of different nodes as streams of a shared connection, where they are opened often and carry little each; always: also where they are not, for tests")
	f.Lookup("opaque-streams").NoOptDefVal = l7proxy.ManyStreams.String()
	f.IntVar(&c.PodConnections, "pod-connections", l7proxy.DefaultPodConnections, "connections that a pod may have open to others, and as many that others may have open to it")
	f.IntVar(&c.PodBuffer, "pod-buffer", l7proxy.DefaultPodBuffer, "bytes of HTTP/2 bodies that may wait for their receivers before a pod's next request is refused, in each direction")
	f.IntVar(&c.PodMetrics, "pod-metrics", telemetry.DefaultMaxPods, "pods of this node that have metrics of their own (underlane_pod_...) at most; 0 for none")
	f.BoolVar(&c.DNSNames, "dns-names", true, "see the DNS answers that pods get, and show by these names destinations outside the mesh that have no other")
	c.Observe.flags(f)
	f.StringSliceVar(&c.RedactHeaders, "redact-headers", []string{"x-api-key", "x-auth-token"}, "header fields, besides Authorization, Proxy-Authorization, Cookie and Set-Cookie, whose values tap does not show; * for all")
	f.StringVar(&c.LogLevel, "log-level", "info", "debug, info, warn or error")
}

// ReadFile sets flags from the keys of a YAML file, except for flags that were set
// already.
func ReadFile(path string, f *pflag.FlagSet) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("config file: %w", err)
	}
	var keys map[string]any
	if err := yaml.UnmarshalStrict(text, &keys); err != nil {
		return fmt.Errorf("config file %s: %w", path, err)
	}
	for key, value := range keys {
		flag := f.Lookup(key)
		if flag == nil || key == "config" {
			return fmt.Errorf("config file %s: there is no setting %q: keys are named like the flags of `agent run`", path, key)
		}
		if flag.Changed {
			continue
		}
		if list, ok := value.([]any); ok {
			for _, v := range list {
				if err := f.Set(key, fmt.Sprint(v)); err != nil {
					return fmt.Errorf("config file %s: %s: %w", path, key, err)
				}
			}
			continue
		}
		if err := f.Set(key, fmt.Sprint(value)); err != nil {
			return fmt.Errorf("config file %s: %s: %w", path, key, err)
		}
	}
	return nil
}

// podCgroup is the directory below which the agent looks for pods. "" is the whole
// host; it is another one only if several nodes share a kernel.
func (c *Config) podCgroup() string {
	if c.CgroupRoot == redirect.AutoCgroup {
		return ""
	}
	return c.CgroupRoot
}

// token reads the bootstrap token from its file each time, because Kubernetes replaces
// a projected token before it expires.
func (c *Config) token() (string, error) {
	token, err := os.ReadFile(c.TokenFile)
	if err != nil {
		return "", fmt.Errorf("bootstrap token: %w: in a cluster it is a projected service account token; without, `controller token --node %s` prints one", err, c.Node)
	}
	return strings.TrimSpace(string(token)), nil
}

// addrList is a flag of IP addresses.
type addrList []netip.Addr

func (l *addrList) String() string { return fmt.Sprint([]netip.Addr(*l)) }
func (l *addrList) Type() string   { return "ip" }

func (l *addrList) Set(text string) error {
	for part := range strings.SplitSeq(text, ",") {
		a, err := netip.ParseAddr(strings.TrimSpace(part))
		if err != nil {
			return err
		}
		*l = append(*l, a.Unmap())
	}
	return nil
}
