package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"

	"google.golang.org/grpc"
)

// seen is what the application behind an ingress says of itself and of a request.
type seen struct {
	Name         string   // of the application
	Proto        string   // HTTP/1.1 or HTTP/2.0
	Host         string   // authority of the request
	ForwardedFor string   // X-Forwarded-For
	Override     []string // the fields that name the Service
}

// app serves HTTP/1, HTTP/2 and WebSocket at port 8080 and gRPC at 9000.
func app(name string) error {
	failed := make(chan error)
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(seen{
			Name: name, Proto: r.Proto, Host: r.Host, ForwardedFor: r.Header.Get("X-Forwarded-For"),
			Override: append(r.Header.Values("Underlane-Dst-Override"), r.Header.Values("L5d-Dst-Override")...),
		})
	})
	mux.HandleFunc("/ws", webSocket)
	web := &http.Server{Addr: ":8080", Handler: mux, Protocols: new(http.Protocols)}
	web.Protocols.SetHTTP1(true)
	web.Protocols.SetUnencryptedHTTP2(true)
	go func() { failed <- web.ListenAndServe() }()

	l, err := net.Listen("tcp", ":9000")
	if err != nil {
		return err
	}
	calls := grpc.NewServer(grpc.ForceServerCodec(raw{}), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		return each(s, func([]byte) error { return send(s, name) })
	}))
	go func() { failed <- calls.Serve(l) }()
	return <-failed
}

// webSocket accepts the upgrade and sends back what comes then. Frames need not be
// understood for that: no program between looks at them.
func webSocket(w http.ResponseWriter, _ *http.Request) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer c.Close()
	fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
	_ = rw.Flush()
	_, _ = io.Copy(c, rw)
}

// askWebSocket upgrades a connection to addr, and sends some bytes there and back.
func askWebSocket(ctx context.Context, host string, c net.Conn) error {
	fmt.Fprintf(c, "GET /ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", host)
	r := bufio.NewReader(c)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/ws", nil)
	if err != nil {
		return err
	}
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("the upgrade got %s", resp.Status)
	}
	for _, said := range []string{"\x81\x05hello", "\x81\x03you"} {
		if _, err := io.WriteString(c, said); err != nil {
			return err
		}
		heard := make([]byte, len(said))
		if _, err := io.ReadFull(r, heard); err != nil {
			return err
		}
		if string(heard) != said {
			return fmt.Errorf("sent %q, got %q", said, heard)
		}
	}
	return nil
}
