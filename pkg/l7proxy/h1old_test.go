package l7proxy

import "testing"

// TestH1OldServer: a server of HTTP/1.0 is forwarded as it speaks, and the client's
// connection goes on where it would without the proxy: if the server says keep-alive.
func TestH1OldServer(t *testing.T) {
	const keep = "Connection: keep-alive\r\n"
	for _, test := range []struct {
		name, request, response string
		ends                    bool
	}{
		{"keeps", "GET / HTTP/1.1\r\n" + keep + "Host: x\r\n\r\n", "HTTP/1.0 200 OK\r\n" + keep + "Content-Length: 2\r\n\r\nok", false},
		{"keeps, old client", "GET / HTTP/1.0\r\n" + keep + "Host: x\r\n\r\n", "HTTP/1.0 200 OK\r\n" + keep + "Content-Length: 2\r\n\r\nok", false},
		{"says nothing", get, "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", true},
		{"says nothing, old client", "GET / HTTP/1.0\r\n" + keep + "Host: x\r\n\r\n", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", true},
		{"closes", get, "HTTP/1.0 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			e, b := newEnv(t), newBackend(t)
			c := e.dial(b.addr)
			var srv *client
			for i := range 2 {
				c.send(test.request)
				if i == 0 {
					srv = b.request()
				}
				srv.expect(test.request)
				srv.send(test.response)
				c.expect(test.response)
				if test.ends {
					c.expectEnd(nil)
					return
				}
			}
		})
	}
}
