package cluster

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	authv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/control/client"
	"github.com/underlane/underlane/pkg/controller"
	"github.com/underlane/underlane/pkg/controller/agentauth"
	"github.com/underlane/underlane/pkg/controller/apitest"
	"github.com/underlane/underlane/pkg/controller/issuer"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var idWeb = mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "web"}

const (
	patience  = 20 * time.Second
	agentUser = "system:serviceaccount:underlane-system:underlane-agent"
)

// kube is an API server that knows tokens by their node: "….NODE".
type kube struct {
	*apitest.Server
	t *testing.T
}

func newKube(t *testing.T) *kube {
	s := apitest.New(t)
	s.Review(func(token string, audiences []string) authv1.TokenReviewStatus {
		_, node, _ := strings.Cut(token, "node-")
		return authv1.TokenReviewStatus{
			Authenticated: node != "", Audiences: audiences,
			User: authv1.UserInfo{Username: agentUser, Extra: map[string]authv1.ExtraValue{"authentication.kubernetes.io/node-name": {"node-" + node}}},
		}
	})
	k := &kube{Server: s, t: t}
	k.pod("web", "node-1", "10.1.0.1", mesh.LabelEnabled)
	return k
}

// token is what the kubelet would mount into the agent of node.
func token(node string) string {
	payload, _ := json.Marshal(map[string]any{"sub": agentUser, "aud": agentauth.Audience})
	return "e30." + base64.RawURLEncoding.EncodeToString(payload) + "." + node
}

func (k *kube) pod(name, node, ip, mesh string) {
	k.t.Helper()
	_, err := k.Client().CoreV1().Pods("shop").Create(k.t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"underlane.io/mesh": mesh}},
		Spec:       corev1.PodSpec{NodeName: node, ServiceAccountName: name}, Status: corev1.PodStatus{PodIP: ip},
	}, metav1.CreateOptions{})
	if err != nil {
		k.t.Fatal(err)
	}
}

// replica is a running controller of a cluster.
type replica struct {
	*controller.Controller
	cluster *cluster
	t       *testing.T
	stop    func()
}

func (k *kube) replica(edit ...func(*controller.Options, *Options)) *replica {
	k.t.Helper()
	r := &replica{t: k.t}
	in := &Options{REST: k.Config(), Namespace: "underlane-system", LeaderElection: true}
	opt := controller.Options{
		Cluster: func(opt controller.Options) (controller.Platform, error) {
			var err error
			r.cluster, err = in.open(opt)
			return r.cluster, err
		},
		Listen: "127.0.0.1:0", MetricsAddr: "127.0.0.1:0", TrustDomain: "cluster.local", WorkloadLifetime: time.Hour, NodeLifetime: time.Hour,
		Log: slog.New(slog.NewTextHandler(k.t.Output(), nil)),
	}
	for _, e := range edit {
		e(&opt, in)
	}
	c, err := controller.New(opt)
	if err != nil {
		k.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	r.Controller = c
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			k.t.Error("Run:", err)
		}
	})
	k.t.Cleanup(r.stop)
	return r
}

// meshed reports whether a pod of the store's own node has the label.
func meshed(store *state.Store, name string) bool {
	return slices.ContainsFunc(store.View().Local(), func(w *mesh.Workload) bool { return w.Name == name && w.Meshed })
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(time.Millisecond)
	}
}

func (r *replica) waitServing() {
	r.t.Helper()
	eventually(r.t, "serving", func() bool { return r.Status().Serving })
}

// bundle is what the ConfigMap gives to agents.
func (k *kube) bundle() []byte {
	cm, err := k.Client().CoreV1().ConfigMaps("underlane-system").Get(context.Background(), issuer.AnchorsName, metav1.GetOptions{})
	if err != nil {
		return nil
	}
	return []byte(cm.Data[issuer.AnchorsKey])
}

// agent runs a client of r.
func (k *kube) agent(r *replica, node, token string) (*client.Client, *state.Store) {
	k.t.Helper()
	eventually(k.t, "trust bundle", func() bool { return len(k.bundle()) > 0 })
	store := state.NewStore(node)
	client := client.New(client.Options{
		Controller: r.Addr().String(), Node: node, Token: func() (string, error) { return token, nil }, Store: store,
		Log: slog.New(slog.DiscardHandler), Anchors: func() ([]byte, error) { return k.bundle(), nil },
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = client.Run(ctx)
	}()
	k.t.Cleanup(func() { cancel(); <-done })
	return client, store
}

func TestClusterEndToEnd(t *testing.T) {
	k := newKube(t)
	r := k.replica()
	r.waitServing()
	client, store := k.agent(r, "node-1", token("node-1"))
	eventually(t, "its pod", func() bool { return meshed(store, "web") })
	if _, err := client.SignWorkload(t.Context(), idWeb, second(newRequest(t))); err != nil {
		t.Error(err)
	}
	client.ReportPods([]control.PodStatus{{UID: store.View().Local()[0].UID, State: "enrolled", PreMesh: 2}})
	pods := k.Client().CoreV1().Pods("shop")
	eventually(t, "the annotation", func() bool {
		p, err := pods.Get(t.Context(), "web", metav1.GetOptions{})
		return err == nil && p.Annotations[mesh.AnnotationStatus] == "enrolled; 2 connections predate it"
	})

	var took []time.Duration
	for i := range 6 {
		value := []string{mesh.LabelDisabled, mesh.LabelEnabled}[i%2]
		p, err := pods.Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		p.Labels[mesh.LabelMesh] = value
		start := time.Now()
		if _, err := pods.Update(t.Context(), p, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "label "+value, func() bool { return meshed(store, "web") == (value == mesh.LabelEnabled) })
		took = append(took, time.Since(start))
	}
	t.Logf("from label to agent: %s", took)
	if m := slices.Min(took); m > 500*time.Millisecond { // the machine may be busy with something else
		t.Errorf("from label to agent: %s of %s", m, took)
	}
}

// TestAPIServerAway: what is known is served on, and a label that changed
// meanwhile takes effect when it is back.
func TestAPIServerAway(t *testing.T) {
	k := newKube(t)
	r := k.replica(func(_ *controller.Options, o *Options) { o.LeaderElection = false })
	r.waitServing()
	client, store := k.agent(r, "node-1", token("node-1"))
	eventually(t, "its pod", func() bool { return meshed(store, "web") })
	k.Stop()
	eventually(t, "noticed", func() bool { return len(r.Status().Manifests) > 0 })
	if _, err := client.SignWorkload(t.Context(), idWeb, second(newRequest(t))); err != nil || !client.Connected() {
		t.Error("no certificates while the API server is away:", err)
	}
	k.Start()
	k.pod("late", "node-1", "10.1.0.2", mesh.LabelEnabled)
	eventually(t, "caught up", func() bool { return meshed(store, "late") && len(r.Status().Manifests) == 0 })
}

// TestNodeThatIsGoneIsNotRenewed: who has taken a node's certificate keeps it
// for its life only, once the node is deleted.
func TestNodeThatIsGoneIsNotRenewed(t *testing.T) {
	k := newKube(t)
	nodes := k.Client().CoreV1().Nodes()
	if _, err := nodes.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	r := k.replica(func(o *controller.Options, _ *Options) { o.NodeLifetime = 2 * time.Second })
	r.waitServing()
	client, _ := k.agent(r, "node-1", token("node-1"))
	eventually(t, "connected", client.Connected)
	eventually(t, "renewed", func() bool { return r.nodeCertificates("signed") > 1 })
	if n := r.nodeCertificates("refused"); n != 0 {
		t.Errorf("%d refused", n)
	}
	if err := nodes.Delete(t.Context(), "node-1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "refused", func() bool { return r.nodeCertificates("refused") > 0 })
}

// TestReplicasShareOneIssuer: what one signs the other accepts, and an agent
// that changes replicas is sent nothing again.
func TestReplicasShareOneIssuer(t *testing.T) {
	k := newKube(t)
	a, b := k.replica(), k.replica()
	a.waitServing()
	b.waitServing()
	_, one := k.agent(a, "node-1", token("node-1"))
	_, two := k.agent(b, "node-1", token("node-1"))
	eventually(t, "both", func() bool { return meshed(one, "web") && meshed(two, "web") })
	if !bytes.Equal(a.cluster.issuer.IssuerID(), b.cluster.issuer.IssuerID()) {
		t.Error("two issuers")
	}
	eventually(t, "one leads", func() bool { return a.cluster.lease.leading.Load() || b.cluster.lease.leading.Load() })
	if a.cluster.lease.leading.Load() && b.cluster.lease.leading.Load() {
		t.Error("both lead")
	}
	versions := one.Versions()
	for name, version := range two.Versions() {
		if versions[name] != version {
			t.Errorf("%s has other versions at the two", name)
		}
	}
}

// nodeCertificates is what the metrics say of requests for nodes' certificates.
func (r *replica) nodeCertificates(result string) int {
	r.t.Helper()
	_, rest, found := strings.Cut(scrape(r.t, r), `underlane_controller_certificates_total{kind="node",result="`+result+`"} `)
	text, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.Atoi(text)
	if !found || err != nil {
		r.t.Fatalf("metrics: %s certificates of nodes: got %q, want a number", result, text)
	}
	return n
}

func (k *kube) holder() string {
	lease, err := k.Client().CoordinationV1().Leases("underlane-system").Get(context.Background(), leaseName, metav1.GetOptions{})
	if err != nil {
		return ""
	}
	return holderOf(lease)
}

func holderOf(l *coordinationv1.Lease) string {
	if l.Spec.HolderIdentity == nil {
		return ""
	}
	return *l.Spec.HolderIdentity
}

func TestLeaderHandsOver(t *testing.T) {
	k := newKube(t)
	a := k.replica()
	a.waitServing()
	eventually(t, "a leads", a.cluster.lease.leading.Load)
	led := k.holder()
	b := k.replica()
	b.waitServing()
	if b.cluster.lease.leading.Load() {
		t.Fatal("both lead")
	}
	a.stop()
	if h := k.holder(); h == led {
		t.Error("the lease was not released: held by", h)
	}
	start := time.Now()
	eventually(t, "b leads", b.cluster.lease.leading.Load)
	if took := time.Since(start); took > leaseDuration {
		t.Errorf("took %s, as if the leader had died", took)
	}
}

// TestNothingWithoutCredentials: what a hostile pod gets from the port that
// agents use.
func TestNothingWithoutCredentials(t *testing.T) {
	k := newKube(t)
	r := k.replica()
	r.waitServing()
	good, _ := k.agent(r, "node-1", token("node-1"))
	eventually(t, "connected", good.Connected)
	for name, token := range map[string]string{
		"no token":                "",
		"rubbish":                 "rubbish",
		"another node's token":    token("node-2"),
		"an unknown token":        token("forged"),
		"a token of a pod's own":  strings.Replace(token("node-1"), ".", ".x", 1),
		"token for the API alone": "e30." + base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"sub":%q,"aud":"https://kubernetes.default.svc"}`, agentUser)) + ".node-1",
	} {
		client, store := k.agent(r, "node-1", token)
		eventually(t, name+" refused", func() bool { return client.Status().LastError != "" })
		if client.Connected() || store.View().Synced() {
			t.Error(name, "got in")
		}
		if _, err := client.SignWorkload(t.Context(), idWeb, second(newRequest(t))); err == nil {
			t.Error(name, "got a certificate")
		}
	}
	// A pod that got hold of a workload's certificate is no node; plain HTTP is
	// nothing at all.
	key, csr := newRequest(t)
	chain, err := good.SignWorkload(t.Context(), idWeb, csr)
	if err != nil {
		t.Fatal(err)
	}
	workload := tls.Certificate{Certificate: chain.Chain, PrivateKey: key}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(k.bundle())
	for name, certs := range map[string][]tls.Certificate{"no certificate": nil, "a workload's certificate": {workload}} {
		http2 := new(http.Protocols)
		http2.SetHTTP2(true)
		web := &http.Client{Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: control.ServerName, Certificates: certs}, Protocols: http2, DisableKeepAlives: true,
		}}
		for _, method := range []string{"Sync", "SignWorkload", "Renew"} {
			u := url.URL{Scheme: "https", Host: r.Addr().String(), Path: "/underlane.control.v1.Control/" + method}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, u.String(), bytes.NewReader(make([]byte, 5)))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/grpc")
			req.Header.Set("TE", "trailers")
			resp, err := web.Do(req)
			if err != nil {
				t.Fatal(name, method, err)
			}
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			code := resp.Header.Get("Grpc-Status") + resp.Trailer.Get("Grpc-Status")
			if len(body) > 0 || code != "16" && code != "7" { // Unauthenticated, PermissionDenied
				t.Errorf("%s, %s: status %q, %d bytes", name, method, code, len(body))
			}
		}
	}
	if resp, err := http.Get("http://" + r.Addr().String() + "/"); err == nil {
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			t.Error("plain HTTP is served")
		}
	}
}

func TestNotReadyUntilThereIsAnIssuer(t *testing.T) {
	k := newKube(t)
	r := k.replica(func(_ *controller.Options, o *Options) { o.ExternalIssuer = true })
	ready := func() (int, string) {
		resp, err := http.Get("http://" + r.MetricsAddr().String() + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	eventually(t, "the reason", func() bool {
		code, body := ready()
		return code == http.StatusServiceUnavailable && strings.Contains(body, "there is no Secret")
	})
	if metrics := scrape(t, r); !strings.Contains(metrics, "underlane_controller_leading") {
		t.Error("no metrics while waiting")
	}
	http.DefaultClient.CloseIdleConnections()
}

func newRequest(t *testing.T) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return key, csr
}

func second[A, B any](_ A, b B) B { return b }

func scrape(t *testing.T, r *replica) string {
	t.Helper()
	web := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := web.Get("http://" + r.MetricsAddr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
