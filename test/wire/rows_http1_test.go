package wire

import (
	"fmt"
	"strings"
)

// http1Rows are requests and responses of HTTP/1 that end well, framed in every
// way.
var http1Rows = []row{
	{"http1/get", `send $get; recv "ok"`, `recv head; send $ok`, v6},
	{"http1/keep-alive", `repeat 10 { send $get; recv "ok" }`, `loop { recv head; send $ok }`, v6},
	{"http1/post", `send $post-5 "hello"; recv "ok"`, `recv "hello"; send $ok`, v6},
	{"http1/post-then-get", `send $post-5 "hello"; recv "ok"; send $get; recv "ok"`, `recv "hello"; send $ok; recv head; send $ok`, options{}},
	{"http1/chunked-post", `send $post-te "5;a=b\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"; recv "ok"`, `recv "Sum: 1\r\n\r\n"; send $ok`, options{}},
	{"http1/much-up", `send $post-1m #1000000; recv "ok"`, `recv head; recv 1000000; send $ok`, v6},
	{"http1/much-down", `send $get; recv head; recv 3000000`, `recv head; send "HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" #3000000`, v6},
	{"http1/much-down-to-end", `send $get; end`, `recv head; send $head-all #3000000; close`, options{}},
	{"http1/much-down-chunked", `send $get; recv "\r\n0\r\n\r\n"`, `recv head; send $head-te; repeat 30 { send "186a0\r\n" #100000 "\r\n" }; send "0\r\n\r\n"`, options{}},
	{"http1/tiny-chunks", `send $get; recv "0\r\n\r\n"`, `recv head; send $head-te "1\r\nx\r\n"*5000 "0\r\n\r\n"`, options{}},
	{"http1/to-the-end", `send $get; end`, `recv head; send $head-all "hello"; close`, v6},
	{"http1/to-the-end-slowly", `send $get; end`, `recv head; send "HTTP/1.1 200 OK\r\n\r\n"; repeat 4 { pause 300ms; send "hello" }; close`, options{}},
	{"http1/no-framing-keep-alive", `send $get; end`, `recv head; send "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\nhello"; close`, options{}},

	{"http1/http10", `send $get-10; end`, `recv head; send "HTTP/1.0 200 OK\r\n\r\nhello"; close`, v6},
	{"http1/http10/client", `send $get-10; end`, `recv head; send $ok-close; close`, options{}},
	{"http1/http10/client-length", `send $get-10; recv "ok"`, `recv head; send $ok`, options{}},
	{"http1/http10/client-keep-alive", `repeat 2 { send "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"; recv "ok" }`, `loop { recv head; send "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok" }`, options{}},
	{"http1/http10/client-keep-alive-11", `repeat 2 { send "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"; recv "ok" }`, `loop { recv head; send "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok" }`, options{}},
	{"http1/http10/server", `send $get; end`, `recv head; send "HTTP/1.0 200 OK\r\n\r\nhello"; close`, options{}},
	{"http1/http10/server-length", `send $get; end`, `recv head; send "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"; close`, options{}},
	{"http1/http10/server-keep-alive", `repeat 2 { send $get; recv "ok" }`, `loop { recv head; send "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok" }`, options{}},
	{"http1/http10/no-host", `send "GET / HTTP/1.0\r\n\r\n"; end`, `recv head; send "HTTP/1.0 200 OK\r\n\r\nhello"; close`, options{}},

	{"http1/versions/http12-request", `send "GET / HTTP/1.2\r\nHost: x\r\n\r\n"; recv "ok"`, `recv head; send $ok`, options{}},
	{"http1/versions/http12-response", `send $get; recv "ok"`, `recv head; send "HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok"`, options{}},
	{"http1/versions/http09", `send "GET /\r\n"; end`, `recv "\n"; send "hello"; close`, options{}},

	{"http1/head/length", `repeat 2 { send $head; recv head }`, `loop { recv head; send "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n" }`, options{}},
	{"http1/head/chunked", `repeat 2 { send $head; recv head }`, `loop { recv head; send $head-te }`, options{}},
	{"http1/head/none", `repeat 2 { send $head; recv head }`, `loop { recv head; send "HTTP/1.1 200 OK\r\n\r\n" }`, options{}},
	bodyless("http1/status/204", "204 No Content", ""),
	bodyless("http1/status/204-length-0", "204 No Content", "Content-Length: 0\r\n"),
	bodyless("http1/status/204-length-5", "204 No Content", "Content-Length: 5\r\n"),
	bodyless("http1/status/204-chunked", "204 No Content", "Transfer-Encoding: chunked\r\n"),
	bodyless("http1/status/304", "304 Not Modified", ""),
	bodyless("http1/status/304-length", "304 Not Modified", "Content-Length: 1234\r\n"),
	bodyless("http1/status/304-chunked", "304 Not Modified", "Transfer-Encoding: chunked\r\n"),
	bodyless("http1/status/205-length-0", "205 Reset Content", "Content-Length: 0\r\n"),
	bodyless("http1/status/999", "999 Odd", "Content-Length: 0\r\n"),
	bodyless("http1/status/no-reason", "200", "Content-Length: 0\r\n"),
	bodyless("http1/status/latin-reason", "404 Nicht gef\xfchrt", "Content-Length: 0\r\n"),

	bodyless("http1/space/before-colon", "200 OK", "X-Odd : v\r\nContent-Length: 0\r\n"),
	bodyless("http1/space/after-colon", "200 OK", "X-Odd:   v\r\nContent-Length: 0\r\n"),
	bodyless("http1/space/behind-value", "200 OK", "X-Odd: v  \t\r\nContent-Length: 0\r\n"),
	bodyless("http1/space/none", "200 OK", "X-Odd:v\r\nContent-Length:0\r\n"),
	bodyless("http1/space/empty-value", "200 OK", "X-Odd:\r\nContent-Length: 0\r\n"),
	bodyless("http1/space/folded", "200 OK", "X-Odd: a\r\n b\r\nContent-Length: 0\r\n"),
	bodyless("http1/space/obs-text", "200 OK", "X-Odd: caf\xe9\r\nContent-Length: 0\r\n"),
	{"http1/space/request-after-colon", `send "GET / HTTP/1.1\r\nHost:x\r\nX-Odd:   v  \r\n\r\n"; recv "ok"`, `recv head; send $ok`, options{}},
	{"http1/space/request-before-colon", `send "GET / HTTP/1.1\r\nHost: x\r\nX-Odd : v\r\n\r\n"; recv "ok"`, `recv head; send $ok`, short},
	{"http1/space/empty-line-first", `send "\r\n" $get; recv "ok"`, `recv "x\r\n\r\n"; send $ok`, options{}},
	{"http1/space/lf-response", `send $get; recv "ok"`, `recv head; send "HTTP/1.1 200 OK\nContent-Length: 2\n\nok"`, short},
	{"http1/space/chunk-size-padded", `send $get; recv "0\r\n\r\n"`, `recv head; send $head-te "2  \r\nok\r\n0\r\n\r\n"`, short},
	{"http1/space/chunk-size-zeros", `send $get; recv "\r\n000\r\n\r\n"`, `recv head; send $head-te "0002\r\nok\r\n000\r\n\r\n"`, short},

	{"http1/framing/length-and-chunked", `send $get; recv "0\r\n\r\n"`, `recv head; send "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"`, short},
	{"http1/framing/chunked-twice", `send $get; recv "0\r\n\r\n"`, `recv head; send "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"`, short},
	{"http1/framing/length-list", `send $get; recv "ok"`, `recv head; send "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok"`, short},
	{"http1/framing/identity", `send $get; recv "ok"`, `recv head; send "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok"`, short},
	{"http1/framing/http10-chunked", `send $get; end`, `recv head; send "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"; close`, short},

	{"http1/host/ipv6", `send "GET / HTTP/1.1\r\nHost: fd00::1\r\n\r\n"; recv "ok"`, `recv head; send $ok`, options{}},
	{"http1/host/ipv6-port", `send "GET / HTTP/1.1\r\nHost: fd00::1:8080\r\n\r\n"; recv "ok"`, `recv head; send $ok`, options{}},

	bodyless("http1/large/head-60k", "200 OK", "Content-Length: 0\r\nX-Big: "+strings.Repeat("a", 60<<10)+"\r\n"),
	bodyless("http1/large/head-70k", "200 OK", "Content-Length: 0\r\nX-Big: "+strings.Repeat("a", 70<<10)+"\r\n"),
	bodyless("http1/large/200-fields", "200 OK", "Content-Length: 0\r\n"+strings.Repeat("Set-Cookie: a=b\r\n", 200)),
	bodyless("http1/large/300-fields", "200 OK", "Content-Length: 0\r\n"+strings.Repeat("Set-Cookie: a=b\r\n", 300)),
	{"http1/large/request-60k", `send "GET / HTTP/1.1\r\nHost: x\r\nX-Big: " "a"*60000 "\r\n\r\n"; recv "ok"`, `recv head; send $ok`, options{}},
	{"http1/large/request-70k", `send "GET / HTTP/1.1\r\nHost: x\r\nX-Big: " "a"*70000 "\r\n\r\n"; recv "ok"`, `recv head; send $ok`, short},

	// What is said of connections.
	{"http1/connection/server-closes", `send $get; recv "ok"`, `recv head; send $ok-close`, exact},
	{"http1/connection/client-closes", `send "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"; recv "ok"`, `recv head; send $ok`, exact},
	{"http1/connection/client-closes-end", `send "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"; recv head; end`, `recv head; send $ok-close; close`, exact},
	{"http1/connection/http10-server", `send $get; recv head; end`, `recv head; send "HTTP/1.0 200 OK\r\n\r\nhello"; close`, exact},
	{"http1/connection/http10-server-keeps", `send $get; recv "ok"`, `recv head; send "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"`, exact},
	{"http1/connection/http10-client-keeps", `send "GET / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n"; recv "ok"`, `recv head; send "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"`, exact},
	{"http1/connection/early-answer", `send $post-1m; recv "big"; tell got; end`, `recv head; send $big-close; await got; close`, exact},

	{"http1/trailers", `send $get; recv "Sum: 1\r\n\r\n"`, `recv head; send "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"`, options{}},
}

// bodyless is a row whose response has this status line and fields and no body,
// twice on a connection.
func bodyless(name, status, fields string) row {
	return row{name, `repeat 2 { send $get; recv head }`, fmt.Sprintf(`loop { recv head; send %s }`, quoted("HTTP/1.1 "+status+"\r\n"+fields+"\r\n")), short}
}
