// Command underlane installs, checks and watches the mesh of a Kubernetes
// cluster. Called kubectl-underlane it is a plugin of kubectl.
package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/underlane/underlane/pkg/cli"
	"github.com/underlane/underlane/pkg/cli/cluster"
)

func main() {
	display := "underlane"
	// kubectl finds plugins by their name: kubectl-underlane, or kubectl-underlane.exe.
	if strings.HasPrefix(filepath.Base(os.Args[0]), "kubectl-") {
		display = "kubectl underlane"
	}
	os.Exit(cli.Execute(cluster.Command(display)))
}
