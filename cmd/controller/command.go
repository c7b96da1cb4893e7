package main

import (
	"log/slog"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"github.com/underlane/underlane/pkg/controller"
	"github.com/underlane/underlane/pkg/controller/tapapi"
	"github.com/underlane/underlane/pkg/mesh"
)

func command() *cobra.Command {
	var opt controller.Options
	level := slog.LevelInfo
	root := &cobra.Command{
		Use:   "controller",
		Short: "Underlane's control plane",
		Long: "Underlane's control plane. In a pod it works for its cluster; with --kubeconfig for that cluster;\n" +
			"with --manifests for the objects in a directory, without any cluster.",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opt.Log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
			klog.SetSlogLogger(opt.Log.With("from", "client-go"))
			c, err := controller.New(opt)
			if err != nil {
				return err
			}
			return c.Run(cmd.Context())
		},
	}
	f := root.Flags()
	f.StringVar(&opt.Manifests, "manifests", "", "work without a cluster: directory of Kubernetes manifests, read and then watched")
	f.StringVar(&opt.Cluster.Kubeconfig, "kubeconfig", "", "file that says where the API server is (default: that of the pod's service account)")
	f.StringVar(&opt.Cluster.Namespace, "namespace", "", "namespace of controller and agents (default: the pod's own, else underlane-system)")
	f.BoolVar(&opt.Cluster.LeaderElection, "leader-election", true, "of several replicas let one write, chosen by a Lease; false: this one writes")
	f.BoolVar(&opt.Cluster.ExternalIssuer, "identity-external-issuer", false, "the Secret underlane-identity-issuer is brought by somebody else: never make, rotate or change it")
	f.StringVar(&opt.Listen, "listen", controller.DefaultListen, "address that agents connect to")
	f.StringVar(&opt.Cluster.TapAddr, "tap-addr", tapapi.DefaultAddr, "address where the API server passes on calls of underlane tap and its like; empty for none")
	f.StringVar(&opt.MetricsAddr, "metrics-addr", controller.DefaultMetricsAddr, "address of /metrics, /status and /healthz; empty for none")
	f.DurationVar(&opt.WorkloadLifetime, "workload-cert-lifetime", controller.DefaultWorkloadLifetime, "lifetime of workload certificates")
	f.DurationVar(&opt.NodeLifetime, "node-cert-lifetime", controller.DefaultNodeLifetime, "lifetime of node certificates")
	f.TextVar(&level, "log-level", level, "debug, info, warn or error")
	p := root.PersistentFlags()
	p.StringVar(&opt.DataDir, "data-dir", controller.DefaultDataDir, "with --manifests: directory of the CA's keys and of anchors.pem, the trust bundle for agents")
	p.StringVar(&opt.TrustDomain, "trust-domain", mesh.DefaultTrustDomain, "SPIFFE trust domain of the mesh")
	root.AddCommand(tokenCommand(&opt), versionCommand())
	return root
}
