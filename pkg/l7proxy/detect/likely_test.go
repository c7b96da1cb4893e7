package detect

import "testing"

func TestLikely(t *testing.T) {
	for in, want := range map[string]Protocol{
		"G":                                    HTTP1,
		"GET":                                  HTTP1,
		"GET ":                                 HTTP1,
		"GET /a/path HTT":                      HTTP1,
		"VERSION-CONTROL /":                    HTTP1,
		"PRI * HTTP/2.0\r\n":                   HTTP1,
		"GETS":                                 Opaque,
		"GETS /":                               Opaque,
		"get /":                                Opaque,
		"GE /":                                 Opaque, // the beginning of a method, then a space
		"ping":                                 Opaque,
		"PING":                                 Opaque,
		"ruok":                                 Opaque,
		"HZC":                                  Opaque,
		"JDWP-Handshake":                       Opaque,
		"0032git-upload-pack /x.git\x00host=h": Opaque,
		"64 <34>1 2003-10-11T22:14:15.003Z":    Opaque,
		"":                                     Opaque,
		"\x16":                                 Opaque, // no client sends a single byte of its hello
		"\x16\x03\x01\x02\x00":                 Opaque,
		"\x16\x03\x01\x02\x00\x01":             TLS,
	} {
		if got := Likely([]byte(in)); got != want {
			t.Errorf("%q: %v, want %v", in, got, want)
		}
	}
	for _, in := range [][]byte{[]byte("GET /a"), []byte("UPDATEREDIRECTREF"), []byte("ruok")} {
		if n := testing.AllocsPerRun(100, func() { Likely(in) }); n != 0 {
			t.Errorf("%q: %v allocations, want 0", in, n)
		}
	}
}
