package wire

// halfRows end one direction of a connection of HTTP/1 and go on in the other.
var halfRows = []row{
	{"http1/half/at-once", `send $get; shut; end`, `recv head; send $ok-close; close`, v6},
	{"http1/half/300ms", `send $get; shut; end`, `recv head; pause 300ms; send $ok-close; close`, options{}},
	{"http1/half/2500ms", `send $get; shut; end`, `recv head; pause 2500ms; send $ok-close; close`, v6},
	{"http1/half/3000ms", `send $get; shut; end`, `recv head; pause 3s; send $ok-close; close`, options{}},
	{"http1/half/keep-alive-at-once", `send $get; shut; recv "ok"`, `recv head; send $ok`, options{}},
	{"http1/half/keep-alive-2500ms", `send $get; shut; recv "ok"`, `recv head; pause 2500ms; send $ok`, options{}},
	{"http1/half/keep-alive-then-end", `send $get; shut; end`, `recv head; send $ok; end; close`, options{}},
	{"http1/half/server-sees-end", `send $get; shut; recv "ok"`, `recv head; end; send $ok-close; close`, options{}},
	{"http1/half/http10", `send $get-10; shut; end`, `recv head; pause 2500ms; send "HTTP/1.0 200 OK\r\n\r\nhello"; close`, options{}},
	{"http1/half/head", `send $head; shut; end`, `recv head; pause 2500ms; send "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n"; close`, options{}},
	{"http1/half/to-end", `send $get; shut; end`, `recv head; pause 2500ms; send $head-all "hello"; close`, options{}},
	{"http1/half/post", `send $post-5 "hello"; shut; end`, `recv "hello"; pause 2500ms; send $ok-close; close`, options{}},
	{"http1/half/post-chunked", `send $post-te "5\r\nhello\r\n0\r\n\r\n"; shut; end`, `recv "0\r\n\r\n"; pause 2500ms; send $ok-close; close`, options{}},
	{"http1/half/inside-response-head", `send $get; await begun; shut; recv "ok"`, `recv head; send "HTTP/1.1 200 OK\r\n"; tell begun; pause 2500ms; send "Content-Length: 2\r\n\r\nok"`, options{}},
	{"http1/half/inside-response-body", `send $get; recv "half"; shut; recv "halves"`, `recv head; send $head-10 "half"; pause 2500ms; send "halves"`, options{}},
	{"http1/half/inside-response-chunks", `send $get; recv "half"; shut; recv "0\r\n\r\n"`, `recv head; send $head-te "4\r\nhalf\r\n"; pause 2500ms; send "0\r\n\r\n"`, options{}},
	{"http1/half/inside-response-to-end", `send $get; recv "half"; shut; end`, `recv head; send $head-all "half"; pause 2500ms; send "halves"; close`, options{}},
	{"http1/half/much-after", `send $get; shut; recv head; end`, `recv head; send "HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\nConnection: close\r\n\r\n"; send #3000000; close`, options{}},
	{"http1/half/slowly-after", `send $get; shut; end`, `recv head; send $head-te; repeat 10 { pause 300ms; send "2\r\nab\r\n" }; send "0\r\n\r\n"; close`, options{}},
	{"http1/half/two-requests", `send $get $get-b; shut; recv "ok"; recv "ok"`, `recv head; pause 300ms; send $ok; recv head; pause 2500ms; send $ok`, options{}},
	{"http1/half/second-request", `send $get; recv "ok"; send $get-b; shut; recv "ok"`, `recv head; send $ok; recv head; pause 2500ms; send $ok`, options{}},
	{"http1/half/late-shut", `send $get; pause 500ms; shut; recv "ok"`, `recv head; pause 3s; send $ok`, options{}},
	{"http1/half/then-client-resets", `send $get; shut; await got; pause 500ms; reset`, `recv head; tell got; end; repeat 5 { pause 300ms; send "x" }`, short},
	{"http1/half/then-server-resets", `send $get; shut; end`, `recv head; pause 500ms; reset`, short},
	{"http1/half/then-server-closes", `send $get; shut; end`, `recv head; pause 500ms; close`, short},

	// The server ends its direction.
	{"http1/half/server-shuts-after-answer", `send $get; end; close`, `recv head; send $ok-close; shut; end; close`, short},
	{"http1/half/server-shuts-in-upload", `send $post-1m; recv "ok"; send #1000000; end`, `recv head; send $ok-close; shut; end; close`, short},
	{"http1/half/server-shuts-before-answer", `send $get; end`, `recv head; shut; end`, short},
}
