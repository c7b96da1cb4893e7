package wire

import "time"

// silentRows are connections on which nothing has been said, or half of it.
var silentRows = []row{
	{"silent/server-closes", `tell in; end`, `await in; close`, v6},
	{"silent/server-resets", `tell in; end`, `await in; reset`, v6},
	{"silent/server-resets-later", `end`, `pause 300ms; reset`, options{}},
	{"silent/server-shuts-then-reads", `end; send "hello\n"; close`, `shut; recv "\n"; end`, options{}},
	{"silent/client-closes", `await accepted; close`, `tell accepted; end`, v6},
	{"silent/client-resets", `await accepted; reset`, `tell accepted; end`, v6},
	{"silent/client-resets-later", `await accepted; pause 300ms; reset`, `tell accepted; end`, options{}},
	{"silent/client-shuts", `await accepted; shut; end`, `tell accepted; end; send "bye\n"; close`, options{}},
	{"silent/client-shuts-at-once", `shut; end`, `end; send "bye\n"; close`, options{}},
	{"silent/client-shuts-late-answer", `await accepted; shut; end`, `tell accepted; end; pause 1500ms; send "bye\n"; close`, options{}},
	{"silent/both-then-request", `pause 3s; send $get; recv "ok"`, `recv head; send $ok`, options{}},
	{"silent/both-then-banner", `recv "\n"; send "quit\n"; end`, `pause 3s; send "hello\n"; recv "\n"; close`, options{}},
	{"silent/both-for-long", `quiet 4s; close`, `pause 3900ms; end`, options{limit: 8 * time.Second}},
	{"silent/between-requests", `send $get; recv "ok"; pause 3s; send $get; recv "ok"`, `loop { recv head; send $ok }`, options{}},
	{"silent/inside-response", `send $get; recv "ok"`, `recv head; send "HTTP/1.1 200 OK\r\n"; pause 3s; send "Content-Length: 2\r\n\r\nok"`, options{}},
	{"silent/inside-request", `send "GET / HTTP/1.1\r\n"; pause 3s; send "Host: x\r\n\r\n"; recv "ok"`, `recv head; send $ok`, options{}},

	// A banner and a request cross.
	{"silent/banner-and-request", `send $get; tell sent; recv "\n"; recv "ok"`, `await sent; send "hello\n"; recv head; send $ok`, options{}},

	// First bytes that are no request.
	{"first/word", `send "ping\n"; recv "\n"; close`, `recv "\n"; send "pong\n"; end`, v6},
	{"first/word-without-end", `send "ruok"; recv "imok"; end`, `recv 4; send "imok"; close`, v6},
	{"first/handshake", `send "JDWP-Handshake"; recv "JDWP-Handshake"; end`, `recv 14; send "JDWP-Handshake"; close`, options{}},
	{"first/git", `send "0032git-upload-pack /x.git\x00host=h\x00"; recv "refs"; end`, `recv "host=h\x00"; send "refs"; close`, options{}},
	{"first/method", `send "GET"; recv "what?"; end`, `recv 3; send "what?"; close`, options{}},
	{"first/line-without-version", `send "GET /\r\n"; end`, `recv "\n"; send "<html>"; close`, options{}},
	{"first/preface-cut", `send "PRI * HTTP/2"; recv "what?"; end`, `recv 12; send "what?"; close`, options{}},
	{"first/hello-cut", `send "\x16\x03\x01\x00\xa5\x01"; recv "what?"; end`, `recv 6; send "what?"; close`, options{}},
	{"first/one-byte", `send "a"; recv "b"; send "c"; recv "d"; end`, `recv 1; send "b"; recv 1; send "d"; close`, options{}},
	{"first/nul", `send "\x00"; recv "b"; end`, `recv 1; send "b"; close`, options{}},
	{"first/shut-after-word", `send "ping"; shut; end`, `end; send "pong"; close`, options{}},
	{"first/shut-after-method", `send "GET "; shut; end`, `end; send "pong"; close`, options{}},
	{"first/shut-inside-line", `send "GET / HT"; shut; end`, `end; send "pong"; close`, options{}},
	{"first/reset-after-word", `send "ping"; await got; reset`, `recv 4; tell got; end`, options{}},
	{"first/reset-after-method", `send "GET "; await got; reset`, `recv 4; tell got; end`, options{}},
	{"first/close-after-word", `send "ping"; close`, `recv 4; end`, options{}},
	{"first/server-resets-word", `send "ping"; end`, `recv 4; reset`, options{}},
	{"first/server-resets-method", `send "GET "; end`, `recv 4; reset`, options{}},
	{"first/server-closes-method", `send "GET "; end`, `recv 4; close`, options{}},
	{"first/word-slowly", `drip "ping\n" 70ms; recv "\n"; close`, `recv "\n"; send "pong\n"; end`, v6},
	{"first/handshake-slowly", `drip "JDWP-Handshake" 30ms; recv "JDWP-Handshake"; end`, `recv 14; send "JDWP-Handshake"; close`, options{}},
	{"first/hello-slowly", `send "\x16\x03\x01\x00\x05"; pause 100ms; send "\x01\x00\x00\x01\x03"; recv "what?"; end`, `recv 10; send "what?"; close`, options{}},
	{"first/preface-slowly", `send "PRI * HTTP/2.0\r\n"; pause 100ms; send "\r\nSM\r\n\r\n" "\x00\x00\x00\x04\x00\x00\x00\x00\x00"; recv 9`, `recv "SM\r\n\r\n"; send "\x00\x00\x00\x04\x00\x00\x00\x00\x00"; pause 300ms`, options{}},
	{"first/length-prefixed", `send "\x00\x00\x00\x05hello"; recv 9; close`, `recv 9; send "\x00\x00\x00\x05world"; end`, options{}},
	{"first/get-word", `send "GET key\n"; recv "\n"; close`, `recv "\n"; send "value\n"; end`, options{}},
	{"first/get-then-silence", `send "GET /"; pause 2s; send " HTTP/1.1\r\nHost: x\r\n\r\n"; recv "ok"`, `recv head; send $ok`, options{}},
	{"first/syslog", `send "11 <13>1 hello5 <13>1"; shut; end`, `end; close`, options{}},
	{"first/zookeeper-words", `repeat 3 { send "srvr"; recv "v\n"; close; dial z }; send "srvr"; recv "v\n"`, `loop { recv 4; send "v\n" }`, options{}},
	{"first/banner-crosses", `pause 20ms; send "EHLO x\r\n"; recv "250"; close`, `pause 20ms; send "220 hi\r\n"; recv "\n"; send "250 ok\r\n"; end`, options{}},
	{"first/banner-late", `recv "\n"; send "quit\n"; end`, `pause 70ms; drip "220 hi\n" 20ms; recv "\n"; close`, options{}},
}
