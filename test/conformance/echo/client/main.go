// Command client is the client that the suite runs in a pod:
//
//	client http://echo/path --method=GET -H name:value --count=500
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"github.com/underlane/underlane/test/conformance/echo"
)

func main() {
	var call echo.Call
	pflag.StringVar(&call.Method, "method", "GET", "HTTP method")
	pflag.StringArrayVarP(&call.Header, "header", "H", nil, "name:value")
	pflag.IntVar(&call.Count, "count", 1, "how many requests, one after the other")
	pflag.Parse()
	call.URL = pflag.Arg(0)
	if err := call.Run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(1)
	}
}
