package detect

import (
	"crypto/tls"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestProxyHeader: what a load balancer writes first does not hide the name of the server,
// and makes the connection opaque, whatever follows.
func TestProxyHeader(t *testing.T) {
	hello := string(clientHelloOf(t, &tls.Config{ServerName: "shop.example", NextProtos: []string{"underlane/h1"}}))
	v2 := func(family, length byte) string { return proxyV2 + "\x21" + string(family) + "\x00" + string(length) }
	four := v2(0x11, 12) + strings.Repeat("a", 12)
	opaque := Result{Protocol: Opaque}
	const named = "shop.example"
	const v1 = "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
	for name, c := range map[string]struct {
		in   string
		name string // of the server
		want Result // of Detect
	}{
		"version 1":                         {v1, "", opaque},
		"version 1, TLS":                    {v1 + hello, named, opaque},
		"version 1, IPv6, TLS":              {"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n" + hello, named, opaque},
		"version 1, unknown, TLS":           {"PROXY UNKNOWN\r\n" + hello, named, opaque},
		"version 1, a part of TLS":          {v1 + hello[:50], "", opaque},
		"version 1, HTTP/2":                 {v1 + Preface, "", opaque},
		"version 1, a line too long":        {"PROXY TCP4 " + strings.Repeat("1", maxProxyV1) + "\r\n" + hello, "", opaque},
		"a family that there is not":        {"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n" + hello, "", opaque},
		"a request with the method PROXY":   {"PROXY UNKNOWN HTTP/1.1\r\n", "", Result{Protocol: HTTP1}},
		"a part of version 1":               {v1[:20], "", needMore},
		"version 2":                         {four, "", opaque},
		"version 2, TLS":                    {four + hello, named, opaque},
		"version 2, local, TLS":             {proxyV2 + "\x20\x00\x00\x00" + hello, named, opaque},
		"version 2, HTTP":                   {four + "GET / HTTP/1.1\r\n\r\n", "", opaque},
		"version 2 without its addresses":   {v2(0x11, 12) + "abc", "", opaque},
		"version 2 without its length":      {proxyV2 + "\x21\x11\x00", "", opaque},
		"version 2, another header in that": {four + v1 + hello, "", opaque},
	} {
		if diff := cmp.Diff(c.want, Detect([]byte(c.in))); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
		if got := ProxiedName([]byte(c.in)); got != c.name {
			t.Errorf("%s: the server's name is %q, want %q", name, got, c.name)
		}
	}
}

func FuzzProxiedName(f *testing.F) {
	hello := string(clientHelloOf(f, &tls.Config{ServerName: "a.b"}))
	f.Add([]byte("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + hello))
	f.Add([]byte(proxyV2 + "\x20\x00\x00\x00" + hello))
	f.Fuzz(func(t *testing.T, in []byte) {
		if name := ProxiedName(in); name != "" && Detect(in).Protocol != Opaque {
			t.Errorf("%q is named by what is not opaque", name)
		}
	})
}
