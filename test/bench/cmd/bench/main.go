// Command bench compares the mesh with other proxies, and two versions of the mesh
// with each other: see docs/benchmarks.
package main

import (
	"os"

	"github.com/underlane/underlane/test/bench"
)

func main() { os.Exit(bench.Main(os.Args[1:])) }
