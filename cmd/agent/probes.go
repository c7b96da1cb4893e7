package main

import (
	"context"

	"github.com/underlane/underlane/pkg/cli/check"
	"github.com/underlane/underlane/pkg/cli/node"
	"github.com/underlane/underlane/pkg/redirect"
)

func kernelProbes(f *node.Flags) []check.Probe {
	needed := probes(redirect.KernelProbes(f.CgroupRoot, f.PinRoot), func(err error) error { return err })
	return append(needed, probes(redirect.OptionalProbes(), check.Warn)...)
}

func pinProbes(f *node.Flags) []check.Probe {
	return probes(redirect.PinProbes(f.PinRoot), func(err error) error { return err })
}

// probes makes checks of probes. as says whether an error is a failure or a warning.
func probes(list []redirect.Probe, as func(error) error) []check.Probe {
	out := make([]check.Probe, 0, len(list))
	for _, p := range list {
		out = append(out, check.Probe{Name: p.Name, Hint: p.Hint, Run: func(context.Context) error { return as(p.Run()) }})
	}
	return out
}
