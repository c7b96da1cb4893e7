package detect_test

import (
	"fmt"

	"github.com/underlane/underlane/pkg/l7proxy/detect"
)

// The caller reads more bytes as long as Detect asks for them.
func ExampleDetect() {
	var received []byte
	for _, read := range []string{"GET /vo", "te HTTP/1.1\r\n"} {
		received = append(received, read...)
		result := detect.Detect(received)
		fmt.Println(result.Protocol, result.NeedMore)
	}
	fmt.Println(detect.Detect([]byte(detect.Preface)).Protocol)
	fmt.Println(detect.Detect([]byte("SSH-2.0-OpenSSH_9.2\r\n")).Protocol)
	// Output:
	// unknown true
	// http1 false
	// http2
	// tcp
}

// What bytes may become that do not decide yet.
func ExampleLikely() {
	for _, bytes := range []string{"GE", "GET /", "ruok", "\x16\x03\x01\x02\x00\x01"} {
		fmt.Printf("%q: %v\n", bytes, detect.Likely([]byte(bytes)))
	}
	// Output:
	// "GE": http1
	// "GET /": http1
	// "ruok": tcp
	// "\x16\x03\x01\x02\x00\x01": tls
}

// A server of HTTP/2 sends SETTINGS first.
func ExampleHTTP2Server() {
	fmt.Println(detect.HTTP2Server([]byte("\x00\x00\x00\x04\x00\x00\x00\x00\x00")))
	fmt.Println(detect.HTTP2Server([]byte("220 mail ESMTP\r\n")))
	// Output:
	// true
	// false
}
