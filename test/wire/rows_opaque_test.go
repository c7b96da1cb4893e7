package wire

// opaqueRows are protocols that are not HTTP.
var opaqueRows = []row{
	{"opaque/server-first", `recv "\n"; send "quit\n"; end`, `send "hello\n"; recv "\n"; send "bye\n"; close`, v6},
	{"opaque/client-first", `send "hello\n"; recv "\n"; shut; end`, `recv "\n"; send "welcome\n"; end; close`, v6},
	{"opaque/half-close-late-answer", `send "hello\n"; shut; end`, `recv "\n"; end; pause 1500ms; send "late\n"; close`, options{}},
	{"opaque/reset-by-server", `send "hello\n"; recv "ok\n"; tell read; end`, `recv "\n"; send "ok\n"; await read; reset`, options{}},
	{"opaque/reset-by-client", `send "hello\n"; recv "ok\n"; reset`, `recv "\n"; send "ok\n"; end`, options{}},
}
