package jwks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/underlane/underlane/pkg/policy/jwt"
)

// Discovery is the end of the address at which an issuer says where its keys are (OpenID
// Connect Discovery 1.0 §4).
const Discovery = "/.well-known/openid-configuration"

// maxDiscovery bounds such a document, in bytes.
const maxDiscovery = 64 << 10

// maxRedirects is the number of redirects that are followed.
const maxRedirects = 3

// Check returns why keys cannot be fetched from an address, or nil.
func Check(at string) error {
	u, err := url.Parse(at)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || len(at) > maxURL {
		return fmt.Errorf("%.100q: want an address of http or https, without a user", at)
	}
	return nil
}

// fetch returns the keys at an address.
func (k *Keys) fetch(ctx context.Context, at string, timeout time.Duration) (keys string, others int, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if strings.HasSuffix(at, Discovery) {
		text, err := k.get(ctx, at, maxDiscovery)
		if err != nil {
			return "", 0, err
		}
		var found struct {
			JWKSURI string `json:"jwks_uri"`
		}
		if err := json.Unmarshal(text, &found); err != nil || found.JWKSURI == "" {
			return "", 0, errors.New("the document at the issuer's address names no jwks_uri")
		}
		if strings.HasPrefix(at, "https:") && !strings.HasPrefix(found.JWKSURI, "https:") {
			return "", 0, errors.New("the jwks_uri of an issuer of https is not one of https")
		}
		at = found.JWKSURI
	}
	text, err := k.get(ctx, at, jwt.MaxKeySet)
	if err != nil {
		return "", 0, err
	}
	return jwt.PublicKeys(text)
}

func (k *Keys) get(ctx context.Context, at string, most int) ([]byte, error) {
	if err := Check(at); err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	r.Header.Set("User-Agent", "underlane-controller")
	knowAuthorities()
	resp, err := k.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the status is %d", resp.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, int64(most)+1))
	if err != nil {
		return nil, err
	}
	if len(text) > most {
		return nil, fmt.Errorf("there are more than %d bytes", most)
	}
	return text, nil
}

// checkRedirect follows a few redirects, and none from https to http.
func checkRedirect(r *http.Request, via []*http.Request) error {
	switch {
	case len(via) > maxRedirects:
		return errors.New("too many redirects")
	case via[0].URL.Scheme == "https" && r.URL.Scheme != "https":
		return errors.New("a redirect from https to http")
	}
	return Check(r.URL.String())
}

// Transport returns what requests are made with. Whoever may write a RequestAuthentication
// names the address, so that it connects to no link-local one: such are metadata servers of
// clouds.
func Transport() http.RoundTripper {
	dialer := &net.Dialer{Timeout: MaxTimeout, Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		if a := at.Addr().Unmap(); a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() {
			return fmt.Errorf("%s is not an address that keys are fetched from", a)
		}
		return nil
	}}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: MaxTimeout, ResponseHeaderTimeout: MaxTimeout, IdleConnTimeout: 10 * time.Second,
		MaxIdleConns: atOnce, MaxResponseHeaderBytes: 64 << 10, DisableCompression: true,
	}
}
