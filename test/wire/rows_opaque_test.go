package wire

import "time"

// opaqueRows are protocols that are not HTTP.
var opaqueRows = []row{
	{"opaque/server-first", `recv "\n"; send "quit\n"; end`, `send "hello\n"; recv "\n"; send "bye\n"; close`, v6},
	{"opaque/client-first", `send "hello\n"; recv "\n"; shut; end`, `recv "\n"; send "welcome\n"; end; close`, v6},
	{"opaque/many-turns", `repeat 100 { send "hello\n"; recv "\n" }; close`, `repeat 100 { recv "\n"; send "hi\n" }; end`, turns},
	{"opaque/many-turns-in-pieces", `nagle; repeat 50 { send "hel"; send "lo\n"; recv "\n" }; close`, `nagle; repeat 50 { recv "\n"; send "h"; send "i\n" }; end`, turns},
	{"opaque/one-byte-writes", `drip "hello, how are you?\n"; recv "\n"; end`, `recv "\n"; drip "thank you, and you?\n"; close`, options{}},

	{"opaque/half-close/at-once", `send "hello\n"; shut; end`, `recv "\n"; end; send "late\n"; close`, v6},
	{"opaque/half-close/300ms", `send "hello\n"; shut; end`, `recv "\n"; end; pause 300ms; send "late\n"; close`, options{}},
	{"opaque/half-close/1500ms", `send "hello\n"; shut; end`, `recv "\n"; end; pause 1500ms; send "late\n"; close`, options{}},
	{"opaque/half-close/3000ms", `send "hello\n"; shut; end`, `recv "\n"; end; pause 3s; send "late\n"; close`, options{}},
	{"opaque/half-close/much-after", `send "hello\n"; shut; end`, `recv "\n"; end; send #3000000; close`, options{}},
	{"opaque/half-close/by-server", `send "hello\n"; end; send #300000; close`, `recv "\n"; send "hi\n"; shut; end; close`, options{}},
	{"opaque/half-close/by-server-late", `send "hello\n"; end; pause 1500ms; send "more\n"; close`, `recv "\n"; send "hi\n"; shut; end; close`, options{}},
	{"opaque/half-close/by-server-first", `end; send "hello\n"; close`, `send "hi\n"; shut; end; close`, options{}},
	{"opaque/half-close/both", `send "hello\n"; shut; end`, `recv "\n"; shut; end`, options{}},
	{"opaque/half-close/slow-drain", `send "put\n" #300000; shut; end`, `rcvbuf 4096; repeat 30 { recv 10000; pause 30ms }; end; pause 500ms; send "thanks\n"; close`, options{slack: 2 * time.Second}},
	{"opaque/half-close/server-streams", `send "go\n"; shut; end`, `recv "\n"; end; repeat 10 { send "tick\n"; pause 200ms }; close`, options{}},
	{"opaque/half-close/after-banner", `recv "\n"; send "quit\n"; shut; end`, `send "220 hi\n"; recv "\n"; end; pause 500ms; send "221 bye\n"; close`, options{}},
	{"opaque/half-close/server-shuts-then-client-uploads", `send "put\n"; end; repeat 5 { send "part\n"; pause 200ms }; close`, `recv "\n"; shut; end; close`, options{}},

	{"opaque/reset/by-server-at-once", `send "hello\n"; end`, `recv "\n"; reset`, options{}},
	{"opaque/reset/by-server", `send "hello\n"; recv "ok\n"; tell read; end`, `recv "\n"; send "ok\n"; await read; reset`, v6},
	{"opaque/reset/by-server-behind-bytes", `send "hello\n"; end`, `recv "\n"; send "ok\n"; reset`, options{}},
	{"opaque/reset/by-server-then-write", `send "hello\n"; recv "ok\n"; tell read; end; send "x"`, `recv "\n"; send "ok\n"; await read; reset`, options{}},
	{"opaque/reset/by-server-with-unread", `send "hello\n" "unread"; end`, `recv 3; close`, options{}},
	{"opaque/reset/by-client", `send "hello\n"; recv "ok\n"; reset`, `recv "\n"; send "ok\n"; end`, v6},
	{"opaque/reset/by-client-at-once", `send "hello\n"; await got; reset`, `recv "\n"; tell got; end`, options{}},
	{"opaque/reset/by-client-idle", `send "hello\n"; recv "ok\n"; pause 1s; reset`, `recv "\n"; send "ok\n"; end`, options{}},
	{"opaque/reset/by-client-after-shut", `send "hello\n"; shut; await eof; reset`, `recv "\n"; end; tell eof; repeat 5 { pause 300ms; send "x" }`, options{slack: 2 * time.Second}},
	{"opaque/reset/by-client-in-download", `send "hello\n"; recv 100000; reset`, `recv "\n"; send #30000000`, options{}},
	{"opaque/reset/by-server-in-upload", `send #30000000`, `recv 100000; reset`, options{}},
	{"opaque/reset/by-server-after-shut", `send "hello\n"; recv "hi\n"; end; tell eof; repeat 5 { pause 300ms; send "x" }`, `recv "\n"; send "hi\n"; shut; await eof; reset`, options{slack: 2 * time.Second}},

	{"opaque/much/download", `send "get\n"; end`, `recv "\n"; send #5000000; close`, v6},
	{"opaque/much/upload", `send "put\n" #5000000; shut; end`, `end; send "thanks\n"; close`, v6},
	{"opaque/much/both-ways", `send "both\n" #40000; recv 5; send #200000; shut; end`, `recv "\n"; send "here\n" #100000; end; close`, options{}},
	{"opaque/much/through-a-small-window", `rcvbuf 4096; send "get\n"; end`, `sndbuf 4096; recv "\n"; send #50000; close`, options{}},
	{"opaque/much/into-a-small-window", `sndbuf 4096; send #50000; shut; end`, `rcvbuf 4096; end; send "thanks\n"; close`, options{}},
	{"opaque/much/stalled-download", `send "get\n"; await full; recv 100000`, `recv "\n"; fill 100000000; tell full`, options{slack: 3 * time.Second}},
	{"opaque/much/stalled-upload", `send "put\n"; fill 100000000; tell full; recv "thanks"`, `await full; recv "\n"; recv 100000; send "thanks"`, options{slack: 3 * time.Second}},
	{"opaque/much/never-read", `send "put\n"; fill 100000000; tell full; end`, `await full; reset`, options{slack: 3 * time.Second}},

	{"opaque/urgent", `send "hello"; urgent "!"; send "there\n"; recv "ok\n"`, `oobinline; recv "\n"; send "ok\n"`, v6},
	{"opaque/urgent-apart", `send "hello"; recv "a"; urgent "!"; await oob; send "there\n"; recv "ok\n"`, `recv 5; send "a"; recv oob; tell oob; recv "\n"; send "ok\n"`, options{}},
	{"opaque/urgent-by-server", `oobinline; send "hello\n"; recv "\n"`, `recv "\n"; send "a"; urgent "!"; send "b\n"`, options{}},
	{"opaque/urgent-first", `urgent "!"; send "hello\n"; recv "ok\n"`, `oobinline; recv "\n"; send "ok\n"`, options{}},
	{"opaque/urgent-then-shut", `send "hello"; urgent "!"; shut; end`, `oobinline; end; send "ok\n"; close`, v6},
	{"opaque/urgent-two", `send "a"; recv "1"; urgent "!"; recv "2"; urgent "?"; send "b\n"; recv "ok\n"`, `oobinline; recv "a"; send "1"; recv "!"; send "2"; recv "\n"; send "ok\n"`, options{}},
	{"opaque/urgent-both-ways", `oobinline; send "hello"; urgent "!"; recv "a?b\n"`, `oobinline; recv "!"; send "a"; urgent "?"; send "b\n"`, options{}},
	{"opaque/urgent-behind-much", `send #1000000; urgent "!"; send "end\n"; recv "ok\n"`, `oobinline; recv "end\n"; send "ok\n"`, options{}},
	{"opaque/urgent-then-reset", `send "hello"; recv "a"; urgent "!"; await seen; reset`, `oobinline; recv 5; send "a"; recv "!"; tell seen; end`, options{}},

	{"opaque/source-port/own", `dial b own; send "a\n"; recv "\n"; close`, `loop { recv "\n"; send "ok\n" }`, v6},
	{"opaque/source-port/two-destinations", `dial b own; send "b\n"; recv "\n"; dial c own second; send "c\n"; recv "\n"`, `second; loop { recv "\n"; send "ok\n" }`, v6},
	{"opaque/many-connections", `send "a\n"; recv "\n"; dial b; send "b\n"; recv "\n"; dial c; send "c\n"; recv "\n"; use b; send "again\n"; recv "\n"`, `loop { recv "\n"; send "ok\n" }`, options{}},
}
