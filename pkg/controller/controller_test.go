package controller

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/underlane/underlane/pkg/control/client"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls/ca"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/test/ports"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const shop = `
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {underlane.io/mesh: enabled}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec: {nodeName: node-1, serviceAccountName: web}
status: {podIP: 10.1.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {nodeName: node-2, serviceAccountName: db}
status: {podIP: 10.1.0.2}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: db}, ports: [{port: 3306}]}
`

var (
	dbVIP = netip.MustParseAddrPort("10.96.0.1:3306")
	idWeb = mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "web"}
	idDB  = mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "db"}
)

// plane is a running controller and what agents of it need.
type plane struct {
	*Controller
	t    *testing.T
	opt  Options
	log  *syncBuffer
	stop func()
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func start(t *testing.T, manifest string) *plane {
	p := &plane{t: t, log: &syncBuffer{}}
	p.opt = Options{
		Manifests: t.TempDir(), DataDir: filepath.Join(t.TempDir(), "data"), Listen: ports.Reserve(t).String(), MetricsAddr: "127.0.0.1:0",
		TrustDomain: "cluster.local", WorkloadLifetime: time.Hour, NodeLifetime: time.Hour,
		Log: slog.New(slog.NewTextHandler(p.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	p.write("shop.yaml", manifest)
	p.run()
	t.Cleanup(func() { p.stop() })
	return p
}

func (p *plane) run() {
	p.t.Helper()
	c, err := New(p.opt)
	if err != nil {
		p.t.Fatal(err)
	}
	p.Controller = c
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	p.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			p.t.Error("Run:", err)
		}
	})
}

// write replaces a manifest the way careful people do.
func (p *plane) write(name, text string) {
	p.t.Helper()
	path := filepath.Join(p.opt.Manifests, name)
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		p.t.Fatal(err)
	}
}

// agent runs a client for node with what an operator would give it: the token
// and the anchors file.
func (p *plane) agent(node string) (*client.Client, *state.Store) {
	p.t.Helper()
	authority, err := ca.Open(AuthorityDir(p.opt.DataDir), "cluster.local")
	if err != nil {
		p.t.Fatal(err)
	}
	store := state.NewStore(node)
	client := client.New(client.Options{
		Controller: p.Addr().String(), Node: node, Token: func() (string, error) { return authority.BootstrapToken(node), nil }, Store: store, Log: p.opt.Log,
		Anchors: func() ([]byte, error) { return os.ReadFile(filepath.Join(p.opt.DataDir, "anchors.pem")) },
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = client.Run(ctx)
	}()
	p.t.Cleanup(func() { cancel(); <-done })
	p.until(store, "connected", func(*state.View) bool { return client.Connected() })
	return client, store
}

func (p *plane) until(store *state.Store, what string, cond func(*state.View) bool) {
	p.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !cond(store.View()) {
		if time.Now().After(deadline) {
			p.t.Fatalf("not within 10 s: %s; log:\n%s", what, p.log)
		}
		time.Sleep(time.Millisecond)
	}
}

func (p *plane) get(path string) string {
	p.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + p.MetricsAddr().String() + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		p.t.Fatal(path, resp.Status, err)
	}
	return string(b)
}

func resolve(t *testing.T, c *client.Client, addr netip.Addr) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := c.Resolve(ctx, addr); err != nil {
		t.Fatal(err)
	}
}

func meshed(v *state.View, name string) bool {
	for _, w := range v.Local() {
		if w.Name == name {
			return w.Meshed
		}
	}
	return false
}

func TestFromManifestToAgent(t *testing.T) {
	p := start(t, shop)
	client, store := p.agent("node-1")
	resolve(t, client, dbVIP.Addr())
	v := store.View()
	if !v.Synced() || !meshed(v, "web") || len(v.Local()) != 1 {
		t.Errorf("local: %+v", v.Local())
	}
	_, port, ok := v.Service(dbVIP)
	if !ok || len(port.Endpoints) != 1 || port.Endpoints[0].Workload.Identity != idDB {
		t.Fatalf("db: %+v", port)
	}

	var took []time.Duration
	for i := range 6 {
		want := i%2 == 1
		label := map[bool]string{true: "enabled", false: "disabled"}[want]
		began := time.Now()
		p.write("shop.yaml", strings.Replace(shop, "underlane.io/mesh: enabled", "underlane.io/mesh: "+label, 1))
		p.until(store, "the label's change", func(v *state.View) bool { return meshed(v, "web") == want })
		took = append(took, time.Since(began))
	}
	t.Logf("from label to agent: %s", took)
	if m := slices.Min(took); m > 500*time.Millisecond { // the machine may be busy with something else
		t.Errorf("from label to agent: %s of %s", m, took)
	}
}

func TestAuthorityKnowsWhoRunsWhere(t *testing.T) {
	p := start(t, shop)
	client, _ := p.agent("node-1")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.SignWorkload(t.Context(), idWeb, csr); err != nil {
		t.Error(err)
	}
	if _, err := client.SignWorkload(t.Context(), idDB, csr); status.Code(err) != codes.PermissionDenied {
		t.Errorf("another node's identity: %v", err)
	}
	for _, line := range []string{
		"underlane_controller_connected_agents 1",
		`underlane_controller_certificates_total{kind="workload",result="signed"} 1`,
		`underlane_controller_certificates_total{kind="workload",result="refused"} 1`,
		`underlane_controller_certificates_total{kind="node",result="signed"} 1`,
		"underlane_controller_snapshot_version 1",
	} {
		if metrics := p.get("/metrics"); !strings.Contains(metrics, line+"\n") {
			t.Errorf("metrics lack %q", line)
		}
	}
}

func TestBrokenManifestIsReportedAndHarmless(t *testing.T) {
	p := start(t, shop)
	_, store := p.agent("node-1")
	p.write("shop.yaml", strings.Replace(shop, "serviceAccountName: web", "serviceAcountName: web", 1))
	p.until(store, "the problem", func(*state.View) bool { return len(p.Status().Manifests) == 1 })
	p.write("more.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: more, annotations: {underlane.io/policy: tight}}\nspec: {nodeName: node-1}\n")
	p.until(store, "another file", func(v *state.View) bool { return len(v.Local()) == 2 })
	if !meshed(store.View(), "web") {
		t.Error("the last good state is gone")
	}
	var st Status
	if err := json.Unmarshal([]byte(p.get("/status")), &st); err != nil {
		t.Fatal(err)
	}
	if len(st.Manifests) != 1 || st.Manifests[0].File != filepath.Join(p.opt.Manifests, "shop.yaml") ||
		st.Manifests[0].Line != 9 || !strings.Contains(st.Manifests[0].Reason, `unknown field "spec.serviceAcountName"`) {
		t.Errorf("manifest problems: %+v", st.Manifests)
	}
	if len(st.Objects) != 1 || st.Objects[0].Origin != filepath.Join(p.opt.Manifests, "more.yaml")+":1" {
		t.Errorf("object problems: %+v", st.Objects)
	}
	if metrics := p.get("/metrics"); !strings.Contains(metrics, `underlane_controller_problems{kind="manifest"} 1`) {
		t.Error("not in the metrics")
	}
	if log := p.log.String(); strings.Count(log, "broken manifest") != 1 || strings.Count(log, "something in an object is not understood") != 1 {
		t.Error("not logged once:", log)
	}
}

func TestRestartIsSurvived(t *testing.T) {
	p := start(t, shop)
	client, store := p.agent("node-1")
	resolve(t, client, dbVIP.Addr())
	before, _ := store.View().ServiceVIP(dbVIP.Addr())
	p.stop()
	p.until(store, "noticed", func(*state.View) bool { return !client.Connected() })
	resolve(t, client, dbVIP.Addr()) // what is known stays
	if !meshed(store.View(), "web") {
		t.Error("the state went with the controller")
	}
	p.write("new.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: new}\nspec: {nodeName: node-1}\n")
	p.run()
	p.until(store, "caught up", func(v *state.View) bool { return client.Connected() && len(v.Local()) == 2 })
	if after, _ := store.View().ServiceVIP(dbVIP.Addr()); after != before {
		t.Error("what did not change was sent again")
	}
}

func TestNewSaysWhatIsWrong(t *testing.T) {
	p := start(t, shop)
	for want, edit := range map[string]func(*Options){
		"address already in use":            func(o *Options) {},
		"listen for metrics":                func(o *Options) { o.Listen, o.MetricsAddr = "127.0.0.1:0", p.MetricsAddr().String() },
		"manifest directory":                func(o *Options) { o.Manifests += "x" },
		"a directory of --manifests":        func(o *Options) { o.Manifests = "" },
		"data directory":                    func(o *Options) { o.DataDir = filepath.Join(p.opt.Manifests, "shop.yaml") },
		"lifetimes of certificates must be": func(o *Options) { o.NodeLifetime = 0 },
	} {
		opt := p.opt
		edit(&opt)
		if c, err := New(opt); err == nil {
			c.Close()
			t.Errorf("%s: no error", want)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestRotatedRootIsTakenUp(t *testing.T) {
	p := start(t, shop)
	f := p.platform.(*files)
	if err := f.Rotate(); err != nil {
		t.Fatal(err)
	}
	_, store := p.agent("node-1")
	f.refresh()
	p.until(store, "two anchors", func(v *state.View) bool { return len(v.Anchors()) == 2 })
	pem, err := os.ReadFile(filepath.Join(p.opt.DataDir, "anchors.pem"))
	if n := strings.Count(string(pem), "BEGIN CERTIFICATE"); err != nil || n != 2 {
		t.Errorf("%d anchors in the file, %v", n, err)
	}
}
