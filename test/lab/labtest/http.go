package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
)

// Answer is the JSON body of the HTTP server's responses.
type Answer struct {
	Hostname   string      `json:"hostname"`
	RemoteAddr string      `json:"remoteAddr"`
	LocalAddr  string      `json:"localAddr"`
	Proto      string      `json:"proto"`
	Method     string      `json:"method"`
	Host       string      `json:"host"`
	Path       string      `json:"path"`
	Headers    http.Header `json:"headers"`
	Trailers   http.Header `json:"trailers,omitempty"`
	BodyBytes  int64       `json:"bodyBytes"`
	BodySHA256 string      `json:"bodySHA256"`
	Connection uint64      `json:"connection"` // number of the connection at this server, counted from 1
}

func httpServer() *cobra.Command {
	var addr, name string
	cmd := &cobra.Command{
		Use: "http", Args: cobra.NoArgs,
		Short: "HTTP/1.1 and HTTP/2 in the clear: /status/CODE, /delay/DURATION, /bytes/N, /stream/N, /ready[/on|/off], /slow/…; anything else: what the request was, as JSON",
		RunE:  func(cmd *cobra.Command, _ []string) error { return serveHTTP(cmd.Context(), addr, name) },
	}
	cmd.Flags().StringVar(&addr, "listen", ":8080", "address")
	cmd.Flags().StringVar(&name, "tls", "", "with TLS, by a certificate for this name that is made at the start")
	return cmd
}

type connKey struct{}

// serveHTTP serves at addr, with TLS if name is not empty.
func serveHTTP(ctx context.Context, addr, name string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/", answer)
	mux.HandleFunc("/status/{code}", status)
	mux.HandleFunc("/delay/{duration}", delay)
	mux.HandleFunc("/bytes/{n}", bytesOut)
	mux.HandleFunc("/stream/{n}", stream)
	new(readiness).register(mux)
	new(slowServer).register(mux)
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	var connections atomic.Uint64
	s := &http.Server{
		Handler: mux, Protocols: &protocols,
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, connections.Add(1))
		},
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	if name != "" {
		cert, err := selfSigned(name)
		if err != nil {
			return err
		}
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}})
	}
	fmt.Println("http listening on", l.Addr())
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(l); err != http.ErrServerClosed {
		return err
	}
	return nil
}

func answer(w http.ResponseWriter, r *http.Request) { answerWith(w, r, http.StatusOK) }

func answerWith(w http.ResponseWriter, r *http.Request, code int) {
	h := sha256.New()
	n, err := io.Copy(h, r.Body)
	if err != nil {
		fmt.Fprintln(os.Stderr, "request body:", err)
		panic(http.ErrAbortHandler) // the client must not take this for a complete response
	}
	host, _ := os.Hostname()
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	conn, _ := r.Context().Value(connKey{}).(uint64)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(Answer{
		Hostname: host, RemoteAddr: r.RemoteAddr, LocalAddr: fmt.Sprint(local), Proto: r.Proto,
		Method: r.Method, Host: r.Host, Path: r.RequestURI, Headers: r.Header, Trailers: r.Trailer,
		BodyBytes: n, BodySHA256: fmt.Sprintf("%x", h.Sum(nil)), Connection: conn,
	})
}

func status(w http.ResponseWriter, r *http.Request) {
	code, err := strconv.Atoi(r.PathValue("code"))
	if err != nil || code < 200 || code > 599 {
		http.Error(w, "want a status of 200 to 599", http.StatusBadRequest)
		return
	}
	answerWith(w, r, code)
}

func delay(w http.ResponseWriter, r *http.Request) {
	d, err := time.ParseDuration(r.PathValue("duration"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	select {
	case <-time.After(d):
	case <-r.Context().Done():
	}
	answer(w, r)
}

func bytesOut(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(r.PathValue("n"), 10, 64)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	io.Copy(w, io.LimitReader(&pattern{}, n)) // an error means that the client has left
}

// stream answers with n lines, one every 100 ms, each flushed.
func stream(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for i := range n {
		fmt.Fprintf(w, "line %d\n", i)
		if http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}
