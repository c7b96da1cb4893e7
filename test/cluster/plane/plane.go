// Package plane runs the control plane: etcd, the API server, the controller manager
// and the scheduler. Each is a process in its own cgroup, and all are in the control
// plane's network namespace.
package plane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/underlane/underlane/test/cluster/kernel"
	"github.com/underlane/underlane/test/cluster/layout"
	"github.com/underlane/underlane/test/cluster/pki"
	"github.com/underlane/underlane/test/lab/host"
)

// Part is a program of the control plane.
type Part string

// The parts, in the order in which they start.
const (
	Etcd              Part = "etcd"
	APIServer         Part = "kube-apiserver"
	ControllerManager Part = "kube-controller-manager"
	Scheduler         Part = "kube-scheduler"
)

// Parts lists the parts in the order in which they start.
var Parts = []Part{Etcd, APIServer, ControllerManager, Scheduler}

// Start starts the part from the multi-call binary.
func Start(c layout.Cluster, p Part, binary string) error {
	if err := os.MkdirAll(c.File("log"), 0o755); err != nil {
		return err
	}
	unified, err := kernel.Unified()
	if err != nil {
		return err
	}
	cgroup, err := unified.MakeCgroup(c.Cgroup() + "/" + string(p))
	if err != nil {
		return err
	}
	proc, err := kernel.Process{
		Argv:   append([]string{binary, string(p)}, args(c, p)...),
		Netns:  c.ControlPlaneNetns(),
		Cgroup: cgroup,
		Log:    c.File("log", string(p)+".log"),
	}.Start()
	if err != nil {
		return err
	}
	return proc.Release()
}

// Stop kills the part with SIGKILL. An API server that is asked to stop while etcd is
// gone would take minutes.
func Stop(c layout.Cluster, p Part) error {
	return kernel.RemoveCgroup(c.Cgroup() + "/" + string(p))
}

// Running reports whether the part has a process.
func Running(c layout.Cluster, p Part) bool {
	unified, err := kernel.Unified()
	return err == nil && len(kernel.CgroupProcs(filepath.Join(unified.Mount, c.Cgroup(), string(p)))) > 0
}

// WaitReady waits until the API server is ready.
func WaitReady(ctx context.Context, c layout.Cluster) error {
	client, err := client(c)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	last := errors.New("not asked yet")
	for ctx.Err() == nil {
		if last = ready(ctx, client); last == nil {
			return nil
		}
		if !Running(c, APIServer) {
			return fmt.Errorf("the API server died: see %s", c.File("log", string(APIServer)+".log"))
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("API server is not ready: %w (last answer: %w)", ctx.Err(), last)
}

func ready(ctx context.Context, client *http.Client) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, layout.APIServer+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("/readyz: %s", resp.Status)
	}
	return nil
}

// client returns a client that talks to the API server from the control plane's
// namespace.
func client(c layout.Cluster) (*http.Client, error) {
	ca, err := os.ReadFile(c.File("pki", pki.CA+".crt"))
	if err != nil {
		return nil, err
	}
	cert, err := tls.LoadX509KeyPair(c.File("pki", "admin.crt"), c.File("pki", "admin.key"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}},
		DialContext: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
			// The address is numeric, so the socket is made on this thread.
			err = host.InNetns(c.ControlPlaneNetns(), func() (err error) {
				conn, err = new(net.Dialer).DialContext(ctx, network, addr)
				return err
			})
			return conn, err
		},
	}}, nil
}
