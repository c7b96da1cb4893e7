package peers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/underlane/underlane/test/bench/pki"
	"github.com/underlane/underlane/test/bench/work"
)

// nginxStream is the module that forwards TCP. It comes in a separate package.
const nginxStream = "/usr/lib/nginx/modules/ngx_stream_module.so"

// findNginx finds nginx. It fails if nginx lacks something that the work needs.
func findNginx(ctx context.Context, dir string) (string, error) {
	path, err := installed("nginx")(ctx, dir)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(nginxStream); err != nil {
		return "", errors.New("it has no stream module: scripts/deps.sh bench")
	}
	return path, nil
}

// nginxConfig returns a configuration that keeps connections to the server open, as
// the mesh does, and does not log requests.
func nginxConfig(s Setup) (map[string]string, []string) {
	var http, stream strings.Builder
	for i, h := range s.Hops {
		if h.Port.Proto == work.ProtoTCP {
			fmt.Fprintf(&stream, "  server {\n    listen %s%s;\n    tcp_nodelay on;\n%s    proxy_pass %s;\n%s  }\n",
				h.Listen, textIf(h.TLSIn, " ssl"), nginxIn(s, h), h.Connect, nginxOut(s, h, "proxy", "    proxy_ssl on;\n"))
			continue
		}
		fmt.Fprintf(&http, "  upstream up%d { server %s; keepalive 512; keepalive_requests 1000000000; }\n", i, h.Connect)
		if h.Port.Proto == work.ProtoHTTP2 {
			fmt.Fprintf(&http, "  server {\n    listen %s%s http2;\n%s    location / {\n      grpc_pass grpc%s://up%d;\n%s    }\n  }\n",
				h.Listen, textIf(h.TLSIn, " ssl"), nginxIn(s, h), textIf(h.TLSOut, "s"), i, nginxOut(s, h, "grpc", ""))
		} else {
			fmt.Fprintf(&http, "  server {\n    listen %s%s;\n%s    location / {\n      proxy_pass http%s://up%d;\n      proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n      proxy_set_header Host $http_host;\n%s    }\n  }\n",
				h.Listen, textIf(h.TLSIn, " ssl"), nginxIn(s, h), textIf(h.TLSOut, "s"), i, nginxOut(s, h, "proxy", ""))
		}
	}
	text := fmt.Sprintf(`%suser root;
daemon off;
worker_processes %d;
error_log stderr warn;
pid nginx.pid;
events { worker_connections 8192; }
http {
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  tcp_nodelay on;
  keepalive_timeout 1h; keepalive_requests 1000000000; keepalive_time 1d;
  http2_max_concurrent_streams 1024;
  grpc_read_timeout 1h; grpc_send_timeout 1h; client_body_timeout 1h; client_max_body_size 0;
%s}
`, textIf(stream.Len() > 0, "load_module "+nginxStream+";\n"), s.CPUs, http.String())
	if stream.Len() > 0 {
		text += "stream {\n  proxy_timeout 1h;\n" + stream.String() + "}\n"
	}
	return map[string]string{"nginx.conf": text}, []string{"-p", s.Dir, "-c", "nginx.conf", "-e", "stderr"}
}

func nginxIn(s Setup, h Hop) string {
	if !h.TLSIn {
		return ""
	}
	return fmt.Sprintf("    ssl_certificate %s; ssl_certificate_key %s; ssl_client_certificate %s;\n    ssl_verify_client on; ssl_protocols TLSv1.3;\n",
		s.PKI.Cert, s.PKI.Key, s.PKI.Anchors)
}

// nginxOut returns the directives of the client's side of TLS. They begin with the
// module's name.
func nginxOut(s Setup, h Hop, module, first string) string {
	if !h.TLSOut {
		return ""
	}
	out := first
	for _, d := range [][2]string{
		{"certificate", s.PKI.Cert},
		{"certificate_key", s.PKI.Key},
		{"trusted_certificate", s.PKI.Anchors},
		{"verify", "on"},
		{"name", pki.Name},
		{"protocols", "TLSv1.3"},
	} {
		out += fmt.Sprintf("      %s_ssl_%s %s;\n", module, d[0], d[1])
	}
	return out
}

// textIf returns text if cond is true, and "" otherwise.
func textIf(cond bool, text string) string {
	if cond {
		return text
	}
	return ""
}
