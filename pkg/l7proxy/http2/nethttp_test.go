package http2

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"net/http"
	"sync"
	"testing"
)

// TestNetHTTPClient: the standard library's client works with the engine.
func TestNetHTTPClient(t *testing.T) {
	addr := listenEngine(t)
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr}

	body := make([]byte, 3<<20) // many times every window
	_, _ = rand.Read(body)
	want := sha256.Sum256(append([]byte("echo:"), body...))
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			resp, err := client.Post("http://"+addr+"/", "application/octet-stream", bytes.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			h := sha256.New()
			n, err := io.Copy(h, resp.Body)
			if err != nil || [32]byte(h.Sum(nil)) != want {
				t.Errorf("got %d bytes, %v; want the %d that were sent", n, err, len(body)+5)
			}
			if resp.Trailer.Get("x-end") != "1" {
				t.Errorf("trailers = %v, want x-end: 1", resp.Trailer)
			}
		})
	}
	wg.Wait()
}
