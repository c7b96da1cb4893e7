package peers

import (
	"fmt"
	"strings"

	"github.com/underlane/underlane/test/bench/pki"
	"github.com/underlane/underlane/test/bench/work"
)

func haproxyConfig(s Setup) (map[string]string, []string) {
	var b strings.Builder
	fmt.Fprintf(&b, `global
  nbthread %d
  maxconn 8192
  tune.h2.max-concurrent-streams 1024
  ssl-default-bind-options ssl-min-ver TLSv1.3
  ssl-default-server-options ssl-min-ver TLSv1.3
defaults
  timeout connect 10s
  timeout client 1h
  timeout server 1h
`, s.CPUs)
	for _, h := range s.Hops {
		mode, proto, alpn := "http", "", ""
		switch h.Port.Proto {
		case work.ProtoTCP:
			mode = "tcp"
		case work.ProtoHTTP1:
			alpn = " alpn http/1.1"
		case work.ProtoHTTP2:
			proto, alpn = " proto h2", " alpn h2"
		}
		in, out := proto, proto
		if h.TLSIn {
			in = fmt.Sprintf(" ssl crt %s ca-file %s verify required%s%s", s.PKI.Both, s.PKI.Anchors, alpn, proto)
		}
		if h.TLSOut {
			out = fmt.Sprintf(" ssl crt %s ca-file %s verify required verifyhost %s sni str(%s)%s%s", s.PKI.Both, s.PKI.Anchors, pki.Name, pki.Name, alpn, proto)
		}
		fmt.Fprintf(&b, "listen %s\n  mode %s\n%s  bind %s%s\n  server s %s%s pool-max-conn -1\n",
			h.Port.Name+"-"+fmt.Sprint(h.Listen.Port()), mode, textIf(mode == "http", "  http-reuse always\n"), h.Listen, in, h.Connect, out)
	}
	return map[string]string{"haproxy.cfg": b.String()}, []string{"-db", "-f", "haproxy.cfg"}
}
