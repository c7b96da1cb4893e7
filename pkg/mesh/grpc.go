package mesh

// IsGRPC reports whether a media type is application/grpc, with or without a subtype
// (application/grpc+proto) or parameters (PROTOCOL-HTTP2 of gRPC). It is false for
// grpc-web. Case does not count, and white space may stand before the parameters (RFC 9110
// §8.3.1, §5.6.6).
func IsGRPC[S string | []byte](contentType S) bool {
	const grpc = "application/grpc"
	if len(contentType) < len(grpc) {
		return false
	}
	for i := range grpc {
		c := contentType[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != grpc[i] {
			return false
		}
	}
	if len(contentType) == len(grpc) {
		return true
	}
	switch contentType[len(grpc)] {
	case '+', ';', ' ', '\t':
		return true
	}
	return false
}
