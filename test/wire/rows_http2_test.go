package wire

import "time"

// http2Rows are requests and responses of HTTP/2.
var http2Rows = []row{
	{"http2/get", `h2; open a GET /a end; head a; body a; close`, `h2; accept a; answer a 200 k=v; data a "ok" end`, v6},
	{"http2/post", `h2; open a POST /a; data a "hello"; data a "again" end; body a`, `h2; accept a; body a; answer a 200; data a "ok" end`, v6},
	{"http2/no-body", `h2; open a GET /a end; body a`, `h2; accept a; answer a 204 end`, options{}},
	{"http2/trailers", `h2; open a POST /a; data a "hello"; trailers a sum=1; body a`, `h2; accept a; body a; answer a 200; data a "ok"; trailers a sum=2`, options{}},
	{"http2/interim", `h2; open a GET /a end; head a; tell got; body a`, `h2; accept a; answer a 103 link=x; await got; answer a 200; data a "ok" end`, options{}},
	{"http2/many-interim", `h2; open a GET /a end; body a`, `h2; accept a; repeat 40 { answer a 102 }; answer a 200; data a "ok" end`, options{}},
	{"http2/much-down", `h2; open a GET /a end; body a`, `h2; accept a; answer a 200; data a #1000000 end`, v6},
	{"http2/much-up", `h2; open a POST /a; data a #1000000 end; body a`, `h2; accept a; body a; answer a 200 end`, v6},
	{"http2/both-ways", `h2; open a POST /a; data a "one"; got a 3; data a "two" end; body a`, `h2; accept a; got a 3; answer a 200; data a "eno"; body a; data a "owt" end`, v6},
	{"http2/one-after-the-other", `h2; repeat 20 { open a GET /a end; body a }`, `h2; repeat 20 { accept a; answer a 200; data a "ok" end }`, options{}},
	{"http2/in-pieces", `nagle; h2; repeat 10 { open a POST /a; data a "hello" end; body a }`, `nagle; h2; repeat 10 { accept a; body a; answer a 200; data a "o"; data a "k" end }`, options{}},
	{"http2/small-window", `h2 window=100; open a GET /a end; body a`, `h2 window=100; accept a; answer a 200; data a #1000 end`, options{}},
	{"http2/empty-end", `h2; open a POST /a; data a end; body a`, `h2; accept a; body a; answer a 200; data a end`, options{}},
	{"http2/empty-data", `h2; open a GET /a end; body a`, `h2; accept a; answer a 200; empties a 3000; data a "ok" end`, options{}},
	{"http2/empty-data-100", `h2; open a GET /a end; body a`, `h2; accept a; answer a 200; empties a 100; data a "ok" end`, options{}},
	{"http2/empty-data-in-request", `h2; open a POST /a; empties a 100; data a "hello" end; body a`, `h2; accept a; body a; answer a 200; data a "ok" end`, options{}},
	{"http2/silence", `h2; pause 2s; open a GET /a end; body a`, `h2; accept a; answer a 200; data a "ok" end`, options{}},
	{"http2/silence-in-stream", `h2; open a GET /a end; body a`, `h2; accept a; answer a 200; data a "o"; pause 3s; data a "k" end`, options{}},
	{"http2/space-around-value", `h2; open a GET /a end x=_v_; body a`, `h2; accept a; answer a 200 y=_v_; data a "ok"; trailers a z=_v_`, short},
	{"http2/space-in-response", `h2; open a GET /a end; head a; body a`, `h2; accept a; answer a 200 y=_v_; data a "ok" end`, short},
	{"http2/space-in-trailers", `h2; open a GET /a end; body a`, `h2; accept a; answer a 200; data a "ok"; trailers a z=_v_`, short},
	{"http2/connection-field", `h2; open a GET /a end; body a`, `h2; accept a; answer a 200 connection=close; data a "ok" end`, short},
	{"http2/length", `h2; open a GET /a end; body a`, `h2; accept a; answer a 200 content-length=2; data a "ok" end`, options{}},
	{"http2/length-short", `h2; open a GET /a end; got a 2; body a`, `h2; accept a; answer a 200 content-length=5; data a "ok" end`, short},
	{"http2/length-of-head", `h2; open a HEAD /a end; body a`, `h2; accept a; answer a 200 content-length=5 end`, options{}},
	{"http2/304-length", `h2; open a GET /a end; body a`, `h2; accept a; answer a 304 content-length=5 end`, options{}},
	{"http2/204-length", `h2; open a GET /a end; body a`, `h2; accept a; answer a 204 content-length=5 end`, short},
	{"http2/expect", `h2; open a POST /a expect=100-continue; head a; data a "hello" end; body a`, `h2; accept a; answer a 100; body a; answer a 200; data a "ok" end`, options{}},
	{"http2/connect", `h2; open a CONNECT y:80; head a; data a "ping"; got a 4; data a end; body a`, `h2; accept a; answer a 200; got a 4; data a "pong"; body a; data a end`, options{}},

	// A stream ends early, by RST_STREAM from either side, at every stage.
	{"http2/rst/client-at-once", `h2; open a GET /a end; await got; rst a CANCEL; open b GET /b end; body b`, `h2; accept a; tell got; body a; accept b; answer b 200 end`, options{}},
	{"http2/rst/client-before-body", `h2; open a POST /a; await got; rst a CANCEL; open b GET /b end; body b`, `h2; accept a; tell got; body a; accept b; answer b 200 end`, options{}},
	{"http2/rst/client-in-body", `h2; open a POST /a; data a "he"; await got; rst a CANCEL; open b GET /b end; body b`, `h2; accept a; got a 2; tell got; body a; accept b; answer b 200 end`, v6},
	{"http2/rst/client-after-head", `h2; open a POST /a; head a; rst a CANCEL; open b GET /b end; body b`, `h2; accept a; answer a 200; body a; accept b; answer b 200 end`, options{}},
	{"http2/rst/client-in-answer", `h2; open a POST /a; got a 2; rst a CANCEL; open b GET /b end; body b`, `h2; accept a; answer a 200; data a "ok"; body a; accept b; answer b 200 end`, options{}},
	{"http2/rst/client-with-error", `h2; open a POST /a; await got; rst a INTERNAL_ERROR; open b GET /b end; body b`, `h2; accept a; tell got; body a; accept b; answer b 200 end`, options{}},
	{"http2/rst/server-at-once", `h2; open a GET /a end; body a; open b GET /b end; body b`, `h2; accept a; rst a CANCEL; accept b; answer b 200 end`, options{}},
	{"http2/rst/server-internal", `h2; open a GET /a end; body a; open b GET /b end; body b`, `h2; accept a; rst a INTERNAL_ERROR; accept b; answer b 200 end`, v6},
	{"http2/rst/server-in-request", `h2; open a POST /a; data a "he"; body a; open b GET /b end; body b`, `h2; accept a; got a 2; rst a CANCEL; accept b; answer b 200 end`, options{}},
	{"http2/rst/server-after-head", `h2; open a GET /a end; head a; body a; open b GET /b end; body b`, `h2; accept a; answer a 200; rst a CANCEL; accept b; answer b 200 end`, options{}},
	{"http2/rst/server-in-answer", `h2; open a GET /a end; got a 2; tell got; body a; open b GET /b end; body b`, `h2; accept a; answer a 200; data a "ok"; await got; rst a INTERNAL_ERROR; accept b; answer b 200 end`, options{}},
	{"http2/rst/server-no-error-early", `h2; open a POST /a; data a "he"; body a; open b GET /b end; body b`, `h2; accept a; got a 2; answer a 413 end; rst a NO_ERROR; accept b; answer b 200 end`, options{}},
	{"http2/rst/server-refuses", `h2; open a GET /a end; body a`, "h2; accept a; rst a REFUSED_STREAM; serve\n--\nh2; serve", options{}},
	{"http2/rst/server-refuses-post", `h2; open a POST /a; data a "hello" end; body a`, "h2; accept a; rst a REFUSED_STREAM; serve\n--\nh2; serve", options{}},

	// An early answer.
	{"http2/early/answer", `h2; open a POST /a; data a "he"; body a; data a "llo" end; open b GET /b end; body b`, `h2; accept a; got a 2; answer a 413; data a "big" end; accept b; answer b 200 end`, options{}},
	{"http2/early/answer-then-rst-by-client", `h2; open a POST /a; data a "he"; body a; rst a CANCEL; open b GET /b end; body b`, `h2; accept a; got a 2; answer a 413; data a "big" end; accept b; answer b 200 end`, options{}},

	// GOAWAY, and the end of the connection.
	{"http2/goaway/server-idle", `h2; open a GET /a end; body a; tell got; ended`, `h2; accept a; answer a 200 end; await got; goaway last=a; close`, short},
	{"http2/goaway/server-in-stream", `h2; open a GET /a end; head a; body a`, `h2; accept a; answer a 200; goaway last=a; pause 300ms; data a "ok" end; pause 300ms; close`, options{}},
	{"http2/goaway/server-not-processed", `h2; open a GET /a end; body a`, "h2; accept a; goaway; close\n--\nh2; serve", options{}},
	{"http2/goaway/server-then-another", `h2; open a GET /a end; body a; tell got; await gone; dial b; h2; open b GET /b end; body b`, "h2; accept a; answer a 200 end; await got; goaway last=a; close; tell gone\n--\nh2; serve", options{}},
	{"http2/goaway/server-error", `h2; open a GET /a end; body a`, `h2; accept a; goaway INTERNAL_ERROR last=a; close`, short},
	{"http2/goaway/client-idle", `h2; open a GET /a end; body a; goaway; close`, `h2; accept a; answer a 200 end; ended`, short},
	{"http2/goaway/client-in-stream", `h2; open a GET /a end; await got; goaway; body a; close`, `h2; accept a; tell got; pause 500ms; answer a 200; data a "ok" end`, options{}},
	{"http2/end/server-closes", `h2; open a GET /a end; head a; tell got; body a`, `h2; accept a; answer a 200; await got; close`, short},
	{"http2/end/server-resets", `h2; open a GET /a end; head a; tell got; body a`, `h2; accept a; answer a 200; await got; reset`, short},
	{"http2/end/server-closes-before-answer", `h2; open a GET /a end; body a`, `h2; accept a; close`, short},
	{"http2/end/server-resets-before-answer", `h2; open a GET /a end; body a`, `h2; accept a; reset`, short},
	{"http2/end/server-closes-in-upload", `h2; open a POST /a; data a "he"; body a`, `h2; accept a; got a 2; close`, short},
	{"http2/end/server-closes-on-two", `h2; open a GET /a end; open b GET /b end; await got; body a; body b`, `h2; accept a; accept b; tell got; answer a 200; close`, short},
	{"http2/end/client-closes", `h2; open a GET /a end; await got; close`, `h2; accept a; tell got; body a`, short},
	{"http2/end/client-resets", `h2; open a GET /a end; await got; reset`, `h2; accept a; tell got; body a`, short},
	{"http2/end/client-shuts", `h2; open a GET /a end; shut; body a`, `h2; accept a; pause 300ms; answer a 200; data a "ok" end`, options{}},
	{"http2/end/client-shuts-late-answer", `h2; open a GET /a end; shut; body a`, `h2; accept a; pause 2500ms; answer a 200; data a "ok" end`, options{}},
	{"http2/end/client-closes-in-upload", `h2; open a POST /a; data a "he"; await got; close`, `h2; accept a; got a 2; tell got; body a`, short},
	{"http2/end/client-resets-in-download", `h2; open a GET /a end; got a 2; reset`, `h2; accept a; answer a 200; data a "ok"; body a; ended`, short},
	{"http2/end/client-closes-idle", `h2; open a GET /a end; body a; close`, `h2; accept a; answer a 200 end; ended`, short},
	{"http2/end/server-closes-silent", `h2; ended`, `h2; close`, short},

	// Many streams, and few.
	{"http2/many/100", `h2; many 100 GET /`, `h2; serve`, v6},
	{"http2/many/100-to-20", `h2; many 100 GET /`, `h2 streams=20; serve delay=20ms`, options{limit: 20 * time.Second, slack: 2 * time.Second}},
	{"http2/many/100-to-1", `h2; many 100 GET /`, `h2 streams=1; serve delay=5ms`, options{limit: 30 * time.Second, slack: 5 * time.Second}},
	{"http2/many/20-to-1-slowly", `h2; many 20 GET /`, `h2 streams=1; serve delay=100ms`, options{limit: 10 * time.Second}},
	{"http2/many/300", `h2; many 300 GET /`, `h2; serve delay=100ms`, options{limit: 10 * time.Second}},
	{"http2/many/beside-250", `h2; many 249 GET /hang reset=1s; open a GET /a end; body a`, `h2; serve`, options{limit: 10 * time.Second}},
	{"http2/many/251", `h2; many 251 GET /hang reset=1s; open a GET /a end; body a`, `h2; serve`, options{limit: 10 * time.Second}},
	{"http2/many/beside-600", `h2; repeat 600 { open a GET /hang end }; many 100 GET /`, `h2; serve`, options{limit: 10 * time.Second}},
	{"http2/deadlines/150", `h2; many 150 GET /hang reset=1s; many 10 GET /`, `h2; serve`, deadlines},
	{"http2/deadlines/400", `h2; many 200 GET /hang reset=1s; many 200 GET /hang reset=1s; many 10 GET /`, `h2; serve`, deadlines},
	{"http2/deadlines/20ms", `h2; repeat 8 { many 100 GET /hang reset=20ms }; many 10 GET /`, `h2; serve`, deadlines},
	{"http2/deadlines/other-client", `h2; dial b; h2; use first; many 200 GET /hang reset=1s; many 200 GET /hang reset=1s; use b; many 10 GET /; use first; many 10 GET /`, `h2; serve`, deadlines},

	// A stream that stalls beside quick ones.
	{"http2/stall/download", `h2; open a GET /a end; stall a; head a; pause 300ms; open b GET /b end; body b; rst a CANCEL`, `h2; accept a; answer a 200; accept b; tell b; answer b 200; data b "ok" end`, options{}},
	{"http2/stall/downloads", stalledDownloads, `h2; serve`, options{limit: 10 * time.Second}},
	{"http2/stall/five-uploads", `h2; repeat 5 { open a POST /hang; pour a 10000000 }; pause 300ms; many 20 GET /`, `h2; serve`, options{}},
	{"http2/stall/uploads", stalledUploads, `h2; serve`, options{}},
	{"http2/stall/other-client", `h2; dial b; h2; use first; repeat 20 { open a GET /big end; stall a; head a }; repeat 5 { open c POST /hang; pour c 10000000 }; pause 300ms; use b; many 20 GET /`, `h2; serve`, options{limit: 10 * time.Second}},
	{"http2/stall/resumes-upload", `h2; open a POST /a; pour a 3000000; open b POST /b; data b "x" end; body b; body a`, `h2; accept a; accept b; answer b 200 end; pause 500ms; answer a 200 end`, options{}},
	{"http2/early/pour", `h2; open a POST /a; pour a 3000000; body a; open b GET /b end; body b`, `h2; accept a; got a 1000; answer a 413 end; rst a NO_ERROR; accept b; answer b 200 end`, options{}},
	{"http2/early/answer-goes-on", `h2; open a POST /a; data a "he"; head a; data a "llo" end; body a`, `h2; accept a; got a 2; answer a 200; body a; data a "ok" end`, options{}},
}

var deadlines = options{limit: 10 * time.Second, slack: 2 * time.Second}

// stalledDownloads and stalledUploads are streams that do not move, and then
// requests of the same client.
var (
	stalledDownloads = `h2; repeat 20 { open a GET /big end; stall a; head a }; many 20 GET /`
	stalledUploads   = `h2; repeat 20 { open a POST /hang; pour a 10000000 }; pause 300ms; many 20 GET /`
)

// grpcRows are calls of gRPC: \x00\x00\x00\x00\x02 is the prefix of a message of
// two bytes.
var grpcRows = []row{
	{"grpc/unary", `h2; open a POST /s/m content-type=application/grpc te=trailers; data a "\x00\x00\x00\x00\x02hi" end; head a; body a`, `h2; accept a; body a; answer a 200 content-type=application/grpc; data a "\x00\x00\x00\x00\x02ok"; trailers a grpc-status=0`, v6},
	{"grpc/trailers-only", `h2; open a POST /s/m content-type=application/grpc te=trailers; data a "\x00\x00\x00\x00\x02hi" end; head a; body a`, `h2; accept a; body a; answer a 200 content-type=application/grpc grpc-status=5 grpc-message=no end`, options{}},
	{"grpc/status-after-head", `h2; open a POST /s/m content-type=application/grpc te=trailers; data a "\x00\x00\x00\x00\x02hi" end; head a; body a`, `h2; accept a; body a; answer a 200 content-type=application/grpc; trailers a grpc-status=14`, options{}},
	{"grpc/streams", `h2; open a POST /s/m content-type=application/grpc te=trailers; repeat 5 { data a "\x00\x00\x00\x00\x02hi" }; got a 35; data a end; body a`, `h2; accept a; answer a 200 content-type=application/grpc; repeat 5 { data a "\x00\x00\x00\x00\x02ok" }; body a; trailers a grpc-status=0`, options{}},
	{"grpc/cancelled", `h2; open a POST /s/m content-type=application/grpc te=trailers grpc-timeout=1S; data a "\x00\x00\x00\x00\x02hi" end; await got; rst a CANCEL`, `h2; accept a; tell got; body a; body a`, options{}},
	{"grpc/server-resets", `h2; open a POST /s/m content-type=application/grpc te=trailers; data a "\x00\x00\x00\x00\x02hi" end; head a; body a`, `h2; accept a; body a; answer a 200 content-type=application/grpc; rst a INTERNAL_ERROR`, options{}},
	{"grpc/space-in-status", `h2; open a POST /s/m content-type=application/grpc te=trailers; data a "\x00\x00\x00\x00\x02hi" end; body a`, `h2; accept a; body a; answer a 200 content-type=application/grpc; trailers a grpc-status=3 grpc-message=_no_`, short},
	{"grpc/connection-closes", `h2; open a POST /s/m content-type=application/grpc te=trailers; data a "\x00\x00\x00\x00\x02hi" end; body a`, `h2; accept a; body a; close`, short},
	{"grpc/connection-closes-after-head", `h2; open a POST /s/m content-type=application/grpc te=trailers; data a "\x00\x00\x00\x00\x02hi" end; head a; tell got; body a`, `h2; accept a; answer a 200 content-type=application/grpc; await got; close`, short},
}
