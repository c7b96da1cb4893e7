package wire

import (
	"path"
	"slices"
	"strings"
)

// difference is something that the ends of a connection see of the mesh. One
// that does not show any more fails the test.
type difference struct {
	rows   string // patterns of path.Match
	server string // "near" or "far", both if empty
	bare   string // what the ends see only without the mesh
	meshed string // and only with it
	late   bool   // or: the same, but later
	race   bool   // it does not show every time
	why    string
}

var differences = []difference{
	{
		rows: "http1/end/answer/server-* http1/end/response-head/server-* http1/half/server-shuts-before-answer " +
			"http1/half/then-server-* interim/cut interim/reset http1/end/request-body*/server-* http1/end/request-chunk/server-* stall/server-never-reads",
		meshed: "<502 upstream-reset>",
		why:    "A server that ends the connection before its answer is told to an HTTP client by 502 (docs/reference/reasons.md).",
	},
	{
		rows: "http1/end/idle/server-closes http1/end/idle/server-resets http1/end/idle/server-closes-with-it " +
			"http1/end/closing/server-closes http1/end/closing/server-resets http1/half/server-shuts-after-answer",
		meshed: `", time-out`,
		why:    "A client's connection is not the server's: it stays when that one ends after a whole response.",
	},
	{
		rows: "unasked/408-when-idle unasked/after-answer", meshed: `client: end "", time-out`,
		why: "What a server says when it is not asked belongs to no client.",
	},
	{
		rows: "unasked/more-than-length", bare: "surplus",
		why: "What comes behind a response belongs to no client; the server's connection is closed.",
	},
	{
		rows:   "http1/end/idle/client-closes http1/end/idle/client-resets",
		meshed: `server: end "", time-out`,
		why:    "A server's connection is kept for other requests when the client's ends.",
	},
	{
		rows: "http1/half/keep-alive-then-end", meshed: `server: end "", time-out`, race: true,
		why: "A server's connection is kept for other requests where the client's end comes after the answer.",
	},
	{
		rows: "http1/end/response-body*/server-closes http1/end/response-body/server-closes-at-once " +
			"http1/end/response-chunk*/server-closes http1/end/response-trailer/server-closes",
		bare: ", fin", meshed: ", reset",
		why: "A response that its server cuts off with FIN ends in a reset, which clients cannot take for its end.",
	},
	{
		rows: "http1/end/response-head/client-closes", bare: `server: end "", reset`, meshed: `server: end "", fin`,
		why: "A part of a response's head is not passed on, so the client that closes has nothing unread: its end is a FIN.",
	},
	{
		rows: "http1/half/server-shuts-in-upload early/413-close-lingering", bare: ", time-out",
		why: "After a whole request, and a response that says close, the server's connection ends before the client's does.",
	},
	{
		rows: "early/413-close-in-upload early/413-close-then-reset", bare: ", reset", meshed: ", fin",
		why: "The reset of a server that closes with unread bytes is not passed on behind a whole response.",
	},
	{
		rows: "early/413-keep-alive-server-closes", late: true,
		why: "After a response that does not say close the client may go on: what it sends of its request within a second is discarded.",
	},
	{
		rows: "http1/end/request-head/*", bare: `GET / HTTP/1.1\r\nHo"`,
		why: "A request goes to the server when its head is whole.",
	},
	{
		rows: "http1/connection/server-closes", bare: `Connection: close\r\n`,
		why: "Connection belongs to one connection: it is taken out, and written anew only where it says something (docs/reference/http.md).",
	},
	{
		rows: "http1/connection/client-closes http1/connection/client-closes-end", bare: `Host: x\r\nConnection: close\r\n`,
		why: "Connection belongs to one connection: it is taken out, and written anew only where it says something (docs/reference/http.md).",
	},
	{
		rows: "pipeline/answers-at-once", bare: "200 OK",
		why: "Requests of one connection go on one at a time: each may go elsewhere.",
	},
	{
		rows: "pipeline/second-after-close", meshed: "okHTTP/1.1 200 OK",
		why: "A request behind one that the server has answered with close goes on another connection.",
	},
	{
		rows: "silent/banner-and-request", meshed: "502 Bad Gateway",
		why: "What is no response to a request is told by 502, bad-response.",
	},
	{
		rows: "upgrade/unasked", meshed: "<502 bad-response>",
		why: "A response that breaks the protocol is refused (docs/reference/http.md).",
	},
	{
		rows: "http1/space/folded", bare: `a\r\n b`, meshed: "a   b",
		why: "A folded line of a response is joined to the one before it (docs/reference/http.md).",
	},
	{
		rows: "http1/space/lf-response", bare: `OK\nContent`, meshed: `OK\r\nContent`,
		why: "A line of a response's head that ends in LF alone gets its CR (docs/reference/http.md).",
	},
	{
		rows: "http1/framing/length-and-chunked", bare: "Content-Length: 5",
		why: "A response that says twice where its body ends says it once (docs/reference/http.md).",
	},
	{
		rows: "http1/framing/chunked-twice", bare: `chunked\r\nTransfer-Encoding`,
		why: "A response that says twice where its body ends says it once (docs/reference/http.md).",
	},
	{
		rows: "http1/framing/length-list", bare: "2, 2",
		why: "A response that says twice where its body ends says it once (docs/reference/http.md).",
	},
	{
		rows: "http1/framing/identity", bare: "identity",
		why: "The coding identity, which says nothing, is taken out of a response (docs/reference/http.md).",
	},
	{
		rows: "http1/space/request-before-colon", meshed: "<400 bad-request>",
		why: "A request that breaks the protocol is refused (docs/reference/http.md).",
	},
	{
		rows: "http1/space/empty-line-first", bare: `"\r\nGET`,
		why: "An empty line before a request is taken out (docs/reference/http.md).",
	},
	{
		rows: "http1/large/request-70k", meshed: "<431 header-too-large>",
		why: "A header section has 64 KiB at most (docs/reference/limits.md).",
	},
	{
		rows: "http1/large/head-70k http1/large/300-fields", meshed: "<502 response-header-too-large>",
		why: "A header section has 64 KiB and 256 fields at most (docs/reference/limits.md).",
	},
	{
		rows: "upgrade/h2c", bare: "Upgrade: h2c",
		why: "Upgrade to h2c is taken out of a request: it goes on in HTTP/1 (docs/reference/http.md).",
	},
	{
		rows: "http1/status/204-chunked", bare: "Transfer-Encoding",
		why: "Framing fields of a response without a body are taken out (docs/reference/http.md).",
	},
	{
		rows: "http1/status/204-length-5 interim/103-with-length", bare: "Content-Length: 5",
		why: "Framing fields of a response without a body are taken out (docs/reference/http.md).",
	},
	{
		rows: "http2/space-around-value http2/space-in-response http2/space-in-trailers grpc/space-in-status", bare: `=" `,
		why: "White space around a value of HTTP/2 is taken out (docs/reference/http.md).",
	},
	{
		rows: "opaque/urgent-apart", meshed: "recv oob: time-out",
		why: "An urgent byte stays in its place in the stream, and is not urgent any more (docs/reference/limits.md).",
	},
	{
		rows: "opaque/urgent-first", meshed: "!hello",
		why: "An urgent byte stays in its place in the stream, which the first one without the mesh does not (docs/reference/limits.md).",
	},
	{
		rows: "http1/space/before-colon", bare: "X-Odd : v", meshed: "X-Odd: v",
		why: "White space before the colon in a response is taken out (docs/reference/http.md).",
	},
	{
		rows: "interim/http10", bare: "103 Early Hints",
		why: "Interim responses do not go to HTTP/1.0 clients (docs/reference/http.md).",
	},
	{
		rows: "http2/end/server-closes-before-answer http2/end/server-resets-before-answer http2/end/server-closes-in-upload " +
			"http2/end/server-closes-on-two http2/goaway/server-error grpc/connection-closes grpc/connection-closes-after-head",
		meshed: "<the mesh's>",
		why:    "A server whose connection ends before its answer is told to an HTTP client by 502, or by grpc-status (docs/reference/reasons.md).",
	},
	{
		rows: "http2/end/server-closes http2/end/server-resets", meshed: "rst INTERNAL_ERROR",
		why: "The end of a server's connection ends its streams, and not the client's connection.",
	},
	{
		rows: "http2/end/server-closes-silent http2/goaway/server-idle", meshed: "client: ended: time-out",
		why: "A client's connection is not the server's: it stays when that one ends.",
	},
	{
		rows:   "http2/end/client-closes-idle http2/goaway/client-idle http2/end/client-resets-in-download",
		meshed: "server: ended: time-out",
		why:    "A server's connection is kept for other requests when the client's ends.",
	},
	{
		rows: "http2/end/client-closes-in-upload", meshed: "rst CANCEL",
		why: "The end of a client's connection ends its streams, and not the server's connection.",
	},
	{
		rows: "http2/end/client-shuts http2/end/client-shuts-late-answer", meshed: "rst CANCEL",
		why: "HTTP/2 knows no half-close of a connection: its end is the client's leaving.",
	},
	{
		rows: "http2/goaway/server-not-processed http2/rst/server-refuses http2/rst/server-refuses-post", meshed: `a: body "ok", end`,
		why: "A request that the server has not processed is sent again (docs/reference/http.md).",
	},
	{
		rows: "http2/length-short", meshed: "rst INTERNAL_ERROR",
		why: "A response that breaks the protocol is refused (docs/reference/http.md).",
	},
	{
		rows: "http2/connection-field", meshed: "<the mesh's>",
		why: "A response that breaks the protocol is refused (docs/reference/http.md).",
	},
}

// differenceOf is what is known of a row to a server of a pod.
func differenceOf(name string, w way) *difference {
	for i := range differences {
		d := &differences[i]
		if (d.server == "" || d.server == w.server) && slices.ContainsFunc(strings.Fields(d.rows), func(pattern string) bool {
			ok, err := path.Match(pattern, name)
			return ok && err == nil
		}) {
			return d
		}
	}
	return nil
}

// shows says whether the difference between what was seen is this one.
func (d *difference) shows(bare, meshed string) bool {
	if d.late {
		return bare == meshed
	}
	return (d.bare == "" || strings.Contains(bare, d.bare) && !strings.Contains(meshed, d.bare)) &&
		(d.meshed == "" || strings.Contains(meshed, d.meshed) && !strings.Contains(bare, d.meshed))
}
