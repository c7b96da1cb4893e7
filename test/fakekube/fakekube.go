// Package fakekube is the part of a Kubernetes API server that the aggregated tap
// API and its callers need. It authorises with a function, passes the user to the
// server behind it in headers, and authenticates there with a front-proxy
// certificate.
package fakekube

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
)

// Kube is a running API server.
type Kube struct {
	URL  string
	HTTP *http.Client // trusts the server's certificate
	// Allow decides a SubjectAccessReview.
	Allow func(authorizationv1.SubjectAccessReviewSpec) bool
	// Front, if set, may refuse a call before it is passed on. A result that is not
	// empty is the API server's message.
	Front func(user, path string) (refusal string)
	// Pods are the pods that can be read and listed.
	Pods []*corev1.Pod

	t       testing.TB
	ca      *x509.Certificate
	caKey   *ecdsa.PrivateKey
	backend http.Handler

	mu       sync.Mutex
	reviews  []authorizationv1.SubjectAccessReviewSpec
	caBundle []byte
	down     bool
}

// Start runs an API server until the end of the test. Everything is allowed.
func Start(t testing.TB) *Kube {
	t.Helper()
	k := &Kube{t: t, Allow: func(authorizationv1.SubjectAccessReviewSpec) bool { return true }}
	cert := k.certificate("front-proxy-ca", nil)
	k.ca, k.caKey = cert.Leaf, cert.PrivateKey.(*ecdsa.PrivateKey)
	// client-go sends no token without TLS.
	server := httptest.NewTLSServer(k.routes())
	k.URL, k.HTTP = server.URL, server.Client()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return k
}

// Client returns a client of k like the controller's.
func (k *Kube) Client() kubernetes.Interface {
	return kubernetes.NewForConfigOrDie(&rest.Config{
		Host: k.URL, BearerToken: "controller", TLSClientConfig: rest.TLSClientConfig{Insecure: true}, ContentConfig: rest.ContentConfig{ContentType: "application/json"},
	})
}

// Kubeconfig writes a kubeconfig file for a user and returns its path.
func (k *Kube) Kubeconfig(user, namespace string) string {
	k.t.Helper()
	path := filepath.Join(k.t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: c
clusters: [{name: c, cluster: {server: %q, insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: %q}}]
contexts: [{name: c, context: {cluster: c, user: u, namespace: %q}}]
`, k.URL, user, namespace)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		k.t.Fatal(err)
	}
	return path
}

// Serve makes k pass calls of the tap API on to addr.
func (k *Kube) Serve(addr string) {
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "https", Host: addr})
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{
		InsecureSkipVerify: true, Certificates: []tls.Certificate{k.FrontProxy("front-proxy-client")},
	}}
	proxy.Transport = transport
	k.t.Cleanup(transport.CloseIdleConnections)
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
		refuse(w, http.StatusServiceUnavailable, "ServiceUnavailable", "error trying to reach service: "+err.Error())
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.backend = proxy
}

// FrontProxy makes a front-proxy certificate with this common name.
func (k *Kube) FrontProxy(name string) tls.Certificate {
	return k.certificate(name, &tls.Certificate{Leaf: k.ca, PrivateKey: k.caKey})
}

// Reviews returns the SubjectAccessReviews so far.
func (k *Kube) Reviews() []authorizationv1.SubjectAccessReviewSpec {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]authorizationv1.SubjectAccessReviewSpec{}, k.reviews...)
}

// CABundle returns the CA bundle of the APIService.
func (k *Kube) CABundle() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return string(k.caBundle)
}

// Down(true) makes every answer an error, and Down(false) ends that.
func (k *Kube) Down(down bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = down
}

// FrontConfig returns the data of the ConfigMap that describes front-proxy
// authentication.
func (k *Kube) FrontConfig() map[string]string {
	return map[string]string{
		"requestheader-client-ca-file":       string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.ca.Raw})),
		"requestheader-allowed-names":        `["front-proxy-client"]`,
		"requestheader-username-headers":     `["X-Remote-User"]`,
		"requestheader-uid-headers":          `["X-Remote-Uid"]`,
		"requestheader-group-headers":        `["X-Remote-Group"]`,
		"requestheader-extra-headers-prefix": `["X-Remote-Extra-"]`,
	}
}

func (k *Kube) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, corev1.ConfigMap{TypeMeta: metav1.TypeMeta{Kind: "ConfigMap", APIVersion: "v1"}, Data: k.FrontConfig()})
	})
	mux.HandleFunc("POST /apis/authorization.k8s.io/v1/subjectaccessreviews", k.review)
	const apiService = "/apis/apiregistration.k8s.io/v1/apiservices/" + tapv1alpha1.APIService
	mux.HandleFunc("GET "+apiService, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"kind": "APIService", "spec": map[string]any{"caBundle": []byte(k.CABundle())}})
	})
	mux.HandleFunc("PATCH "+apiService, func(w http.ResponseWriter, r *http.Request) {
		var patch struct{ Spec struct{ CABundle []byte } }
		if json.NewDecoder(r.Body).Decode(&patch) == nil {
			k.mu.Lock()
			k.caBundle = patch.Spec.CABundle
			k.mu.Unlock()
		}
		answer(w, map[string]any{"kind": "APIService"})
	})
	mux.HandleFunc("GET /api/v1/namespaces/{namespace}/pods", k.listPods)
	mux.HandleFunc("GET /api/v1/namespaces/{namespace}/pods/{name}", k.getPod)
	mux.HandleFunc(tapv1alpha1.Prefix, k.proxy)
	mux.HandleFunc(tapv1alpha1.Prefix+"/", k.proxy)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k.mu.Lock()
		down := k.down
		k.mu.Unlock()
		if down {
			refuse(w, http.StatusServiceUnavailable, "ServiceUnavailable", "the server is currently unable to handle the request")
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (k *Kube) review(w http.ResponseWriter, r *http.Request) {
	var review authorizationv1.SubjectAccessReview
	data, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(data, &review)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, "BadRequest", err.Error())
		return
	}
	k.mu.Lock()
	k.reviews = append(k.reviews, review.Spec)
	k.mu.Unlock()
	review.Status.Allowed = k.Allow(review.Spec)
	answer(w, review)
}

// proxy passes a call on in the user's name. The user's token is that name.
func (k *Kube) proxy(w http.ResponseWriter, r *http.Request) {
	user := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if as := r.Header.Get("Impersonate-User"); as != "" {
		user = as
	}
	if k.Front != nil {
		if text := k.Front(user, r.URL.Path); text != "" {
			refuse(w, http.StatusForbidden, "Forbidden", text)
			return
		}
	}
	k.mu.Lock()
	backend := k.backend
	k.mu.Unlock()
	if backend == nil {
		refuse(w, http.StatusServiceUnavailable, "ServiceUnavailable", "the server is currently unable to handle the request")
		return
	}
	r.Header.Del("Authorization")
	r.Header.Set("X-Remote-User", user)
	r.Header.Set("X-Remote-Group", "system:authenticated")
	backend.ServeHTTP(w, r)
}

func (k *Kube) listPods(w http.ResponseWriter, r *http.Request) {
	list := corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}}
	label, value, _ := strings.Cut(r.URL.Query().Get("labelSelector"), "=")
	for _, p := range k.Pods {
		if p.Namespace == r.PathValue("namespace") && (label == "" || p.Labels[label] == value) {
			list.Items = append(list.Items, *p)
		}
	}
	answer(w, list)
}

func (k *Kube) getPod(w http.ResponseWriter, r *http.Request) {
	for _, p := range k.Pods {
		if p.Namespace == r.PathValue("namespace") && p.Name == r.PathValue("name") {
			answer(w, p)
			return
		}
	}
	refuse(w, http.StatusNotFound, "NotFound", fmt.Sprintf("pods %q not found", r.PathValue("name")))
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}

func refuse(w http.ResponseWriter, code int, reason, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure,
		Code: int32(code), Reason: metav1.StatusReason(reason), Message: text,
	})
}

// certificate makes a certificate signed by the CA by, or a CA if by is nil.
func (k *Kube) certificate(name string, by *tls.Certificate) tls.Certificate {
	k.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		k.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	parent, signer := template, any(key)
	if by == nil {
		template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	} else {
		parent, signer = by.Leaf, by.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		k.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		k.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}
