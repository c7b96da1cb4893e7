package l7proxy

import (
	"io"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/tap"
)

// TestHeaders: the events have the fields of the heads, in both protocols, if a reader asks
// for them, and without the values that are secret.
func TestHeaders(t *testing.T) {
	serve := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Answer", "yes")
		w.Header().Set("Set-Cookie", "session=secret")
		w.Header().Set("X-Token", "secret")
		w.Header().Set("Trailer", "X-Sum, X-Signed")
		_, _ = io.WriteString(w, "hello")
		w.Header().Set("X-Sum", "42")
		w.Header().Set("X-Signed", "secret")
	}
	redaction, err := tap.NewRedaction("X-Token", "X-Signed")
	if err != nil {
		t.Fatal(err)
	}
	for protocol, http2 := range protocolsOfHTTP {
		for name, r := range map[string]*tap.Redaction{"asked": redaction, "not asked": nil} {
			t.Run(protocol+" "+name, func(t *testing.T) {
				s := newShop(t)
				s.tap.Redaction = r
				addr, _ := counted(t, serve)
				s.service("apex", addr)
				request, err := http.NewRequest(http.MethodGet, "http://"+s.to(s.services["apex"].String()), nil)
				if err != nil {
					t.Fatal(err)
				}
				for name, value := range map[string]string{
					"Authorization": "Bearer secret", "Proxy-Authorization": "Basic secret", "Cookie": "a=secret", "X-Token": "secret", "X-Ask": "why",
				} {
					request.Header.Set(name, value)
				}
				response, err := clientOf(t, http2).Do(request)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, response.Body)
				response.Body.Close()

				want := map[tap.Kind]map[string]string{
					tap.RequestInit: {
						"authorization": tap.Redacted, "proxy-authorization": tap.Redacted, "cookie": tap.Redacted, "x-token": tap.Redacted, "x-ask": "why",
					},
					tap.ResponseInit: {"x-answer": "yes", "set-cookie": tap.Redacted, "x-token": tap.Redacted},
					tap.ResponseEnd:  {"x-sum": "42", "x-signed": tap.Redacted},
				}
				for kind, fields := range want {
					e := s.tap.Wait(t, kind, 0)
					if r == nil || fields == nil {
						if e.Headers != nil {
							t.Errorf("event %d has fields: %v", kind, e.Headers.List)
						}
						continue
					}
					got := map[string]string{}
					if e.Headers != nil {
						for _, f := range e.Headers.List {
							if _, ok := fields[f.Name]; ok {
								got[f.Name] = f.Value
							}
						}
					}
					if diff := cmp.Diff(fields, got); diff != "" {
						t.Errorf("event %d, -want +got:\n%s", kind, diff)
					}
				}
			})
		}
	}
}
