package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/underlane/underlane/test/cluster/addon"
	"github.com/underlane/underlane/test/cluster/component"
	"github.com/underlane/underlane/test/cluster/kernel"
	"github.com/underlane/underlane/test/cluster/layout"
	"github.com/underlane/underlane/test/cluster/node"
	"github.com/underlane/underlane/test/cluster/pki"
	"github.com/underlane/underlane/test/cluster/plane"
	"github.com/underlane/underlane/test/lab/host"
)

func upCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Bring the cluster up, or what of it is down; builds what was never built",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 30*time.Minute)
			defer cancel()
			return o.up(ctx)
		},
	}
	cmd.Flags().IntVar(&o.spec.Nodes, "nodes", 2, "how many nodes")
	cmd.Flags().StringVar(&o.spec.ProxyMode, "proxy-mode", "nftables", "kube-proxy's mode: nftables or iptables")
	cmd.Flags().BoolVar(&o.spec.DualStack, "dual-stack", false, "IPv6 beside IPv4: pods have two addresses (and start a second later)")
	cmd.Flags().StringVar(&o.spec.Cgroup, "cgroup", layout.CgroupMachine, "what nodes show of cgroups: all that the machine has, or v1 or v2 alone; v1,v2 is one for each node")
	return cmd
}

func (o *options) up(ctx context.Context) error {
	if err := o.spec.Validate(); err != nil {
		return err
	}
	if err := o.lock(); err != nil {
		return err
	}
	bin, err := o.build()
	if err != nil {
		return err
	}
	if err := o.clusterImages(); err != nil {
		return err
	}
	c := layout.Cluster{Spec: o.spec, Base: o.base}
	began := time.Now()
	running, err := layout.Load(o.base, o.spec.Name)
	alive := err == nil && plane.Running(c, plane.Etcd)
	switch {
	case alive && running != c.Spec:
		return fmt.Errorf("cluster %s is up with other options (%+v): cluster down first", c.Name, running)
	case !alive:
		if err := clearAll(c); err != nil {
			return fmt.Errorf("clear the remains of an earlier cluster: %w", err)
		}
		if err := o.create(c); err != nil {
			return err
		}
	}
	if err := o.start(ctx, c, bin); err != nil {
		return err
	}
	o.say("cluster %s is up after %s", c.Name, time.Since(began).Round(100*time.Millisecond))
	fmt.Println(c.Kubeconfig())
	return nil
}

// create makes what lasts as long as the cluster: keys and the network.
func (o *options) create(c layout.Cluster) error {
	if err := c.Save(); err != nil {
		return err
	}
	if err := pki.Write(c.File("pki"), c.AllNodes()); err != nil {
		return fmt.Errorf("make keys: %w", err)
	}
	admin, err := os.ReadFile(c.File("pki", "admin.kubeconfig"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.Kubeconfig(), admin, 0o600); err != nil {
		return err
	}
	return node.Fabric(c)
}

// start starts all parts that are not running, and waits until all are ready.
func (o *options) start(ctx context.Context, c layout.Cluster, bin node.Binaries) error {
	binary := filepath.Join(bin.Kubernetes, "kubernetes")
	loaded := make(chan error, 1)
	// Nodes start first. The kubelet retries until the API server answers, and images
	// are imported meanwhile.
	if err := o.startNodes(c, bin); err != nil {
		return err
	}
	go func() { loaded <- o.loadAll(ctx, c) }()
	for _, p := range plane.Parts {
		if plane.Running(c, p) {
			continue
		}
		if err := plane.Start(c, p, binary); err != nil {
			return err
		}
		if p != plane.APIServer {
			continue
		}
		// The parts after the API server exit if their roles do not exist yet.
		if err := plane.WaitReady(ctx, c); err != nil {
			return err
		}
		o.say("API server is ready")
	}
	if err := o.apply(c, bin, addon.DNS+"---\n"+nodeObjects(c)); err != nil {
		return fmt.Errorf("register nodes and install DNS: %w", err)
	}
	if err := <-loaded; err != nil {
		return err
	}
	o.say("images are loaded")
	if err := o.waitNodes(c, bin); err != nil {
		return err
	}
	o.say("nodes are ready")
	if _, err := o.kubectl(c, bin, "", "-n", "kube-system", "rollout", "status", "deploy/coredns", "--timeout=2m"); err != nil {
		return fmt.Errorf("DNS is not ready: %w", err)
	}
	return nil
}

// loadAll imports all existing images.
func (o *options) loadAll(ctx context.Context, c layout.Cluster) error {
	tars, err := o.imageTars()
	if err != nil {
		return err
	}
	for _, n := range c.AllNodes() {
		if err := node.WaitRuntime(ctx, c, n); err != nil {
			return err
		}
	}
	return load(c, tars)
}

// startNodes starts the nodes that are down, after removing what is left of them.
func (o *options) startNodes(c layout.Cluster, bin node.Binaries) error {
	var down []layout.Node
	for _, n := range c.AllNodes() {
		pid, err := node.Pid(c, n)
		if err != nil {
			return err
		}
		if pid != 0 {
			continue
		}
		if err := node.Remove(c, n); err != nil {
			return err
		}
		down = append(down, n)
	}
	for _, n := range down {
		if err := node.Start(c, n, bin); err != nil {
			return err
		}
	}
	return nil
}

func (o *options) build() (node.Binaries, error) {
	cache, err := component.Cache()
	if err != nil {
		return node.Binaries{}, err
	}
	var bin node.Binaries
	if bin.Kubernetes, err = component.Kubernetes.Build(o.components(), cache, o.out); err != nil {
		return bin, err
	}
	bin.Containerd, err = component.Containerd.Build(o.components(), cache, o.out)
	return bin, err
}

func downCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Take the cluster away; nothing is left of it",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := o.lock(); err != nil {
				return err
			}
			c := layout.Cluster{Spec: o.spec, Base: o.base}
			if err := clearAll(c); err != nil {
				return err
			}
			return os.Remove(filepath.Join(o.base, c.Name+".lock"))
		},
	}
}

// clearAll removes everything of a cluster from the machine. It works after a crash
// and on a running cluster. It is no error if something does not exist. Mounts and BPF
// pins are in the nodes' mount namespaces and end with them.
func clearAll(c layout.Cluster) error {
	err := kernel.RemoveCgroup(c.Cgroup())
	for _, path := range host.NetnsWithPrefix(layout.NetnsDir, c.NetnsPrefix()) {
		err = errors.Join(err, host.DropNetns(path))
	}
	return errors.Join(err, c.Remove())
}

func buildCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "build [NAME...]",
		Short: "Build Kubernetes, containerd and CoreDNS, or the components named, unless they are there",
		RunE: func(_ *cobra.Command, names []string) error {
			cache, err := component.Cache()
			if err != nil {
				return err
			}
			chosen := component.All
			if len(names) > 0 {
				chosen = slices.DeleteFunc(slices.Concat(component.All, component.Asked),
					func(c component.Component) bool { return !slices.Contains(names, c.Name) })
			}
			if len(chosen) < len(names) {
				return fmt.Errorf("no component is called so: %v", names)
			}
			for _, c := range chosen {
				dir, err := c.Build(o.components(), cache, o.out)
				if err != nil {
					return err
				}
				fmt.Println(dir)
			}
			return nil
		},
	}
}
