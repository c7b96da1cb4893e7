// Command renderchart writes underlane.yaml: what the chart renders to with its
// default values, as `underlane install --ignore-cluster` prints it. Run by go
// generate in daemonset.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/underlane/underlane/pkg/cli/cluster"
	"github.com/underlane/underlane/pkg/cli/cluster/chart"
	"github.com/underlane/underlane/pkg/cli/cluster/installation"
)

const header = `# Generated from chart/underlane by "make generate": do not edit.
# kubectl apply -f underlane.yaml
`

func main() {
	objects, err := chart.Render(context.Background(), installation.DefaultNamespace, cluster.InstallDefaults())
	if err == nil {
		err = os.WriteFile("underlane.yaml", append([]byte(header), chart.YAML(objects)...), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "renderchart:", err)
		os.Exit(1)
	}
}
