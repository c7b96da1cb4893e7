package e2e

// attacksHTTP1 are bytes that a client sends, in pieces. Each has "admin" or "secret" in what must not arrive.
func attacksHTTP1() map[string][]string {
	const rest = " HTTP/1.1\r\nHost: ok.example\r\nX-Secret: 1\r\n\r\n"
	get := func(target string) []string { return []string{"GET " + target + rest} }
	host := func(host string) []string {
		return []string{"GET /public/../admin HTTP/1.1\r\nHost: " + host + "\r\nX-Secret: 1\r\n\r\n"}
	}
	var slowly []string
	for _, b := range []byte("GET /admin" + rest) {
		slowly = append(slowly, string(b))
	}
	return map[string][]string{
		"plain": get("/admin"), "two slashes": get("//admin"), "dots": get("/public/../admin"), "encoded dots": get("/public/%2e%2e/admin"),
		"encoded slash": get("/public%2f..%2fadmin"), "encoded slash first": get("/%2fadmin"), "encoded letters": get("/%61dmin"), "twice encoded dots": get("/public/%252e%252e/../../admin"),
		"backslash": get(`/public/..\admin`), "parameters": get("/public/..;/admin"), "parameters with a value": get("/public/..;x=1/admin"), "a parameter": get("/admin;x"),
		"absolute": get("http://ok.example/admin"), "absolute, another host": get("http://admin.example/admin"), "absolute, upper case": get("HTTP://OK.EXAMPLE:80/admin"),
		"absolute, a user": get("http://ok.example@admin.example/admin"), "a fragment": get("/admin#/public/"), "a query": get("/admin?/public/"), "no slash": get("admin"), "a star": get("*admin"),
		"upper-case host": host("ADMIN.EXAMPLE"), "a dot after the host": host("admin.example."), "a port": host("admin.example:80"), "a space after the host": host("admin.example "), "no host": host(""),
		"two hosts":                         {"GET /admin HTTP/1.1\r\nHost: ok.example\r\nHost: admin.example\r\n\r\n"},
		"two hosts, reverse":                {"GET /admin HTTP/1.1\r\nHost: admin.example\r\nHost: ok.example\r\n\r\n"},
		"a host with a space":               {"GET /admin HTTP/1.1\r\nHost : ok.example\r\nX-Secret: 1\r\n\r\n"},
		"a folded host":                     {"GET /admin HTTP/1.1\r\nX-A: b\r\n Host: ok.example\r\nX-Secret: 1\r\n\r\n"},
		"HTTP/1.0":                          {"GET /admin HTTP/1.0\r\nX-Secret: 1\r\n\r\n"},
		"HTTP/0.9":                          {"GET /admin\r\n"},
		"HTTP/2.0":                          {"GET /admin HTTP/2.0\r\nHost: ok.example\r\nX-Secret: 1\r\n\r\n"},
		"HTTP/1.2":                          {"GET /admin HTTP/1.2\r\nHost: ok.example\r\nX-Secret: 1\r\n\r\n"},
		"an empty line first":               {"\r\nGET /admin" + rest},
		"a space first":                     {" GET /admin" + rest},
		"LF alone":                          {"GET /admin HTTP/1.1\nHost: ok.example\nX-Secret: 1\n\n"},
		"two spaces":                        {"GET  /admin" + rest},
		"a tab":                             {"GET\t/admin" + rest},
		"a method in lower case":            {"get /admin" + rest},
		"an unknown method":                 {"FOO /admin" + rest},
		"CONNECT":                           {"CONNECT admin.example:80 HTTP/1.1\r\nHost: ok.example\r\nX-Secret: 1\r\n\r\n"},
		"OPTIONS of another host":           {"OPTIONS * HTTP/1.1\r\nHost: admin.example\r\nX-Secret: 1\r\n\r\n"},
		"byte by byte":                      slowly,
		"pipelined":                         {"GET /public/a HTTP/1.1\r\nHost: ok.example\r\n\r\nGET /admin" + rest},
		"behind a body":                     {"POST /public/a HTTP/1.1\r\nHost: ok.example\r\nContent-Length: 3\r\n\r\nabcGET /admin" + rest},
		"behind chunks":                     {"POST /public/a HTTP/1.1\r\nHost: ok.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /admin" + rest},
		"two lengths":                       {"POST /public/a HTTP/1.1\r\nHost: ok.example\r\nContent-Length: 3\r\nContent-Length: 0\r\n\r\nGET /admin" + rest},
		"length and chunks":                 {"POST /public/a HTTP/1.1\r\nHost: ok.example\r\nContent-Length: 300\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /admin" + rest},
		"odd chunks":                        {"POST /public/a HTTP/1.1\r\nHost: ok.example\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\nGET /admin" + rest},
		"upgrade to h2c":                    {"GET /admin HTTP/1.1\r\nHost: ok.example\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nX-Secret: 1\r\n\r\n"},
		"WebSocket":                         {"GET /admin HTTP/1.1\r\nHost: ok.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Secret: 1\r\n\r\n"},
		"gRPC-web":                          {"POST /admin HTTP/1.1\r\nHost: ok.example\r\nContent-Type: application/grpc-web\r\nContent-Length: 0\r\nX-Secret: 1\r\n\r\n"},
		"PROXY 1":                           {"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET /admin" + rest},
		"PROXY 2":                           {"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00GET /admin" + rest},
		"HTTP/2 that is none":               {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET /admin" + rest},
		"half of HTTP/2":                    {"PRI * HTTP/2.0\r\n", "\r\nadmin"},
		"opaque":                            {"\x00\x01admin secret\n"},
		"a line":                            {"\r\n", "admin"},
		"TLS that is none":                  {"\x16\x03\x01\x00\x05admin"},
		"a user before the port":            host("ok.example:80@admin.example"),
		"a host with a path":                host("ok.example/@admin.example"),
		"CR in a field":                     {"GET /admin HTTP/1.1\r\nHost: ok.example\r\nX-A: b\rX-Secret: 1\r\n\r\n"},
		"NUL in a field":                    {"GET /admin HTTP/1.1\r\nHost: ok.example\r\nX-A: b\x00\r\nX-Secret: 1\r\n\r\n"},
		"NUL in the path":                   get("/admin\x00/public/"),
		"a length with a sign":              {"POST /public/a HTTP/1.1\r\nHost: ok.example\r\nContent-Length: +0\r\n\r\nGET /admin" + rest},
		"a length in hex":                   {"POST /public/a HTTP/1.1\r\nHost: ok.example\r\nContent-Length: 0x0\r\n\r\nGET /admin" + rest},
		"chunked, with a tab":               {"POST /public/a HTTP/1.1\r\nHost: ok.example\r\nTransfer-Encoding:\tchunked\r\n\r\n0\r\n\r\nGET /admin" + rest},
		"chunked, a line feed":              {"POST /public/a HTTP/1.1\r\nHost: ok.example\r\nTransfer-Encoding: chunked\r\n\r\n0\n\nGET /admin" + rest},
		"chunked, twice":                    {"POST /public/a HTTP/1.1\r\nHost: ok.example\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\nContent-Length: 0\r\n\r\nGET /admin" + rest},
		"behind an upgrade that is refused": {"GET /public/a HTTP/1.1\r\nHost: ok.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "GET /admin" + rest},
		"HTTP/2 behind HTTP/1":              {"GET /public/a HTTP/1.1\r\nHost: ok.example\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nadmin"},
		"h2c behind HTTP/1":                 {"GET /public/a HTTP/1.1\r\nHost: ok.example\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nadmin"},
		"after 100 Continue":                {"GET /public/a HTTP/1.1\r\nHost: ok.example\r\nExpect: 100-continue\r\n\r\n", "GET /admin" + rest},
		"fields that name another client": {
			"GET /admin HTTP/1.1\r\nHost: ok.example\r\nX-Secret: 1\r\nX-Forwarded-For: 127.0.0.1\r\nForwarded: for=127.0.0.1\r\nl5d-client-id: friend.default.serviceaccount.identity.linkerd.cluster.local\r\n" +
				"X-Forwarded-Client-Cert: By=spiffe://cluster.local/ns/default/sa/server;URI=spiffe://cluster.local/ns/default/sa/friend\r\nl5d-dst-override: asked.default\r\n\r\n",
		},
	}
}

// head are the fields of a request, by name and value.
type head [][2]string

// attacksHTTP2 are requests of one connection.
func attacksHTTP2() map[string][]head {
	path := func(path string) head {
		return head{{":method", "GET"}, {":scheme", "http"}, {":authority", "ok.example"}, {":path", path}, {"x-secret", "1"}}
	}
	host := func(fields ...[2]string) head {
		return append(head{{":method", "GET"}, {":scheme", "http"}, {":path", "/admin"}, {"x-secret", "1"}}, fields...)
	}
	out := map[string][]head{"behind another": {path("/public/a")[:4], path("/admin")}}
	for name, one := range map[string]head{
		"plain": path("/admin"), "two slashes": path("//admin"), "dots": path("/public/../admin"), "encoded dots": path("/public/%2e%2e/admin"), "encoded slash": path("/public%2f..%2fadmin"),
		"encoded letters": path("/%61dmin"), "backslash": path(`/public/..\admin`), "parameters": path("/public/..;/admin"), "a parameter": path("/admin;x"), "no slash": path("admin"), "a star": path("*"),
		"absolute": path("http://ok.example/admin"), "a fragment": path("/admin#/public/"), "a query": path("/admin?/public/"), "empty": path(""), "a space": path("/admin /public/"), "a line": path("/admin\r\nx: y"),
		"upper-case host": host([2]string{":authority", "ADMIN.EXAMPLE"}), "a dot after the host": host([2]string{":authority", "admin.example."}), "a port": host([2]string{":authority", "admin.example:80"}),
		"no host": host(), "an empty host": host([2]string{":authority", ""}), "a user": host([2]string{":authority", "ok.example@admin.example"}),
		"two hosts":              host([2]string{":authority", "ok.example"}, [2]string{"host", "admin.example"}),
		"host alone":             host([2]string{"host", "admin.example"}),
		"CONNECT":                {{":method", "CONNECT"}, {":authority", "admin.example:80"}, {"x-secret", "1"}},
		"WebSocket":              {{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "http"}, {":authority", "ok.example"}, {":path", "/admin"}, {"x-secret", "1"}},
		"lower-case":             {{":method", "get"}, {":scheme", "http"}, {":authority", "ok.example"}, {":path", "/admin"}, {"x-secret", "1"}},
		"another scheme":         {{":method", "GET"}, {":scheme", "ftp"}, {":authority", "ok.example"}, {":path", "/admin"}, {"x-secret", "1"}},
		"gRPC":                   {{":method", "POST"}, {":scheme", "http"}, {":authority", "ok.example"}, {":path", "/admin"}, {"content-type", "application/grpc"}, {"te", "trailers"}, {"x-secret", "1"}},
		"gRPC-web":               {{":method", "POST"}, {":scheme", "http"}, {":authority", "ok.example"}, {":path", "/admin"}, {"content-type", "application/grpc-web"}, {"x-secret", "1"}},
		"two paths":              append(path("/public/a"), [2]string{":path", "/admin"}),
		"a late path":            {{":method", "GET"}, {":scheme", "http"}, {":authority", "ok.example"}, {"x-secret", "1"}, {":path", "/admin"}},
		"an upper field":         append(path("/admin"), [2]string{"X-Upper", "1"}),
		"a user before the port": host([2]string{":authority", "ok.example:80@admin.example"}),
		"two authorities":        host([2]string{":authority", "ok.example"}, [2]string{":authority", "admin.example"}),
		"NUL in the path":        path("/admin\x00/public/"),
		"a connection's field":   append(path("/admin"), [2]string{"connection", "host"}),
		"an upgrade":             append(path("/admin"), [2]string{"upgrade", "h2c"}),
		"chunked":                append(path("/admin"), [2]string{"transfer-encoding", "chunked"}),
		"CR in a field":          append(path("/admin"), [2]string{"x-a", "b\r\nx-c: d"}),
		"fields that name another client": append(path("/admin"),
			[2]string{"x-forwarded-for", "127.0.0.1"}, [2]string{"l5d-client-id", "friend.default.serviceaccount.identity.linkerd.cluster.local"},
			[2]string{"x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/default/sa/friend"}, [2]string{"l5d-dst-override", "asked.default"}),
	} {
		out[name] = []head{one}
	}
	return out
}
