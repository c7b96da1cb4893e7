package http2

import "testing"

// TestSpaceAroundValues: white space is stripped from the values of fields and trailers in
// both roles, before they are checked and passed on. A request is malformed if the white
// space is in a part that frames or routes it.
func TestSpaceAroundValues(t *testing.T) {
	values := map[string]string{ // as sent: as reported
		" a": "a", "a ": "a", "\ta\t": "a", " \t a b \t ": "a b", " ": "", "\t": "", "  \t": "",
	}
	for sent, told := range values {
		t.Run("request "+sent, func(t *testing.T) {
			w := newWire(t, Config{Role: Server})
			w.get(1, false, "x", sent, "te", " trailers")
			w.headers(1, true, "y", sent)
			w.feed("HEADERS 1 "+getEvent+" x="+told+" te=trailers", "HEADERS 1 y="+told+" TRAILERS END")
		})
		t.Run("response "+sent, func(t *testing.T) {
			w := newWire(t, Config{Role: Client})
			_, err := w.c.OpenStream(fieldList(getFields...), true)
			must(t, err)
			w.headers(1, false, ":status", "103", "x", sent)
			w.headers(1, false, ":status", "200", "content-length", " 2 ", "x", sent)
			must(t, w.fr.WriteData(1, false, []byte("ok")))
			w.headers(1, true, "grpc-status", "0", "grpc-message", sent)
			w.feed("HEADERS 1 :status=103 x="+told, "HEADERS 1 :status=200 content-length=2 x="+told, `DATA 1 "ok"`,
				"HEADERS 1 grpc-status=0 grpc-message="+told+" TRAILERS END")
		})
	}
	replaced := func(name, value string) []string {
		fields := append([]string(nil), getFields...)
		for i := 0; i < len(fields); i += 2 {
			if fields[i] == name {
				fields[i+1] = value
			}
		}
		return fields
	}
	for name, fields := range map[string][]string{
		":method":          replaced(":method", "GET "),
		":scheme":          replaced(":scheme", " http"),
		":path":            replaced(":path", "/ "),
		":authority":       replaced(":authority", "a "),
		"host":             append(replaced("", ""), "host", " a"),
		"content-length":   append(replaced("", ""), "content-length", " 0"),
		"around a name":    append(replaced("", ""), "x ", "a"),
		"before a name":    append(replaced("", ""), " x", "a"),
		"other te":         append(replaced("", ""), "te", " gzip "),
		"line end inside":  append(replaced("", ""), "x", " a\r\n "),
		"vertical tab":     append(replaced("", ""), "x", "\va"),
		"a coding, hidden": append(replaced("", ""), "transfer-encoding", " chunked"),
	} {
		t.Run("malformed request: "+name, func(t *testing.T) {
			w := newWire(t, Config{Role: Server})
			w.headers(1, true, fields...)
			events, err := w.c.Feed(w.in.Bytes())
			if len(events) != 1 || err != nil || events[0].Kind != EventMalformed {
				t.Errorf("got %q, want one MALFORMED event", describe(events, err))
			}
		})
	}
	t.Run("malformed response", func(t *testing.T) {
		for _, status := range []string{" 200", "200 "} {
			w := newWire(t, Config{Role: Client})
			_, err := w.c.OpenStream(fieldList(getFields...), true)
			must(t, err)
			w.headers(1, true, ":status", status)
			w.feed("RESET 1 PROTOCOL_ERROR LOCAL")
		}
	})
}

// TestBareAddresses: an IPv6 address without brackets, as Node's client sends it, is passed
// on. In CONNECT it is malformed, and so is everything that only resembles one.
func TestBareAddresses(t *testing.T) {
	ask := func(t *testing.T, fields ...string) (kind EventKind) {
		t.Helper()
		w := newWire(t, Config{Role: Server})
		w.headers(1, false, fields...)
		events, err := w.c.Feed(w.in.Bytes())
		if len(events) != 1 || err != nil {
			t.Fatalf("got %q, want one event", describe(events, err))
		}
		return events[0].Kind
	}
	for authority, want := range map[string]EventKind{
		"::1:8080":             EventHeaders,
		"::1":                  EventHeaders,
		"fd00::7:443":          EventHeaders,
		"1:2:3:4:5:6:7:8:80":   EventHeaders,
		"1:2:3:4:5:6:7:8":      EventHeaders,
		"::ffff:10.0.0.1:80":   EventHeaders,
		"FE80::A:80":           EventHeaders,
		"a:80:80":              EventMalformed,
		"10.0.0.1:80:80":       EventMalformed,
		"::1:":                 EventMalformed,
		"::1:123456":           EventMalformed,
		"::1:8x":               EventMalformed,
		"::g:80":               EventMalformed,
		"1:2:3:4:5:6:7:8:9:80": EventMalformed,
		"fe80::1%eth0:80":      EventMalformed,
		"fe80::1%eth0":         EventMalformed,
		"u@::1:80":             EventMalformed,
		"::1:80/x":             EventMalformed,
		"::1:80,a":             EventMalformed,
		"::":                   EventHeaders,
		":::":                  EventMalformed,
		"::1]:80":              EventMalformed,
	} {
		t.Run(authority, func(t *testing.T) {
			got := ask(t, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", authority)
			if got != want {
				t.Errorf(":authority: got %v, want %v", got, want)
			}
			got = ask(t, ":method", "GET", ":scheme", "http", ":path", "/", "host", authority)
			if got != want {
				t.Errorf("host: got %v, want %v", got, want)
			}
			got = ask(t, ":method", "CONNECT", ":authority", authority)
			if got != EventMalformed {
				t.Errorf("CONNECT: got %v, want %v", got, EventMalformed)
			}
		})
	}
}

// TestResponseTooLarge: a response head, or trailers, that exceed the limit are
// distinguished from those that violate the protocol.
func TestResponseTooLarge(t *testing.T) {
	big := make([]byte, 400)
	for i := range big {
		big[i] = 'x'
	}
	for name, do := range map[string]func(w *wire) []string{
		"head": func(w *wire) []string {
			w.headers(1, true, ":status", "200", "a", string(big))
			return nil
		},
		"interim head": func(w *wire) []string {
			w.headers(1, false, ":status", "103", "a", string(big))
			return nil
		},
		"trailers": func(w *wire) []string {
			w.headers(1, false, ":status", "200")
			w.headers(1, true, "a", string(big))
			return []string{"HEADERS 1 :status=200"}
		},
		"fields": func(w *wire) []string {
			w.headers(1, true, ":status", "200", "a", "1", "b", "2", "c", "3", "d", "4")
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t, Config{Role: Client, MaxHeaderList: 300, MaxHeaderCount: 4})
			_, err := w.c.OpenStream(fieldList(getFields...), true)
			must(t, err)
			w.feed(append(do(w), "RESET 1 ENHANCE_YOUR_CALM LOCAL TOOLARGE")...)
		})
	}
}
