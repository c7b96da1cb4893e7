//go:build nocluster

package main

import (
	"github.com/spf13/pflag"

	"github.com/underlane/underlane/pkg/controller"
)

// addCluster adds nothing: this controller works for manifests only.
func addCluster(*pflag.FlagSet, *controller.Options) {}
