package peers

import (
	"fmt"
	"path/filepath"
	"strings"
)

// haproxyConfig follows "Protect Your Web Server Against Slowloris"
// (https://www.haproxy.com/blog/protect-your-web-server-against-slowloris) for the
// timeouts and the limits of connections, and "Application-Layer DDoS Attack Protection
// with HAProxy" (https://www.haproxy.com/blog/application-layer-ddos-attack-protection-with-haproxy)
// for the limit of connections of an address by a stick table. Of the first it has no
// "option httpclose": clients would have a connection for each request.
//
// There is no tune.h2.fe.glitches-threshold, which ends connections of HTTP/2 that
// misbehave: it came with HAProxy 3.0.
func haproxyConfig(s Setup) (map[string]string, []string) {
	var b strings.Builder
	// Its default is a thread for each processor.
	fmt.Fprintf(&b, `global
  maxconn %d
  tune.h2.max-concurrent-streams %d
  ssl-default-bind-options ssl-min-ver TLSv1.3
defaults
  mode http
  option abortonclose
  timeout connect 4s
  timeout client 60s
  timeout server 60s
  timeout queue 60s
  timeout http-request 5s
`, conns, streams)
	for _, h := range s.Hops {
		bind, limit := "", connsAddress
		switch h.Kind {
		case HTTP:
		case HTTP2:
			bind = " proto h2"
		case MutualTLS, OpaqueTLS:
			bind, limit = fmt.Sprintf(" ssl crt %s ca-file %s verify required", s.PKI.Both, s.PKI.Anchors), connsListener
			if h.Kind == MutualTLS {
				bind += " alpn h2,http/1.1"
			}
		}
		mode := ""
		if h.Kind == OpaqueTLS {
			mode = "  mode tcp\n"
		}
		fmt.Fprintf(&b, `listen %s
%s  bind %s%s
  maxconn %d
  stick-table type ip size 100k expire 30s store conn_cur
  tcp-request connection track-sc0 src
  tcp-request connection reject if { sc0_conn_cur gt %d }
  server s %s
`, h.Name, mode, h.Listen, bind, connsListener, limit, h.Server)
	}
	return map[string]string{"haproxy.cfg": b.String()}, []string{"-db", "-f", filepath.Join(s.Dir, "haproxy.cfg")}
}
