// Package work lists the loads of the benchmark: what the clients send, over how
// many connections, and where the servers listen.
package work

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Mode is the protocol of a connection.
type Mode string

// The modes.
const (
	HTTP1    Mode = "h1"     // keep-alive, one request at a time per connection
	HTTP1New Mode = "h1new"  // a connection for each request
	HTTP2    Mode = "h2"     // GET with a response of 1 KiB
	GRPC     Mode = "grpc"   // unary calls
	Stream   Mode = "stream" // messages back and forth on gRPC streams that stay open
	Bulk     Mode = "bulk"   // opaque bytes to the server
	Echo     Mode = "echo"   // opaque bytes back and forth
)

// Sizes in bytes. A gRPC message also has its prefix.
const (
	Body    = 1024
	Message = 128
)

// Proto is the protocol that a proxy is configured for.
type Proto string

// The protos.
const (
	ProtoHTTP1 Proto = "http1"
	ProtoHTTP2 Proto = "http2"
	ProtoTCP   Proto = "tcp"
)

// Port is a port of the servers.
type Port struct {
	Number uint16
	Name   string
	Mode   Mode
	Proto  Proto
}

// Ports are the ports of a server, one for each thing that servers do.
var Ports = []Port{
	{8080, "http", HTTP1, ProtoHTTP1},
	{8081, "h2", HTTP2, ProtoHTTP2},
	{8082, "grpc", GRPC, ProtoHTTP2},
	{8083, "stream", Stream, ProtoHTTP2},
	{8084, "echo", Echo, ProtoTCP},
	{8085, "sink", Bulk, ProtoTCP},
	{8086, "opaque-http", HTTP1, ProtoTCP},
	{8087, "opaque-echo", Echo, ProtoTCP},
}

// Work is a kind of load.
type Work struct {
	Name    string
	Title   string // for headings
	Mode    Mode
	Conns   int
	Streams int // concurrent streams on a connection; 1 for protocols without streams
	// PortName names the port of the servers. The pods' annotations make those of which the
	// names begin with "opaque" opaque.
	PortName string
}

// Works has all loads that are measured, in this order.
var Works = []Work{
	{"http1-1", "HTTP/1.1 keep-alive, 1 KiB, one request at a time", HTTP1, 1, 1, "http"},
	{"http1-16", "HTTP/1.1 keep-alive, 1 KiB, 16 connections", HTTP1, 16, 1, "http"},
	{"http1-64", "HTTP/1.1 keep-alive, 1 KiB, 64 connections", HTTP1, 64, 1, "http"},
	{"http1-256", "HTTP/1.1 keep-alive, 1 KiB, 256 connections", HTTP1, 256, 1, "http"},
	{"http1-512", "HTTP/1.1 keep-alive, 1 KiB, 512 connections", HTTP1, 512, 1, "http"},
	{"http1-new", "HTTP/1.1, a connection for each request", HTTP1New, 16, 1, "http"},
	{"http2", "HTTP/2, 1 KiB, 4 connections of 32 streams", HTTP2, 4, 32, "h2"},
	{"grpc", "gRPC unary, 128 B, 4 connections of 32 streams", GRPC, 4, 32, "grpc"},
	{"grpc-1", "gRPC unary, 128 B, one call at a time", GRPC, 1, 1, "grpc"},
	{"grpc-stream", "gRPC streaming, 128 B messages, 4 connections of 32 streams", Stream, 4, 32, "stream"},
	{"tcp-1", "opaque TCP, 1 stream", Bulk, 1, 1, "sink"},
	{"tcp-64", "opaque TCP, 64 streams", Bulk, 64, 1, "sink"},
	{"ping-pong", "opaque TCP, 1 byte to and fro", Echo, 1, 1, "echo"},
	{"opaque-16", "1 KiB on an opaque port, 16 connections", HTTP1, 16, 1, "opaque-http"},
	{"opaque-new", "1 KiB on an opaque port, a connection for each", HTTP1New, 16, 1, "opaque-http"},
	{"opaque-ping-pong", "1 byte to and fro on an opaque port", Echo, 1, 1, "opaque-echo"},
}

// Port returns the port of the servers for this work.
func (w Work) Port() Port {
	i := slices.IndexFunc(Ports, func(p Port) bool { return p.Name == w.PortName })
	return Ports[i]
}

// Settles reports whether a mesh may carry the work's connections in another way than the
// first one to the port: none of that is measured.
func (w Work) Settles() bool { return strings.HasPrefix(w.PortName, "opaque") }

// Volume reports whether the work is measured in bytes and not in requests.
func (w Work) Volume() bool { return w.Mode == Bulk }

// Alone reports whether there is one request at a time. Its latencies are then those of the
// requests that follow each other.
func (w Work) Alone() bool { return !w.Volume() && w.Conns*w.Streams == 1 }

// Paced reports whether the work can run at a given rate. Its latencies are then
// measured at that rate, unless it is Alone.
func (w Work) Paced() bool { return w.Mode != Bulk && w.Mode != Echo }

// Select returns the works whose complete name matches a pattern, or all if the
// pattern is empty.
func Select(pattern string) ([]Work, error) {
	if pattern == "" {
		return Works, nil
	}
	re, err := regexp.Compile("^(?:" + pattern + ")$")
	if err != nil {
		return nil, fmt.Errorf("which work: %w", err)
	}
	var out []Work
	for _, w := range Works {
		if re.MatchString(w.Name) {
			out = append(out, w)
		}
	}
	if out == nil {
		return nil, fmt.Errorf("no work is named %s: there are %v", pattern, Names())
	}
	return out, nil
}

// Names returns the names of all works.
func Names() []string {
	var out []string
	for _, w := range Works {
		out = append(out, w.Name)
	}
	return out
}
