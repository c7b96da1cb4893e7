package http2

import (
	"bytes"
	"testing"

	xhttp2 "golang.org/x/net/http2"
)

// BenchmarkExchange measures a gRPC call on an engine in the server role.
func BenchmarkExchange(b *testing.B) {
	var t testing.T
	w := newWire(&t, Config{Role: Server})
	response := fieldList(":status", "200", "content-type", "application/grpc")
	trailers := fieldList("grpc-status", "0")
	body := make([]byte, 1000)
	const turns = 100
	var calls [turns][]byte
	var spare []byte
	var update bytes.Buffer
	must(b, xhttp2.NewFramer(&update, nil).WriteWindowUpdate(0, 1000))
	id := uint32(1)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if n%turns == 0 {
			b.StopTimer()
			for i := range calls {
				w.in.Reset()
				next := id + 2*uint32(i)
				w.get(next, false, "content-type", "application/grpc", "te", "trailers")
				must(b, w.fr.WriteData(next, true, body))
				calls[i] = bytes.Clone(w.in.Bytes())
			}
			b.StartTimer()
		}
		events, err := w.c.Feed(calls[n%turns])
		if err != nil || len(events) != 2 {
			b.Fatalf("%q, want 2 events", describe(events, err))
		}
		_ = w.c.WriteHeaders(id, response, false)
		taken, _ := w.c.WriteData(id, events[1].Payload, false)
		w.c.Consume(id, taken)
		_ = w.c.WriteTrailers(id, trailers)
		spare = w.c.TakeOutput(spare)
		if _, err := w.c.Feed(update.Bytes()); err != nil {
			b.Fatal(err)
		}
		id += 2
	}
}
