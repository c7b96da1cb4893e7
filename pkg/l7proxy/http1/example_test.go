package http1_test

import (
	"errors"
	"fmt"
	"strings"

	"github.com/underlane/underlane/pkg/l7proxy/http1"
)

// show prints a message with its line ends visible.
func show(message []byte) { fmt.Println(strings.ReplaceAll(string(message), "\r\n", "|")) }

// A request arrives in two reads, and is forwarded whole.
func Example() {
	var (
		head http1.Head
		out  []byte
	)
	received := []byte("POST /vote HTTP/1.1\r\nHost: web\r\nConnection: close\r\nContent-")
	if n, err := http1.ParseRequest(received, &head); n == 0 && err == nil {
		received = append(received, "Length: 5\r\n\r\nhelloGET "...) // read more, parse again
	}
	n, err := http1.ParseRequest(received, &head)
	if err != nil {
		fmt.Println(err)
		return
	}
	out = http1.AppendRequestHead(out, &head, &http1.Edits{Add: []http1.Field{{Name: "X-Zone", Value: "b"}}})
	received = received[n:]

	body := head.Body()
	n, done, _ := body.Next(received)
	out = append(out, received[:n]...)
	show(out)
	fmt.Printf("done %v, %q belongs to the next request\n", done, received[n:])
	// Output:
	// POST /vote HTTP/1.1|Host: web|Content-Length: 5|X-Zone: b||hello
	// done true, "GET " belongs to the next request
}

// What a request says that a proxy needs to know.
func ExampleParseRequest() {
	var head http1.Head
	_, err := http1.ParseRequest([]byte("HEAD http://web:80/a?b HTTP/1.1\r\nHost: other\r\nUser-Agent: x\r\n\r\n"), &head)
	fmt.Println(err)
	fmt.Printf("%s %s of %s, keep-alive %v\n", head.Method(), head.Path(), head.Authority(), head.KeepAlive())
	for name, value := range head.Fields() {
		fmt.Printf("%s=%s\n", name, value)
	}
	// Output:
	// <nil>
	// HEAD /a?b of web:80, keep-alive true
	// Host=other
	// User-Agent=x
}

// A request that two parsers could read in two ways is refused.
func ExampleSyntaxError() {
	var head http1.Head
	_, err := http1.ParseRequest([]byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"), &head)
	var syntax *http1.SyntaxError
	fmt.Println(errors.As(err, &syntax), err)
	// Output: true http1: both Content-Length and Transfer-Encoding (at byte 75)
}

// How a response's body ends depends on its request: Kind keeps what is needed.
func ExampleParseResponse() {
	var request, response http1.Head
	_, _ = http1.ParseRequest([]byte("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"), &request)
	kind := request.Kind()

	received := []byte("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
	for {
		n, err := http1.ParseResponse(received, &response, kind)
		if err != nil || n == 0 {
			fmt.Println(n, err)
			return
		}
		received = received[n:]
		if !response.Interim() {
			break
		}
		fmt.Println(response.Status(), "is not the last")
	}
	body := response.Body()
	fmt.Println(response.Status(), body.Kind() == http1.BodyNone)
	// Output:
	// 103 is not the last
	// 200 true
}

// The client's connection ends after this response, the server's does not: the field
// says so in the place that the server gave it.
func ExampleAppendResponseHead() {
	var head http1.Head
	_, _ = http1.ParseResponse([]byte("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nContent-Length : 0\r\n\r\n"), &head, 0)
	show(http1.AppendResponseHead(nil, &head, &http1.Edits{Connection: http1.ConnectionClose}))
	// Output: HTTP/1.1 200 OK|Connection: close|Content-Length: 0||
}

// A chunked body is forwarded as it comes; Payload counts its content.
func ExampleBody() {
	var head http1.Head
	_, _ = http1.ParseResponse([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), &head, 0)
	body := head.Body()
	for _, read := range []string{"5\r\nhel", "lo\r\n0\r\n", "Sum: 1\r\n\r\n"} {
		n, done, err := body.Next([]byte(read))
		fmt.Println(n, done, err)
	}
	fmt.Println(body.Payload(), "bytes of content")
	// Output:
	// 6 false <nil>
	// 7 false <nil>
	// 10 true <nil>
	// 5 bytes of content
}

// A body that its sender did not finish is told from one that the connection's end
// delimits.
func ExampleBody_Finish() {
	var head http1.Head
	for _, response := range []string{"HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"} {
		_, _ = http1.ParseResponse([]byte(response), &head, 0)
		body := head.Body()
		_, _, _ = body.Next([]byte("he"))
		fmt.Println(body.NeedsClose(), body.Finish())
	}
	// Output:
	// true <nil>
	// false http1: connection closed before the body was complete
}

// NTLM and Negotiate authenticate a connection: no other client's requests may go on it.
func ExampleChallengeBinds() {
	fmt.Println(http1.ChallengeBinds(`Basic realm="a", Negotiate`), http1.ChallengeBinds(`Basic realm="a"`))
	fmt.Println(http1.CredentialsBind("NTLM TlRMTVNTUAAB"), http1.CredentialsBind("Bearer x"))
	// Output:
	// true false
	// true false
}
