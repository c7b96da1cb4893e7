// Command server is the suite's echo server. It takes the flags in the suite's
// manifests, which are those of Istio's server.
package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"

	"github.com/spf13/pflag"

	"github.com/underlane/underlane/test/conformance/echo"
)

func main() {
	ports := pflag.IntSlice("port", []int{8080}, "HTTP/1 and HTTP/2")
	encrypted := pflag.IntSlice("tls", nil, "those of them with TLS")
	calls := pflag.IntSlice("grpc", []int{7070}, "gRPC")
	streams := pflag.IntSlice("tcp", nil, "bytes, sent back")
	pflag.String("crt", "", "ignored: a certificate is made at the start")
	pflag.String("key", "", "ignored")
	pflag.Parse()

	if err := run(*ports, *encrypted, *calls, *streams); err != nil {
		slog.Error("echo server", "error", err)
		os.Exit(1)
	}
}

// run serves until one of the servers fails.
func run(ports, encrypted, calls, streams []int) error {
	hostname, err := os.Hostname() // a pod's name
	if err != nil {
		return err
	}
	cert, err := echo.SelfSigned(hostname)
	if err != nil {
		return err
	}
	web := echo.NewHTTPServer(echo.HTTP(hostname))
	web.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}

	failed := make(chan error)
	serve := func(port int, serve func(net.Listener) error) {
		failed <- func() error {
			l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
			if err != nil {
				return err
			}
			return serve(l)
		}()
	}
	for _, port := range ports {
		if slices.Contains(encrypted, port) {
			go serve(port, func(l net.Listener) error { return web.ServeTLS(l, "", "") })
		} else {
			go serve(port, web.Serve)
		}
	}
	for _, port := range calls {
		go serve(port, echo.NewGRPCServer(hostname).Serve)
	}
	for _, port := range streams {
		go serve(port, echo.ServeTCP)
	}
	return <-failed
}
