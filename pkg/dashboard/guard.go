package dashboard

import (
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// policy is the Content-Security-Policy of every answer. Scripts and styles are files
// of the bundle only. Trusted Types refuse that text becomes HTML, but for the
// templates that Svelte compiled (svelte-trusted-html), and the address of the worker
// (underlane-worker).
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
	"connect-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; " +
	"frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types svelte-trusted-html underlane-worker"

// guard lets in what a person's browser asks of this server, and nothing that another
// site makes the browser ask. The browser's own rule, that a page reads only what is of
// its origin, does not suffice: a name of that site may resolve to loopback (DNS
// rebinding), and a request that nobody may read still costs the cluster something.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		switch {
		case !isLoopback(r.Host):
			refuse(w, http.StatusMisdirectedRequest, "MisdirectedRequest", "the dashboard answers to localhost and addresses of loopback only: open it by the address that was printed")
		case fromElsewhere(r):
			refuse(w, http.StatusForbidden, "Forbidden", "a page of another site asked for this")
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			h.Set("Allow", "GET, HEAD")
			refuse(w, http.StatusMethodNotAllowed, "MethodNotAllowed", "the dashboard only reads: use GET")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// isLoopback tells a Host header with an address of loopback or a name that no resolver
// may give another address (RFC 6761, section 6.3). The port may be any: a person may
// forward one.
func isLoopback(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	} else {
		name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	}
	if strings.EqualFold(name, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && addr.Zone() == "" && addr.Unmap().IsLoopback()
}

// fromElsewhere tells a request that a browser made for a page of another origin, by
// what it says of it (Fetch Metadata; Origin in older ones). A person may follow a link
// from another site to a view.
func fromElsewhere(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return false
	case "":
		origin := r.Header.Get("Origin")
		return origin != "" && origin != "http://"+r.Host
	}
	return r.Header.Get("Sec-Fetch-Mode") != "navigate" || r.Header.Get("Sec-Fetch-Dest") != "document" || strings.HasPrefix(r.URL.Path, "/api/")
}

// refuse answers with a Status, as Kubernetes does.
func refuse(w http.ResponseWriter, code int, reason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message})
}
