package issuer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/underlane/underlane/pkg/controller/apitest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls/ca"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	ns       = "underlane-system"
	domain   = "cluster.local"
	patience = 20 * time.Second
)

var web = mesh.Identity{TrustDomain: domain, Namespace: "shop", ServiceAccount: "web"}

// replica is one controller's Keeper.
type replica struct {
	*Keeper
	t         *testing.T
	authority *ca.Authority
}

func newKeeper(t *testing.T, client kubernetes.Interface, external bool) *replica {
	authority, err := ca.New(domain)
	if err != nil {
		t.Fatal(err)
	}
	k := New(Options{Client: client, Namespace: ns, Authority: authority, External: external, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	return &replica{Keeper: k, t: t, authority: authority}
}

// start runs a replica, and as the leader too if it leads.
func start(t *testing.T, s *apitest.Server, leads, external bool) *replica {
	r := newKeeper(t, s.Client(), external)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 2)
	run := func(f func(context.Context) error) {
		go func() {
			_ = f(ctx)
			done <- struct{}{}
		}()
	}
	run(r.Run)
	if leads {
		run(r.Lead)
	} else {
		done <- struct{}{}
	}
	t.Cleanup(func() { cancel(); <-done; <-done })
	return r
}

func (r *replica) until(what string, cond func() bool) {
	r.t.Helper()
	deadline := time.Now().Add(patience)
	for !cond() {
		if time.Now().After(deadline) {
			r.t.Fatalf("not within %s: %s; problem %q, %d anchors", patience, what, r.Problem(), len(r.authority.Anchors()))
		}
		time.Sleep(time.Millisecond)
	}
}

func (r *replica) waitReady() {
	r.t.Helper()
	select {
	case <-r.Ready():
	case <-time.After(patience):
		r.t.Fatal("no issuer:", r.Problem())
	}
}

func getSecret(t *testing.T, s *apitest.Server) *corev1.Secret {
	t.Helper()
	secret, err := s.Client().CoreV1().Secrets(ns).Get(t.Context(), SecretName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func configMap(s *apitest.Server) string {
	cm, err := s.Client().CoreV1().ConfigMaps(ns).Get(context.Background(), AnchorsName, metav1.GetOptions{})
	if err != nil {
		return ""
	}
	return cm.Data[AnchorsKey]
}

func put(t *testing.T, s *apitest.Server, secret *corev1.Secret) {
	t.Helper()
	secrets := s.Client().CoreV1().Secrets(ns)
	_, err := secrets.Get(t.Context(), SecretName, metav1.GetOptions{})
	if err != nil {
		_, err = secrets.Create(t.Context(), secret, metav1.CreateOptions{})
	} else {
		_, err = secrets.Update(t.Context(), secret, metav1.UpdateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// sign returns the chain of a certificate of r's authority.
func (r *replica) sign() []*x509.Certificate {
	r.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		r.t.Fatal(err)
	}
	ders, _, err := r.authority.SignWorkload(csr, web, time.Hour)
	if err != nil {
		r.t.Fatal(err)
	}
	var chain []*x509.Certificate
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			r.t.Fatal(err)
		}
		chain = append(chain, c)
	}
	return chain
}

// accepts verifies chain as an agent does.
func accepts(anchors, chain []*x509.Certificate) error {
	opts := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, c := range anchors {
		opts.Roots.AddCert(c)
	}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(opts)
	return err
}

func TestFirstLeaderMakesTheIssuerAndAllShareIt(t *testing.T) {
	s := apitest.New(t)
	follower := start(t, s, false, false)
	leader := start(t, s, true, false)
	leader.waitReady()
	follower.waitReady()
	if err := accepts(follower.authority.Anchors(), leader.sign()); err != nil {
		t.Error(err)
	}
	leader.until("ConfigMap", func() bool { return configMap(s) == string(leader.authority.AnchorsPEM()) })
	secret := getSecret(t, s)
	if secret.Type != corev1.SecretTypeTLS || !isOurs(secret) {
		t.Errorf("type %s, labels %v", secret.Type, secret.Labels)
	}
}

func TestTwoLeadersMakeOneIssuer(t *testing.T) {
	s := apitest.New(t)
	a, b := start(t, s, true, false), start(t, s, true, false)
	a.waitReady()
	b.waitReady()
	a.until("the same issuer", func() bool { return cmp.Equal(a.authority.IssuerID(), b.authority.IssuerID()) })
	a.until("the same bundle", func() bool { return cmp.Equal(a.authority.AnchorsPEM(), b.authority.AnchorsPEM()) })
}

// TestRotationLosesNobody: certificates from before and after are accepted by
// those who know the bundle from before and after.
func TestRotationLosesNobody(t *testing.T) {
	s := apitest.New(t)
	leader, follower := start(t, s, true, false), start(t, s, false, false)
	leader.waitReady()
	follower.waitReady()
	before, oldAnchors := leader.sign(), leader.authority.Anchors()
	if err := leader.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*replica{leader, follower} {
		r.until("two anchors", func() bool { return len(r.authority.Anchors()) == 2 })
		r.until("the new issuer", func() bool { return !r.authority.Anchors()[0].Equal(oldAnchors[0]) })
	}
	after := follower.sign()
	for name, err := range map[string]error{
		"old certificate, new bundle": accepts(follower.authority.Anchors(), before),
		"new certificate, new bundle": accepts(leader.authority.Anchors(), after),
		"new certificate, old bundle": accepts(oldAnchors, after),
	} {
		if err != nil {
			t.Error(name, err)
		}
	}
	leader.until("ConfigMap", func() bool { return strings.Count(configMap(s), "BEGIN CERT") == 2 })
}

// userCA is a root of the user's with an intermediate for the mesh.
func userCA(t *testing.T, name string) (secret *corev1.Secret, root *x509.Certificate) {
	t.Helper()
	make := func(cn string, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: cn}, IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		}
		if parent == nil {
			parent, parentKey = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c, key
	}
	root, rootKey := make(name+" root", nil, nil)
	intermediate, key := make(name+" issuer", root, rootKey)
	sec1, err := x509.MarshalECPrivateKey(key) // as step and cert-manager write it
	if err != nil {
		t.Fatal(err)
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: SecretName, Namespace: ns}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{
			"tls.crt": ca.EncodePEM(intermediate), "ca.crt": ca.EncodePEM(root),
			"tls.key": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1}),
		},
	}, root
}

func TestIssuerOfTheUsersOwn(t *testing.T) {
	s := apitest.New(t)
	leader := start(t, s, true, true)
	leader.until("it is said to be missing", func() bool { return strings.Contains(leader.Problem(), "there is no Secret") })
	secret, root := userCA(t, "mine")
	put(t, s, secret)
	leader.waitReady()
	chain := leader.sign()
	if len(chain) != 2 || accepts([]*x509.Certificate{root}, chain) != nil {
		t.Errorf("a chain of %d does not lead to the user's root: %v", len(chain), accepts([]*x509.Certificate{root}, chain))
	}
	if err := leader.Rotate(t.Context()); err == nil {
		t.Error("the user's issuer was rotated")
	}
	leader.until("ConfigMap", func() bool { return configMap(s) == string(ca.EncodePEM(root)) })
	if got := getSecret(t, s).Data; !cmp.Equal(got, secret.Data) {
		t.Error("the user's Secret was changed")
	}
}

func TestBrokenSecretKeepsTheOneBefore(t *testing.T) {
	s := apitest.New(t)
	good, _ := userCA(t, "good")
	put(t, s, good)
	leader := start(t, s, true, true)
	leader.waitReady()
	other, _ := userCA(t, "other")
	spoil := func(name string, value []byte) *corev1.Secret {
		bad := good.DeepCopy()
		bad.Data[name] = value
		return bad
	}
	for want, bad := range map[string]*corev1.Secret{
		"do not belong together": spoil("tls.key", other.Data["tls.key"]),
		"no private key":         spoil("tls.key", nil),
		"no certificate":         spoil("tls.crt", []byte("rubbish")),
		"ca.crt of Secret":       spoil("ca.crt", []byte("rubbish")),
	} {
		put(t, s, bad)
		leader.until(want, func() bool { return strings.Contains(leader.Problem(), want) })
		leader.sign() // still works
		put(t, s, good)
		leader.until("mended", func() bool { return leader.Problem() == "" })
	}
	wrongRoot := good.DeepCopy()
	wrongRoot.Data["ca.crt"] = other.Data["ca.crt"]
	fresh := start(t, func() *apitest.Server { s := apitest.New(t); put(t, s, wrongRoot); return s }(), true, true)
	fresh.until("an issuer under another root", func() bool { return strings.Contains(fresh.Problem(), "leads to none of the trust anchors") })
}

// TestForeignIssuerIsAnnouncedFirst: an issuer under a root that nobody knows
// is put to use when its anchor has been told for a while.
func TestForeignIssuerIsAnnouncedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, rootOne := userCA(t, "one")
		two, rootTwo := userCA(t, "two")
		r := newKeeper(t, nil, true)
		_ = r.anchors.Replace(nil, "")
		_ = r.secret.Replace([]any{one}, "")
		if wait := r.apply(time.Now()); wait != 0 {
			t.Fatal("the first issuer waits", wait)
		}
		first := r.authority.IssuerID()
		_ = r.secret.Update(two)
		if wait := r.apply(time.Now()); wait != announce {
			t.Fatalf("waits %s, want %s", wait, announce)
		}
		if !cmp.Equal(first, r.authority.IssuerID()) {
			t.Fatal("in use at once")
		}
		if diff := cmp.Diff(string(ca.EncodePEM(rootTwo, rootOne)), string(r.authority.AnchorsPEM())); diff != "" {
			t.Fatal(diff)
		}
		// The leader has written the ConfigMap meanwhile.
		_ = r.anchors.Add(&corev1.ConfigMap{Data: map[string]string{AnchorsKey: string(ca.EncodePEM(rootTwo, rootOne))}})
		time.Sleep(announce / 2)
		if wait := r.apply(time.Now()); wait != announce/2 {
			t.Fatalf("waits %s, want %s", wait, announce/2)
		}
		time.Sleep(announce / 2)
		if wait := r.apply(time.Now()); wait > 0 || cmp.Equal(first, r.authority.IssuerID()) {
			t.Fatal("not in use when announced", wait)
		}
		if err := accepts([]*x509.Certificate{rootTwo}, r.sign()); err != nil {
			t.Error(err)
		}
		if got := len(r.authority.Anchors()); got != 2 {
			t.Errorf("%d anchors, want the old one too", got)
		}
	})
}

func TestAnchorsLeaveWhenRemovedOrExpired(t *testing.T) {
	s := apitest.New(t)
	leader := start(t, s, true, false)
	leader.waitReady()
	if err := leader.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	leader.until("two", func() bool { return strings.Count(configMap(s), "BEGIN CERT") == 2 })
	// ca.crt of our Secret has the former root as well: an operator who wants
	// it gone removes it from both.
	secret := getSecret(t, s)
	issuer, _, err := parseSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	secret.Data["ca.crt"] = ca.EncodePEM(issuer.Cert())
	put(t, s, secret)
	// By then the leader must not put back what the Secret said before.
	leader.until("the Secret is known", func() bool {
		_, own, _, err := leader.read()
		return err == nil && len(own) == 1
	})
	cm, err := s.Client().CoreV1().ConfigMaps(ns).Get(t.Context(), AnchorsName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cm.Data[AnchorsKey] = string(ca.EncodePEM(issuer.Cert()))
	if _, err := s.Client().CoreV1().ConfigMaps(ns).Update(t.Context(), cm, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	leader.until("one", func() bool { return len(leader.authority.Anchors()) == 1 })

	_, root := userCA(t, "short")
	if got := bundle(root.NotAfter.Add(time.Second), issuer.Chain[:1], []*x509.Certificate{root}); len(got) != 1 {
		t.Errorf("%d anchors, one of them expired", len(got))
	}
}

func TestDueIssuerIsRotated(t *testing.T) {
	s := apitest.New(t)
	leader := start(t, s, true, false)
	leader.waitReady()
	first := leader.authority.IssuerID()
	tenYears := 10 * 365 * 24 * time.Hour
	if err := leader.look(t.Context(), time.Now().Add(tenYears/100*79)); err != nil {
		t.Fatal(err)
	}
	if !cmp.Equal(first, leader.authority.IssuerID()) {
		t.Fatal("rotated too early")
	}
	if err := leader.look(t.Context(), time.Now().Add(tenYears/100*81)); err != nil {
		t.Fatal(err)
	}
	leader.until("rotated", func() bool { return !cmp.Equal(first, leader.authority.IssuerID()) })
}
