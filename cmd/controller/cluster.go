//go:build !nocluster

package main

import (
	"github.com/spf13/pflag"

	"github.com/underlane/underlane/pkg/controller"
	"github.com/underlane/underlane/pkg/controller/cluster"
	"github.com/underlane/underlane/pkg/controller/history"
	"github.com/underlane/underlane/pkg/controller/tapapi"
)

// addCluster adds the flags that describe a cluster to f, and makes opt open that
// cluster. The build tag nocluster leaves it out, and client-go with it, which would
// be half of what `make demo` compiles.
func addCluster(f *pflag.FlagSet, opt *controller.Options) {
	var c cluster.Options
	f.StringVar(&c.Kubeconfig, "kubeconfig", "", "file that says where the API server is (default: that of the pod's service account)")
	f.StringVar(&c.Namespace, "namespace", "", "namespace of controller and agents (default: the pod's own, else underlane-system)")
	f.BoolVar(&c.LeaderElection, "leader-election", true, "of several replicas let one write, chosen by a Lease; false: this one writes")
	f.BoolVar(&c.ExternalIssuer, "identity-external-issuer", false, "the Secret underlane-identity-issuer is brought by somebody else: never make, rotate or change it")
	f.StringVar(&c.TapAddr, "tap-addr", tapapi.DefaultAddr, "address where the API server passes on calls of underlane tap and its like; empty for none")
	f.IntVar(&c.HistoryBytes, "history-bytes", history.DefaultBytes, "memory for what is remembered of the mesh's traffic, for 24 hours if it fits; 0 remembers nothing")
	f.StringVar(&c.HistoryFile, "history-file", "", "file on a volume that keeps this memory when the controller restarts; several replicas may share it")
	opt.Cluster = c.Open
}
