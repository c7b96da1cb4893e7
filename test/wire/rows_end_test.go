package wire

// endRows end an exchange of HTTP/1 at every stage, by FIN and by reset, from
// either side.
var endRows = []row{
	// Inside the request's head.
	{"http1/end/request-head/client-closes", `send "GET / HTTP/1.1\r\nHo"; await got; close`, `recv "Ho"; tell got; end`, short},
	{"http1/end/request-head/client-resets", `send "GET / HTTP/1.1\r\nHo"; await got; reset`, `recv "Ho"; tell got; end`, short},
	{"http1/end/request-head/client-shuts", `send "GET / HTTP/1.1\r\nHo"; shut; end`, `end; send "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"; close`, short},
	{"http1/end/request-head/server-closes", `send "GET / HTTP/1.1\r\nHo"; end`, `recv "Ho"; close`, short},
	{"http1/end/request-head/server-resets", `send "GET / HTTP/1.1\r\nHo"; end`, `recv "Ho"; reset`, short},

	// Between the request's head and its body, and inside the body.
	{"http1/end/request-body-0/client-closes", `send $post-5; await got; close`, `recv head; tell got; end`, short},
	{"http1/end/request-body-0/client-resets", `send $post-5; await got; reset`, `recv head; tell got; end`, short},
	{"http1/end/request-body-0/client-shuts", `send $post-5; shut; end`, `recv head; end; send "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"; close`, short},
	{"http1/end/request-body-0/server-closes", `send $post-5; end`, `recv head; close`, short},
	{"http1/end/request-body-0/server-resets", `send $post-5; end`, `recv head; reset`, short},
	{"http1/end/request-body/client-closes", `send $post-5 "he"; await got; close`, `recv "he"; tell got; end`, short},
	{"http1/end/request-body/client-resets", `send $post-5 "he"; await got; reset`, `recv "he"; tell got; end`, short},
	{"http1/end/request-body/client-shuts", `send $post-5 "he"; shut; end`, `recv "he"; end; send "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"; close`, short},
	{"http1/end/request-body/server-closes", `send $post-5 "he"; end`, `recv "he"; close`, short},
	{"http1/end/request-body/server-resets", `send $post-5 "he"; end`, `recv "he"; reset`, short},
	{"http1/end/request-body/client-shuts-late-answer", `send $post-5 "he"; shut; end`, `recv "he"; end; pause 2500ms; send "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"; close`, options{}},
	{"http1/end/request-body/client-shuts-then-resets", `send $post-5 "he"; shut; await got; reset; tell gone`, `recv "he"; end; tell got; await gone; pause 700ms; send "x"; pause 300ms; send "y"`, short},
	{"http1/end/request-body/client-shuts-server-closes", `send $post-5 "he"; shut; end`, `recv "he"; end; close`, short},
	{"http1/end/request-body/client-shuts-server-resets", `send $post-5 "he"; shut; end`, `recv "he"; end; reset`, short},
	{"http1/end/request-chunk/client-closes", `send $post-te "5\r\nhe"; await got; close`, `recv "he"; tell got; end`, short},
	{"http1/end/request-chunk/client-resets", `send $post-te "5\r\nhe"; await got; reset`, `recv "he"; tell got; end`, short},
	{"http1/end/request-chunk/client-shuts", `send $post-te "5\r\nhello\r\n"; shut; end`, `recv "hello\r\n"; end; send "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"; close`, short},
	{"http1/end/request-chunk/server-closes", `send $post-te "5\r\nhe"; end`, `recv "he"; close`, short},
	{"http1/end/request-chunk/server-resets", `send $post-te "5\r\nhe"; end`, `recv "he"; reset`, short},

	// Before the answer.
	{"http1/end/answer/client-closes", `send $get; await got; close`, `recv head; tell got; end`, short},
	{"http1/end/answer/client-resets", `send $get; await got; reset`, `recv head; tell got; end`, short},
	{"http1/end/answer/server-closes", `send $get; end`, `recv head; close`, short},
	{"http1/end/answer/server-resets", `send $get; end`, `recv head; reset`, short},
	{"http1/end/answer/server-closes-late", `send $get; end`, `recv head; pause 500ms; close`, short},
	{"http1/end/answer/server-resets-late", `send $get; end`, `recv head; pause 500ms; reset`, short},
	{"http1/end/answer/server-closes-after-post", `send $post-5 "hello"; end`, `recv "hello"; close`, short},
	{"http1/end/answer/server-resets-after-post", `send $post-5 "hello"; end`, `recv "hello"; reset`, short},
	{"http1/end/answer/server-closes-http10", `send $get-10; end`, `recv head; close`, short},

	// Inside the response's head.
	{"http1/end/response-head/client-closes", `send $get; await got; close`, `recv head; send "HTTP/1.1 200 OK\r\nCo"; tell got; end`, short},
	{"http1/end/response-head/client-resets", `send $get; await got; reset`, `recv head; send "HTTP/1.1 200 OK\r\nCo"; tell got; end`, short},
	{"http1/end/response-head/server-closes", `send $get; end`, `recv head; send "HTTP/1.1 200 OK\r\nCo"; close`, short},
	{"http1/end/response-head/server-resets", `send $get; end`, `recv head; send "HTTP/1.1 200 OK\r\nCo"; reset`, short},

	// Between the response's head and its body.
	{"http1/end/response-body-0/client-closes", `send $get; recv head; close`, `recv head; send $head-10; end`, short},
	{"http1/end/response-body-0/client-resets", `send $get; recv head; reset`, `recv head; send $head-10; end`, short},
	{"http1/end/response-body-0/server-closes", `send $get; recv head; tell got; end`, `recv head; send $head-10; await got; close`, short},
	{"http1/end/response-body-0/server-resets", `send $get; recv head; tell got; end`, `recv head; send $head-10; await got; reset`, short},

	// Inside the body: by length, by chunks, to the end of the stream.
	{"http1/end/response-body/client-closes", `send $get; recv "half"; close`, `recv head; send $head-10 "half"; end`, short},
	{"http1/end/response-body/client-resets", `send $get; recv "half"; reset`, `recv head; send $head-10 "half"; end`, short},
	{"http1/end/response-body/server-closes", `send $get; recv "half"; tell got; end`, `recv head; send $head-10 "half"; await got; close`, short},
	{"http1/end/response-body/server-resets", `send $get; recv "half"; tell got; end`, `recv head; send $head-10 "half"; await got; reset`, short},
	{"http1/end/response-body/server-closes-at-once", `send $get; end`, `recv head; send $head-10 "half"; close`, short},
	{"http1/end/response-body/server-resets-at-once", `send $get; end`, `recv head; send $head-10 "half"; reset`, short},
	{"http1/end/response-chunk/client-resets", `send $get; recv "half"; reset`, `recv head; send $head-te "a\r\nhalf"; end`, short},
	{"http1/end/response-chunk/server-closes", `send $get; recv "half"; tell got; end`, `recv head; send $head-te "a\r\nhalf"; await got; close`, short},
	{"http1/end/response-chunk/server-resets", `send $get; recv "half"; tell got; end`, `recv head; send $head-te "a\r\nhalf"; await got; reset`, short},
	{"http1/end/response-chunks/server-closes", `send $get; recv "half\r\n"; tell got; end`, `recv head; send $head-te "4\r\nhalf\r\n"; await got; close`, short},
	{"http1/end/response-chunks/server-resets", `send $get; recv "half\r\n"; tell got; end`, `recv head; send $head-te "4\r\nhalf\r\n"; await got; reset`, short},
	{"http1/end/response-trailer/server-closes", `send $get; recv "0\r\n"; tell got; end`, `recv head; send $head-te "4\r\nhalf\r\n0\r\n"; await got; close`, short},
	{"http1/end/response-to-end/client-closes", `send $get; recv "half"; close`, `recv head; send $head-all "half"; end`, short},
	{"http1/end/response-to-end/client-resets", `send $get; recv "half"; reset`, `recv head; send $head-all "half"; end`, short},
	{"http1/end/response-to-end/server-closes", `send $get; recv "half"; tell got; end`, `recv head; send $head-all "half"; await got; close`, short},
	{"http1/end/response-to-end/server-resets", `send $get; recv "half"; tell got; end`, `recv head; send $head-all "half"; await got; reset`, short},

	// After the answer.
	{"http1/end/idle/client-closes", `send $get; recv "ok"; close`, `recv head; send $ok; end`, short},
	{"http1/end/idle/client-resets", `send $get; recv "ok"; reset`, `recv head; send $ok; end`, short},
	{"http1/end/idle/server-closes", `send $get; recv "ok"; tell got; end`, `recv head; send $ok; await got; close`, short},
	{"http1/end/idle/server-resets", `send $get; recv "ok"; tell got; end`, `recv head; send $ok; await got; reset`, short},
	{"http1/end/idle/server-closes-with-it", `send $get; end`, `recv head; send $ok; close`, short},
	{"http1/end/idle/server-closes-then-another", `send $get; recv "ok"; tell got; await closed; dial b; send $get; recv "ok"`, "recv head; send $ok; await got; close; tell closed\n--\nrecv head; send $ok", short},
	{"http1/end/idle/server-resets-then-another", `send $get; recv "ok"; tell got; await closed; dial b; send $get; recv "ok"`, "recv head; send $ok; await got; reset; tell closed\n--\nrecv head; send $ok", short},
	{"http1/end/closing/server-closes", `send $get; end`, `recv head; send $ok-close; close`, v6},
	{"http1/end/closing/server-waits", `send $get; recv "ok"; close`, `recv head; send $ok-close; end`, short},
	{"http1/end/closing/server-resets", `send $get; recv "ok"; tell got; end`, `recv head; send $ok-close; await got; reset`, short},
	{"http1/end/closing/client-asks", `send "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"; end`, `recv head; send $ok-close; close`, short},
	{"http1/end/closing/client-asks-server-waits", `send "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"; recv "ok"; close`, `recv head; send $ok-close; end`, short},
}
