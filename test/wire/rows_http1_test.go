package wire

// http1Rows are requests and responses of HTTP/1.
var http1Rows = []row{
	{"http1/get", `send $get; recv "ok"`, `recv head; send $ok`, v6},
	{"http1/two-writes", `send $get; recv "half!"`, `recv head; send "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"; send "half!"`, options{}},
	{"http1/half-close/late-answer", `send $get; shut; recv "ok"`, `recv head; pause 1500ms; send $ok`, options{}},
	{"http1/reset/inside-body", `send $get; recv "half"; tell read; end`, `recv head; send $head-10 "half"; await read; reset`, options{}},
	{"http1/end/without-a-byte", `send $get; end`, `recv head; close`, options{}},
}
