package wire

import (
	"fmt"
	"strconv"
	"time"
)

// turnRows are about who writes when: in how many writes, before it is asked,
// before the other is through.
var turnRows = append([]row{
	{"pieces/head-and-body", `nagle; repeat 50 { send $get; recv "half!" }`, `nagle; loop { recv head; send "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"; send "half!" }`, turns},
	{"pieces/chunks", `nagle; repeat 50 { send $get; recv "0\r\n\r\n" }`, `nagle; loop { recv head; send $head-te; send "2\r\nok\r\n"; send "0\r\n\r\n" }`, turns},
	{"pieces/request", `nagle; repeat 50 { send $post-5; send "hello"; recv "ok" }`, `nagle; loop { recv head; recv "hello"; send $ok }`, turns},
	{"pieces/request-line", `nagle; repeat 50 { send "GET / HTTP/1.1\r\n"; send "Host: x\r\n\r\n"; recv "ok" }`, `nagle; loop { recv head; send $ok }`, turns},
	{"pieces/one-byte-request", `drip $get; recv "ok"`, `recv head; send $ok`, v6},
	{"pieces/one-byte-slow-request", `drip $get 70ms; recv "ok"`, `recv head; send $ok`, options{}},
	{"pieces/one-byte-second-request", `send $get; recv "ok"; drip $get 20ms; recv "ok"`, `recv head; send $ok; recv head; send $ok`, options{}},
	{"pieces/one-byte-response", `send $get; recv "ok"`, `recv head; drip $ok`, v6},
	{"pieces/one-byte-slow-response", `send $get; recv "ok"`, `recv head; drip $ok 30ms`, options{}},
	{"pieces/one-byte-body", `send $post-5; drip "hello" 100ms; recv "ok"`, `recv "hello"; send $head-te; drip "2\r\nok\r\n0\r\n\r\n" 30ms`, options{}},

	{"pipeline/two", `send $get $get-b; recv "ok"; recv "ok"`, `recv head; send $ok; recv head; send $ok`, v6},
	{"pipeline/twenty", fmt.Sprintf(`send %s; repeat 20 { recv "ok" }`, quoted(repeated("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 20))), `repeat 20 { recv head; send $ok }`, options{}},
	{"pipeline/post-and-get", `send $post-5 "hello" $get; recv "ok"; recv "ok"`, `recv "hello"; send $ok; recv head; send $ok`, options{}},
	{"pipeline/answers-at-once", `send $get $get-b; recv "ok"; recv "ok"`, `recv head; recv head; send $ok $ok`, short},
	{"pipeline/second-after-close", `send $get $get-b; end`, `recv head; send $ok-close; recv head; close`, short},
	{"pipeline/in-pieces", `send $get "GET /b HT"; recv "ok"; send "TP/1.1\r\nHost: x\r\n\r\n"; recv "ok"`, `loop { recv head; send $ok }`, options{}},

	{"unasked/after-answer", `send $get; recv "ok"; tell got; end`, `recv head; send $ok; await got; send $ok; close`, short},
	{"unasked/408-when-idle", `send $get; recv "ok"; tell got; end`, `recv head; send $ok; await got; send "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"; close`, short},
	{"unasked/more-than-length", `send $get; recv "ok"; send $get-b; recv "ok"`, `loop { recv head; send $ok "surplus" }`, short},

	{"early/413-close", `send $post-1m; recv "big"; tell got; end`, `recv head; send $big-close; await got; close`, short},
	{"early/413-close-in-upload", `send $post-1m #100000; recv "big"; tell got; end`, `recv head; recv 1000; send $big-close; await got; close`, short},
	{"early/413-close-lingering", `send $post-1m #100000; recv "big"; send #900000; end`, `recv head; send $big-close; shut; end; close`, short},
	{"early/413-keep-alive-drained", `send $post-1m #100000; recv "big"; send #900000 $get; recv "ok"`, `recv head; send $big; recv 1000000; recv head; send $ok`, options{}},
	{"early/413-keep-alive-client-leaves", `send $post-1m #100000; recv "big"; close; dial b; send $get-b; recv "ok"`, "recv head; send $big; end; close\n--\nrecv head; send $ok", options{}},
	{"early/413-keep-alive-client-resets", `send $post-1m #100000; recv "big"; reset; dial b; send $get-b; recv "ok"`, "recv head; send $big; end; close\n--\nrecv head; send $ok", options{}},
	{"early/413-keep-alive-many", `send $post-5; recv "big"; close; dial b; repeat 20 { send $post-5 "hello"; recv "ok" }`, "recv head; send $big; end; close\n--\nrecv \"hello\"; send $ok; loop { recv \"hello\"; send $ok }", options{}},
	{"early/413-keep-alive-slowly", `send $post-5 "he"; recv "big"; pause 1500ms; send "llo" $get; recv "ok"`, `recv "he"; send $big; recv "llo"; recv head; send $ok`, options{}},
	{"early/413-then-next-post", `send $post-5; recv "big"; send "hello" $post-5 "again"; recv "ok"`, `recv head; send $big; recv "hello"; recv "again"; send $ok`, options{}},
	{"early/401-chunked", `send $post-te "5\r\nhello\r\n"; recv "big"; send "0\r\n\r\n" $get; recv "ok"`, `recv head; send $big; recv "0\r\n\r\n"; recv head; send $ok`, options{}},
	{"early/answer-while-uploading", `send $post-te "5\r\nhello\r\n"; recv "hello"; send "5\r\nagain\r\n"; recv "again"; send "0\r\n\r\n"; recv "0\r\n\r\n"`, `recv "hello\r\n"; send $head-te "5\r\nhello\r\n"; recv "again\r\n"; send "5\r\nagain\r\n"; recv "0\r\n\r\n"; send "0\r\n\r\n"`, v6},

	{"interim/100-continue", `send $expect; recv head; send "hello"; recv "ok"`, `recv head; send $continue; recv "hello"; send $ok`, v6},
	{"interim/100-late", `send $expect; recv head; send "hello"; recv "ok"`, `recv head; pause 1500ms; send $continue; recv "hello"; send $ok`, options{}},
	{"interim/100-never", `send $expect; quiet 1s; send "hello"; recv "ok"`, `recv head; recv "hello"; send $ok`, options{}},
	{"interim/100-not-waited-for", `send $expect "hello"; recv "ok"`, `recv "hello"; send $ok`, options{}},
	{"interim/417", `send $expect; recv head; end`, `recv head; send "HTTP/1.1 417 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"; close`, short},
	{"interim/417-keep-alive", `send $expect; recv head; close; dial b; send $get; recv "ok"`, "recv head; send \"HTTP/1.1 417 No\\r\\nContent-Length: 0\\r\\n\\r\\n\"; end; close\n--\nrecv head; send $ok", options{}},
	{"interim/100-unasked", `send $get; recv "ok"`, `recv head; send $continue $ok`, options{}},
	{"interim/103", `send $get; recv head; tell got; recv "ok"`, `recv head; send $hints; await got; send $ok`, v6},
	{"interim/103-with-answer", `send $get; recv "ok"`, `recv head; send $hints $hints $ok`, options{}},
	{"interim/103-with-length", `send $get; recv "ok"`, `recv head; send "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n" $ok`, short},
	{"interim/many", `send $get; recv "ok"`, `recv head; repeat 40 { send $processing }; send $ok`, options{}},
	{"interim/many-slowly", `send $get; recv "ok"`, `recv head; repeat 40 { send $processing; pause 20ms }; send $ok`, options{}},
	{"interim/http10", `send $get-10; recv "ok"`, `recv head; send $hints $ok`, short},
	{"interim/cut", `send $get; recv head; tell got; end`, `recv head; send $hints; await got; close`, short},
	{"interim/reset", `send $get; recv head; tell got; end`, `recv head; send $hints; await got; reset`, short},

	{"upgrade/websocket", `send $upgrade; recv head; send "ping"; recv "pong"; shut; end`, `recv head; send $switching; recv "ping"; send "pong"; end; close`, v6},
	{"upgrade/bytes-at-once", `send $upgrade; recv "hello"; send "ping"; end`, `recv head; send $switching "hello"; recv "ping"; close`, options{}},
	{"upgrade/bytes-with-request", `send $upgrade "ping"; recv "pong"; close`, `recv head; send $switching; recv "ping"; send "pong"; end`, options{}},
	{"upgrade/half-close-by-client", `send $upgrade; recv head; shut; end`, `recv head; send $switching; end; pause 1500ms; send "late"; close`, options{}},
	{"upgrade/half-close-by-server", `send $upgrade; recv head; end; pause 1500ms; send "late"; close`, `recv head; send $switching; shut; end; close`, options{}},
	{"upgrade/reset-by-client", `send $upgrade; recv head; reset`, `recv head; send $switching; end`, options{}},
	{"upgrade/reset-by-server", `send $upgrade; recv head; tell got; end`, `recv head; send $switching; await got; reset`, options{}},
	{"upgrade/silence", `send $upgrade; recv head; pause 3s; send "ping"; recv "pong"`, `recv head; send $switching; recv "ping"; send "pong"`, options{}},
	{"upgrade/much", `send $upgrade; recv head; send #1000000; recv 1000000; close`, `recv head; send $switching; recv 1000000; send #1000000; end`, options{}},
	{"upgrade/refused", `send $upgrade; recv "ok"; send $get; recv "ok"`, `loop { recv head; send $ok }`, options{}},
	{"upgrade/426", `send $upgrade; recv head; send $get; recv "ok"`, `recv head; send "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 0\r\n\r\n"; recv head; send $ok`, options{}},
	{"upgrade/unasked", `send $get; recv head; end`, `recv head; send $switching; close`, short},
	{"upgrade/h2c", `send "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"; recv "ok"`, `recv head; send $ok`, options{}},

	{"connect/bytes", `send $connect; recv head; send "ping"; recv "pong"; shut; end`, `recv head; send "HTTP/1.1 200 OK\r\n\r\n"; recv "ping"; send "pong"; end; close`, options{}},
	{"connect/half-close", `send $connect; recv head; shut; end`, `recv head; send "HTTP/1.1 200 OK\r\n\r\n"; end; pause 1500ms; send "late"; close`, options{}},
	{"connect/reset-by-client", `send $connect; recv head; reset`, `recv head; send "HTTP/1.1 200 OK\r\n\r\n"; end`, options{}},
	{"connect/refused", `send $connect; recv "ok"`, `recv head; send "HTTP/1.1 405 No\r\nContent-Length: 2\r\n\r\nok"`, options{}},

	{"urgent/in-body", `send $post-5 "he"; urgent "!"; send "lo"; recv "ok"`, `oobinline; recv "he!lo"; send $ok`, options{}},

	{"beside/stalled-download", `send $get; recv head; await full; dial b; repeat 5 { send $get-b; recv "ok" }; use first; recv 100000`, "recv head; send \"HTTP/1.1 200 OK\\r\\nContent-Length: 50000000\\r\\n\\r\\n\"; flood 40000000; pause 300ms; tell full\n--\nloop { recv head; send $ok }", options{limit: 10 * time.Second}},
	{"beside/stalled-upload", `send "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n"; flood 40000000; await in; pause 300ms; dial b; repeat 5 { send $get-b; recv "ok" }; tell through`, "recv head; tell in; await through\n--\nloop { recv head; send $ok }", options{limit: 10 * time.Second}},
	{"beside/five-stalled-uploads", fiveStalledUploads, fiveStalledServers, options{limit: 10 * time.Second}},
	{"beside/stalled-answer", `send $get; await first; dial b; repeat 5 { send $get-b; recv "ok" }; tell through; use first; recv "ok"`, "recv head; tell first; await through; send $ok\n--\nloop { recv head; send $ok }", options{}},
	{"stall/own-download-then-reset", `send $get; recv head; await full; reset`, `recv head; send "HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n"; fill 50000000; tell full; end`, options{slack: 2 * time.Second}},
	{"stall/server-never-reads", `send "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n"; fill 50000000; tell full; end`, `await full; reset`, options{slack: 2 * time.Second}},
	{"stall/upgrade", `send $upgrade; recv head; fill 100000000; tell full; recv "ok"`, `recv head; send $switching; await full; recv 100000; send "ok"`, options{slack: 3 * time.Second}},
	{"urgent/in-head", `send "GET / HTTP/1.1\r\nHost: "; urgent "x"; send "\r\n\r\n"; recv "ok"`, `oobinline; recv head; send $ok`, options{}},
	{"urgent/in-answer", `oobinline; send $get; recv "o"; recv "k"`, `recv head; send "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no"; urgent "k"`, options{}},
	{"urgent/in-upgrade", `send $upgrade; recv head; send "he"; urgent "!"; send "lo\n"; recv "ok\n"`, `oobinline; recv head; send $switching; recv "\n"; send "ok\n"`, options{}},
	{"early/401-then-retry", `send $post-5; recv "big"; send "hello" $post-5 "again"; recv "ok"; send $get; recv "ok"`, `recv head; send $big; recv "hello"; recv "again"; send $ok; recv head; send $ok`, options{}},
	{"early/to-end-while-uploading", `send $post-1m #100000; recv "begin"; send #900000; end`, `recv head; send $head-all "begin"; recv 1000000; send "done"; close`, options{}},
	{"early/expect-refused-then-body", `send $expect; recv "big"; send "hello" $get; recv "ok"`, `recv head; send $big; recv "hello"; recv head; send $ok`, options{}},
	{"early/413-keep-alive-server-closes", `send $post-5 "he"; recv "big"; end`, `recv "he"; send $big; pause 300ms; close`, options{}},
	{"early/413-close-then-reset", `send $post-1m #100000; recv "big"; tell got; end`, `recv head; recv 1000; send $big-close; await got; reset`, short},
}, append(splits("split/request", "GET / HTTP/1.1\r\nHost: x\r\nX-A: b\r\n\r\n", func(a, b string) (string, string) {
	return fmt.Sprintf(`send %s; pause 10ms; send %s; recv "ok"`, a, b), `recv head; send $ok`
}), splits("split/response", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", func(a, b string) (string, string) {
	return `send $get; recv "ok"`, fmt.Sprintf(`recv head; send %s; pause 10ms; send %s`, a, b)
})...)...)

// fiveStalledUploads and fiveStalledServers: five uploads that nobody reads, and
// then requests that are answered.
var fiveStalledUploads, fiveStalledServers = func() (client, server string) {
	for i := range 5 {
		if i > 0 {
			client += fmt.Sprintf("dial s%d; ", i)
		}
		client += fmt.Sprintf(`send "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n"; flood 20000000; await in%d; `, i)
		server += fmt.Sprintf("recv head; tell in%d; await through\n--\n", i)
	}
	return client + `pause 300ms; dial b; repeat 5 { send $get-b; recv "ok" }; tell through`, server + `loop { recv head; send $ok }`
}()

// splits are rows of a message that is written in two writes, cut at every byte.
func splits(name, message string, scripts func(a, b string) (client, server string)) (out []row) {
	for i := 1; i < len(message); i++ {
		client, server := scripts(quoted(message[:i]), quoted(message[i:]))
		out = append(out, row{fmt.Sprintf("%s/%02d", name, i), client, server, options{}})
	}
	return out
}

func quoted(s string) string { return strconv.Quote(s) }

func repeated(s string, n int) string {
	out := ""
	for range n {
		out += s
	}
	return out
}
