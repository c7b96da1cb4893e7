package reply_test

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/reply"
	"github.com/underlane/underlane/pkg/mesh"
)

// show prints a message with its line ends as bars.
func show(message []byte) { fmt.Println(strings.ReplaceAll(string(message), "\r\n", "|")) }

// The proxy's own answer to a request that it could not forward.
func ExampleAppendHTTP1() {
	answer := reply.Of(mesh.ReasonNoEndpoints)
	message := reply.AppendHTTP1(nil, &answer, 0, true)
	status, _, _ := bytes.Cut(message, []byte("\r\n"))
	fmt.Printf("%s\n", status)

	show(reply.AppendHTTP1(nil, &answer, http1.KindGRPC, false))
	show(reply.AppendHTTP1(nil, &reply.Reply{Status: 308, Location: "https://web/"}, 0, false))
	// Output:
	// HTTP/1.1 503 Service Unavailable
	// HTTP/1.1 200 OK|underlane-reason: no-endpoints|content-type: application/grpc|content-length: 0|grpc-status: 14|grpc-message: the service has no ready endpoint||
	// HTTP/1.1 308 Permanent Redirect|location: https://web/|content-length: 0||
}
