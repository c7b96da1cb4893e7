package tapapi

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/underlane/underlane/pkg/mtls/certchain"
)

// The ConfigMap in which an API server publishes, for the servers behind it, the CA
// of its client certificate and the names of the headers that carry the user.
const (
	frontNamespace = "kube-system"
	frontConfigMap = "extension-apiserver-authentication"
)

// front is the content of the ConfigMap. Immutable.
type front struct {
	roots         *x509.CertPool
	names         []string // common names of the front proxy's certificate; empty: any
	user, uid     []string // headers; the first that is present counts
	group         []string // headers; all count
	extraPrefixes []string
}

func parseFront(data map[string]string) (*front, error) {
	f := &front{roots: x509.NewCertPool()}
	if !f.roots.AppendCertsFromPEM([]byte(data["requestheader-client-ca-file"])) {
		return nil, errors.New("it has no requestheader-client-ca-file: the aggregation layer of the API server is not set up (--requestheader-client-ca-file and its like)")
	}
	for key, list := range map[string]*[]string{
		"requestheader-allowed-names":        &f.names,
		"requestheader-username-headers":     &f.user,
		"requestheader-uid-headers":          &f.uid,
		"requestheader-group-headers":        &f.group,
		"requestheader-extra-headers-prefix": &f.extraPrefixes,
	} {
		if text := data[key]; text != "" {
			if err := json.Unmarshal([]byte(text), list); err != nil {
				return nil, fmt.Errorf("%s: %w", key, err)
			}
		}
	}
	if len(f.user) == 0 {
		return nil, errors.New("it names no header for the user (requestheader-username-headers)")
	}
	return f, nil
}

// user is the user that the front proxy names.
type user struct {
	name, uid string
	groups    []string
	extra     map[string]authorizationv1.ExtraValue
}

// authenticate reads the user from a request over the front proxy's TLS connection.
// It does not trust the headers of any other client.
func (f *front) authenticate(r *http.Request) (user, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return user{}, errors.New("no client certificate: this API is reached through the API server")
	}
	if err := certchain.Verify(r.TLS.PeerCertificates, x509.VerifyOptions{
		Roots: f.roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil {
		return user{}, fmt.Errorf("the client certificate is not the API server's: %w", err)
	}
	leaf := r.TLS.PeerCertificates[0]
	if len(f.names) > 0 && !slices.Contains(f.names, leaf.Subject.CommonName) {
		return user{}, fmt.Errorf("the client certificate of %q is none that may name users (%q)", leaf.Subject.CommonName, f.names)
	}
	u := user{name: firstHeader(r.Header, f.user), uid: firstHeader(r.Header, f.uid)}
	if u.name == "" {
		return user{}, errors.New("the API server names no user")
	}
	for _, h := range f.group {
		u.groups = append(u.groups, r.Header.Values(h)...)
	}
	u.extra = f.extraOf(r.Header)
	return u, nil
}

func firstHeader(h http.Header, names []string) string {
	for _, name := range names {
		if v := h.Get(name); v != "" {
			return v
		}
	}
	return ""
}

func (f *front) extraOf(h http.Header) map[string]authorizationv1.ExtraValue {
	extra := map[string]authorizationv1.ExtraValue{}
	for name, values := range h {
		for _, prefix := range f.extraPrefixes {
			if len(name) <= len(prefix) || !strings.EqualFold(name[:len(prefix)], prefix) {
				continue
			}
			key := strings.ToLower(name[len(prefix):])
			if plain, err := url.PathUnescape(key); err == nil {
				key = plain
			}
			extra[key] = append(extra[key], values...)
		}
	}
	return extra
}

// frontSource keeps a front that is at most frontAge old. When a request fails the
// check, the source reads the ConfigMap again, because the API server may have a
// new CA. It does so at most once in frontRetry.
type frontSource struct {
	client kubernetes.Interface

	mu    sync.Mutex
	front *front
	err   error
	read  time.Time
}

const (
	frontAge   = time.Minute
	frontRetry = 2 * time.Second
)

func (s *frontSource) authenticate(r *http.Request) (user, error) {
	f, err := s.get(r.Context(), frontAge)
	if err != nil {
		return user{}, err
	}
	u, err := f.authenticate(r)
	if err == nil {
		return u, nil
	}
	newer, getErr := s.get(r.Context(), frontRetry)
	if getErr != nil || newer == f {
		return user{}, err
	}
	return newer.authenticate(r)
}

// get reads the ConfigMap when the front is older than age. The old front stays in
// use while the API server does not answer.
func (s *frontSource) get(ctx context.Context, age time.Duration) (*front, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.read) >= age || s.front == nil && time.Since(s.read) >= frontRetry {
		s.read = time.Now()
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		f, err := s.fetch(ctx)
		if s.err = err; err == nil {
			s.front = f
		}
	}
	if s.front == nil {
		return nil, s.err
	}
	return s.front, nil
}

func (s *frontSource) fetch(ctx context.Context) (*front, error) {
	cm, err := s.client.CoreV1().ConfigMaps(frontNamespace).Get(ctx, frontConfigMap, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read how the API server makes itself known: %w", err)
	}
	f, err := parseFront(cm.Data)
	if err != nil {
		return nil, fmt.Errorf("ConfigMap %s/%s: %w", frontNamespace, frontConfigMap, err)
	}
	return f, nil
}
