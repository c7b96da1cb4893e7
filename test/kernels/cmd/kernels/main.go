// Command kernels runs tests of the data path on other kernels: make test-kernels.
package main

import (
	"os"

	"github.com/underlane/underlane/test/kernels"
)

func main() { os.Exit(kernels.Main(os.Args[1:])) }
