package http2

import "strings"

// IsGRPC reports whether a content type is application/grpc, also with a subtype or
// parameter (PROTOCOL-HTTP2 of gRPC). It is false for grpc-web.
func IsGRPC(contentType string) bool {
	rest, ok := strings.CutPrefix(contentType, "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}
