package http1

import "testing"

func TestBindsConnection(t *testing.T) {
	for fields, want := range map[string]bool{
		"Authorization: NTLM TlRMTVNTUAAB":                          true,
		"authorization: negotiate YII=":                             true,
		"AUTHORIZATION:\tNeGoTiAtE\tYII=":                           true,
		"Proxy-Authorization: NTLM TlRM":                            true,
		"Authorization: Bearer abc\r\nProxy-Authorization: ntlm YQ": true,
		"Authorization: Basic YTpi":                                 false,
		"Authorization: NTLMv9 YTpi":                                false,
		"Authorization: Bearer NTLM":                                false,
		"Authorization: Digest username=\"NTLM\", NTLM=1":           false,
		"Authorization:":                                            false,
		"X-Authorization: NTLM a":                                   false,
		"WWW-Authenticate: NTLM":                                    false, // the field has no meaning in a request
	} {
		h, _ := request(t, "GET / HTTP/1.1\r\nHost: a\r\n"+fields+"\r\n\r\n")
		if h.BindsConnection() != want {
			t.Errorf("request with %q: %v", fields, !want)
		}
	}
	for fields, want := range map[string]bool{
		"WWW-Authenticate: NTLM":                                        true,
		"www-authenticate: ntlm TlRMTVNTUAAC":                           true,
		"WWW-Authenticate: Negotiate, NTLM":                             true,
		"WWW-Authenticate: Basic realm=\"a\", charset=\"b\",negotiate":  true,
		"WWW-Authenticate: ,, Basic realm=\"a, b\" , Negotiate YII=":    true,
		"WWW-Authenticate: Basic realm=a\r\nWWW-Authenticate: NTLM":     true,
		"Proxy-Authenticate: Basic realm=a\r\nProxy-Authenticate: NTLM": true,
		"WWW-Authenticate: Basic realm=\"NTLM\"":                        false,
		"WWW-Authenticate: Digest realm=\"x\", qop=\"auth\", nonce=1":   false,
		"WWW-Authenticate:":   false,
		"WWW-Authenticate: ,": false,
		"Authorization: NTLM": false,
	} {
		h, _ := response(t, "HTTP/1.1 401 U\r\n"+fields+"\r\nContent-Length: 0\r\n\r\n", 0)
		if h.BindsConnection() != want {
			t.Errorf("response with %q: %v", fields, !want)
		}
	}
	h, _ := request(t, "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: NTLM a\r\n\r\n")
	next := "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	if n, err := ParseRequest([]byte(next), h); n != len(next) || err != nil || h.BindsConnection() {
		t.Error("the next request has it still")
	}
}
