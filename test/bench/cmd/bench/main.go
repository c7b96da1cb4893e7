// Command bench measures the mesh, other proxies, and two versions of the mesh
// against each other: see docs/benchmarks.
package main

import (
	"os"

	"github.com/underlane/underlane/test/bench"
)

func main() { os.Exit(bench.Main(os.Args[1:])) }
