package peers

import (
	"fmt"
	"path/filepath"
	"strings"
)

// nginxStream is the module that forwards TCP. It comes in a separate package.
const nginxStream = "/usr/lib/nginx/modules/ngx_stream_module.so"

// nginxConfig follows "Mitigating DDoS Attacks with NGINX and NGINX Plus"
// (https://www.nginx.com/blog/mitigating-ddos-attacks-with-nginx-and-nginx-plus/): a limit
// of connections for each address, and 5 s for heads and bodies. For HTTP/2 it has what
// "HTTP/2 Rapid Reset Attack Impacting F5 NGINX Products"
// (https://www.f5.com/company/blog/http-2-rapid-reset-attack-impacting-f5-nginx-products)
// recommends: 1,000 requests for each connection, the default, and at most 128 streams
// (100 here). A body has 1 MB at most, the default. The limits of connections count in
// HTTP from the end of the first head: nginx has none for clients that are silent.
//
// Responses are not kept in files, which is the default: the slow readers would fill
// the disk of the machine that runs the test.
func nginxConfig(s Setup) (map[string]string, []string) {
	var http, stream strings.Builder
	for _, h := range s.Hops {
		ssl := ""
		if h.Kind.tls() {
			ssl = fmt.Sprintf(`
    ssl_certificate %s; ssl_certificate_key %s;
    ssl_client_certificate %s; ssl_verify_client on; ssl_protocols TLSv1.3;`, s.PKI.Cert, s.PKI.Key, s.PKI.Anchors)
		}
		switch h.Kind {
		case OpaqueTLS:
			fmt.Fprintf(&stream, `  server {
    listen %s ssl backlog=4096;%s
    proxy_pass %s;
  }
`, h.Listen, ssl, h.Server)
			continue
		case MutualTLS:
			fmt.Fprintf(&http, "  server {\n    listen %s ssl http2 backlog=4096;%s\n    limit_conn address %d;\n", h.Listen, ssl, connsListener)
		case HTTP2:
			fmt.Fprintf(&http, "  server {\n    listen %s http2 backlog=4096;\n    limit_conn address %d;\n", h.Listen, connsAddress)
		case HTTP:
			fmt.Fprintf(&http, "  server {\n    listen %s backlog=4096;\n    limit_conn address %d;\n", h.Listen, connsAddress)
		}
		fmt.Fprintf(&http, `    location / { proxy_pass http://%[1]s; }
  }
  upstream %[1]s { server %[2]s; keepalive 64; }
`, h.Name, h.Server)
	}
	text := fmt.Sprintf(`load_module %s;
user root;
daemon off;
worker_processes auto;
worker_rlimit_nofile %d;
error_log stderr crit;
pid %s;
events { worker_connections %d; }
http {
  access_log off;
  client_body_temp_path %[5]s/body; proxy_temp_path %[5]s/proxy; fastcgi_temp_path %[5]s/fastcgi; uwsgi_temp_path %[5]s/uwsgi; scgi_temp_path %[5]s/scgi;
  proxy_max_temp_file_size 0;
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  limit_conn_zone $binary_remote_addr$server_port zone=address:10m;
  client_header_timeout 5s;
  client_body_timeout 5s;
  send_timeout 5s;
  reset_timedout_connection on;
  http2_max_concurrent_streams %[6]d;
%[7]s}
stream {
  limit_conn_zone $binary_remote_addr zone=opaque:10m;
  limit_conn opaque %[8]d;
  ssl_handshake_timeout 10s;
%[9]s}
`, nginxStream, descriptors, filepath.Join(s.Dir, "nginx.pid"), conns, s.Dir, streams, http.String(), connsListener, stream.String())
	return map[string]string{"nginx.conf": text}, []string{"-p", s.Dir, "-c", filepath.Join(s.Dir, "nginx.conf"), "-e", "stderr"}
}
