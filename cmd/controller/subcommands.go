package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/underlane/underlane/internal/version"
	"github.com/underlane/underlane/pkg/controller"
	"github.com/underlane/underlane/pkg/mtls/ca"
)

func tokenCommand(opt *controller.Options) *cobra.Command {
	var node string
	cmd := &cobra.Command{
		Use:   "token --data-dir DIR --node NAME",
		Short: "Print the bootstrap token of a node's agent",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			authority, err := ca.Open(controller.AuthorityDir(opt.DataDir), opt.TrustDomain)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), authority.BootstrapToken(node))
			return err
		},
	}
	cmd.Flags().StringVar(&node, "node", "", "the node's name")
	_ = cmd.MarkFlagRequired("node")
	return cmd
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), version.Version)
			return err
		},
	}
}
