package main

import (
	"log/slog"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"github.com/underlane/underlane/pkg/controller"
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
	addCluster(f, &opt)
	f.StringVar(&opt.Listen, "listen", controller.DefaultListen, "address that agents connect to")
	f.StringVar(&opt.MetricsAddr, "metrics-addr", controller.DefaultMetricsAddr, "address of /metrics, /status and /healthz; empty for none")
	f.DurationVar(&opt.WorkloadLifetime, "workload-cert-lifetime", controller.DefaultWorkloadLifetime, "lifetime of workload certificates")
	f.DurationVar(&opt.NodeLifetime, "node-cert-lifetime", controller.DefaultNodeLifetime, "lifetime of node certificates")
	f.StringVar(&opt.DefaultPolicy, "default-policy", "allow", "who may connect to a pod's ports that no policy and no annotation says something of: allow, strict, or a mode such as all-authenticated, cluster-authenticated, deny")
	f.StringSliceVar(&opt.ClusterNetworks, "cluster-networks", nil, "CIDRs of the cluster, for the modes cluster-authenticated and cluster-unauthenticated, and for EgressNetworks without networks (default: the private address ranges)")
	f.StringVar(&opt.IstioRootNamespace, "istio-root-namespace", "istio-system", "namespace whose policies of Istio are for all namespaces")
	f.StringVar(&opt.ExtensionProviders, "extension-providers", "", "external authorizers for Istio's policies with the action CUSTOM: extensionProviders of its MeshConfig, as JSON or YAML")
	f.TextVar(&level, "log-level", level, "debug, info, warn or error")
	p := root.PersistentFlags()
	p.StringVar(&opt.DataDir, "data-dir", controller.DefaultDataDir, "with --manifests: directory of the CA's keys and of anchors.pem, the trust bundle for agents")
	p.StringVar(&opt.TrustDomain, "trust-domain", mesh.DefaultTrustDomain, "SPIFFE trust domain of the mesh")
	root.AddCommand(tokenCommand(&opt), versionCommand())
	return root
}
