// Package full measures the control plane with a real API server and etcd, a real controller,
// and thousands of agents' ends of its streams: make scale-full, docs/scale.md.
package full

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/underlane/underlane/test/ports"
)

const adminToken = "scale-admin"

// plane is an API server and its etcd, on loopback.
type plane struct {
	t          testing.TB
	dir        string
	binary     string // etcd and the parts of Kubernetes, by the first argument
	etcd       string // URL
	api        string // URL
	kubeconfig string
	key        *ecdsa.PrivateKey // of service accounts' tokens
	client     kubernetes.Interface
}

// kubernetesBinary returns the newest that `bin/cluster build` has made.
func kubernetesBinary() (string, error) {
	cache := os.Getenv("UNDERLANE_CACHE")
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		cache = filepath.Join(dir, "underlane")
	}
	found, err := filepath.Glob(filepath.Join(cache, "cluster", "kubernetes-*", "kubernetes"))
	if err != nil || len(found) == 0 {
		return "", errors.New("there is no Kubernetes in the cache: run bin/cluster build")
	}
	return found[len(found)-1], nil
}

// newPlane starts etcd; load fills it. startAPI starts the API server.
func newPlane(t testing.TB) *plane {
	binary, err := kubernetesBinary()
	if err != nil {
		t.Fatal(err)
	}
	p := &plane{t: t, dir: t.TempDir(), binary: binary}
	if p.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	p.etcd, p.api = "http://"+ports.Reserve(t).String(), "https://"+ports.Reserve(t).String()
	peer := "http://" + ports.Reserve(t).String()
	p.start("etcd", p.binary, "etcd", "--data-dir="+filepath.Join(p.dir, "etcd"), "--unsafe-no-fsync", "--max-txn-ops=1000",
		"--listen-client-urls="+p.etcd, "--advertise-client-urls="+p.etcd, "--listen-peer-urls="+peer,
		"--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer, "--log-level=warn", "--quota-backend-bytes=6000000000")
	return p
}

func (p *plane) startAPI(ctx context.Context) {
	private, public, tokens := p.file("sa.key"), p.file("sa.pub"), p.file("tokens.csv")
	pkcs8, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		p.t.Fatal(err)
	}
	pkix, err := x509.MarshalPKIXPublicKey(&p.key.PublicKey)
	if err != nil {
		p.t.Fatal(err)
	}
	p.write(private, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	p.write(public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix}))
	p.write(tokens, []byte(adminToken+",admin,1,system:masters\n"))
	port := p.api[len("https://127.0.0.1:"):]
	server := p.start("kube-apiserver", p.binary, "kube-apiserver", "--etcd-servers="+p.etcd, "--bind-address=127.0.0.1", "--secure-port="+port,
		"--cert-dir="+p.file("certs"), "--token-auth-file="+tokens, "--authorization-mode=AlwaysAllow", "--service-cluster-ip-range=10.96.0.0/12",
		"--service-account-key-file="+public, "--service-account-signing-key-file="+private, "--service-account-issuer="+tokenIssuer,
		"--disable-admission-plugins=ServiceAccount", "--max-requests-inflight=2000", "--max-mutating-requests-inflight=1000")
	cfg := &rest.Config{Host: p.api, BearerToken: adminToken, TLSClientConfig: rest.TLSClientConfig{Insecure: true}, QPS: -1}
	if p.client, err = kubernetes.NewForConfig(cfg); err != nil {
		p.t.Fatal(err)
	}
	for {
		_, err := p.client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		if err == nil {
			break
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-server.done:
			log, _ := os.ReadFile(p.file("kube-apiserver.log"))
			p.t.Fatalf("the API server has ended: %v: %s", err, log[max(0, len(log)-1000):])
		case <-ctx.Done():
			p.t.Fatalf("the API server is not ready: %v", err)
		}
	}
	p.kubeconfig = p.file("kubeconfig")
	p.write(p.kubeconfig, fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: %q, insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: %q}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`, p.api, adminToken))
}

func (p *plane) file(name string) string { return filepath.Join(p.dir, name) }

func (p *plane) write(path string, content []byte) {
	if err := os.WriteFile(path, content, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// process is a program that the test has started.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// start starts a program that lives until the end of the test, or until kill.
func (p *plane) start(name, binary string, args ...string) *process {
	p.t.Helper()
	return p.startWith(nil, name, binary, args...)
}

// startWith is start with more variables of the environment.
func (p *plane) startWith(env []string, name, binary string, args ...string) *process {
	p.t.Helper()
	log, err := os.OpenFile(p.file(name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(binary, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	out := &process{cmd, make(chan struct{})}
	go func() { defer close(out.done); _ = cmd.Wait() }()
	p.t.Cleanup(out.kill)
	return out
}

func (c *process) kill() {
	_ = c.cmd.Process.Kill()
	<-c.done
}
