package main

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// proxied is the client that a PROXY header names: the one of the load balancer.
const proxied = "192.0.2.77"

// asked is what ask prints: how many answers each application gave, and the first of them.
type asked struct {
	Names map[string]int
	First seen
}

// ask makes requests of one kind to an ingress, and prints what answers.
func ask(args []string) error {
	flags := flag.NewFlagSet("ask", flag.ContinueOnError)
	kind := flags.String("kind", "http1", "http1, http2, tls, grpc, websocket, proxy1, proxy2 or proxytls")
	n := flags.Int("n", 1, "number of requests")
	host := flags.String("host", "shop.example", "authority of the requests")
	limit := flags.Duration("limit", time.Minute, "for all of them")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), *limit)
	defer cancel()
	out := asked{Names: map[string]int{}}
	var err error
	switch addr := flags.Arg(0); *kind {
	case "grpc":
		err = out.call(ctx, addr, *host, *n)
	case "websocket":
		var c net.Conn
		if c, err = new(net.Dialer).DialContext(ctx, "tcp", addr); err != nil {
			return err
		}
		defer c.Close()
		deadline, _ := ctx.Deadline()
		_ = c.SetDeadline(deadline)
		err = askWebSocket(ctx, *host, c)
	default:
		err = out.get(ctx, *kind, addr, *host, *n)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

// get makes n requests on four connections.
func (a *asked) get(ctx context.Context, kind, addr, host string, n int) error {
	const connections = 4
	scheme := "http"
	transport := &http.Transport{
		MaxConnsPerHost: connections, MaxIdleConnsPerHost: connections, Protocols: new(http.Protocols),
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // the test's certificate is its own
	}
	transport.Protocols.SetHTTP1(true)
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		switch {
		case err != nil:
		case kind == "proxy1", kind == "proxy2":
			_, err = c.Write(proxyHeader(kind))
		case kind == "proxytls":
			c = &prefixed{c, proxyHeader(kind)}
		}
		return c, err
	}
	switch kind {
	case "tls", "proxytls":
		scheme = "https"
	case "http2":
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetUnencryptedHTTP2(true)
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	var mu sync.Mutex
	return together(connections, n, func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+host+"/", nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %.200s: %w", resp.Status, body, err)
		}
		var s seen
		if err := json.Unmarshal(body, &s); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if len(a.Names) == 0 {
			a.First = s
		}
		a.Names[s.Name]++
		return nil
	})
}

// prefixed is a connection whose first write sends some bytes before its own.
type prefixed struct {
	net.Conn
	first []byte
}

func (p *prefixed) Write(b []byte) (int, error) {
	n, err := p.Conn.Write(append(p.first, b...))
	n = max(0, n-len(p.first))
	p.first = nil
	return n, err
}

// call makes n calls of gRPC on one connection.
func (a *asked) call(ctx context.Context, addr, host string, n int) error {
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority(host),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})))
	if err != nil {
		return err
	}
	defer conn.Close()
	var mu sync.Mutex
	return together(4, n, func() error {
		var in, name []byte
		if err := conn.Invoke(ctx, "/test.Edge/Name", &in, &name); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		a.Names[string(name)]++
		return nil
	})
}

// together runs f n times, in so many goroutines.
func together(goroutines, n int, f func() error) error {
	errs := make([]error, goroutines)
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := g; i < n && errs[g] == nil; i += goroutines {
				errs[g] = f()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// proxyHeader is the header of the PROXY protocol by which a load balancer names its client.
func proxyHeader(version string) []byte {
	from, to := netip.MustParseAddrPort(proxied+":40000"), netip.MustParseAddrPort("192.0.2.1:80")
	if version == "proxy1" {
		return fmt.Appendf(nil, "PROXY TCP4 %s %s %d %d\r\n", from.Addr(), to.Addr(), from.Port(), to.Port())
	}
	out := []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c")
	out = append(append(out, from.Addr().AsSlice()...), to.Addr().AsSlice()...)
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(out, from.Port()), to.Port())
}
