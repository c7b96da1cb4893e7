package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/underlane/underlane/test/contract/history"
)

func serveCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "serve", Args: cobra.NoArgs,
		Short: "Serve HTTP/1.1, HTTP/2 without TLS and lines over TCP, and write each attempt that arrives to a file",
		RunE:  func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), dir) },
	}
	cmd.Flags().StringVar(&dir, "record", ".", "directory for the file of deliveries")
	return cmd
}

type server struct {
	pod, run string

	mu  sync.Mutex
	out *os.File
}

// serve serves until ctx ends. Then it accepts nothing more and finishes the requests
// that are under way, as a server should that is replaced.
func serve(ctx context.Context, dir string) error {
	pod, err := os.Hostname()
	if err != nil {
		return err
	}
	s := &server{pod: pod, run: fmt.Sprintf("%s-%d", pod, time.Now().UnixNano())}
	if s.out, err = os.Create(filepath.Join(dir, s.run+".jsonl")); err != nil {
		return fmt.Errorf("file of deliveries: %w", err)
	}
	defer s.out.Close()
	lines, err := net.Listen("tcp", fmt.Sprintf(":%d", tcpPort))
	if err != nil {
		return err
	}
	requests, err := net.Listen("tcp", fmt.Sprintf(":%d", httpPort))
	if err != nil {
		return err
	}
	web := &http.Server{Handler: http.HandlerFunc(s.request), Protocols: new(http.Protocols)}
	web.Protocols.SetHTTP1(true)
	web.Protocols.SetUnencryptedHTTP2(true)
	served := make(chan error, 1)
	go func() { served <- web.Serve(requests) }()
	go s.acceptLines(lines)
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	lines.Close()
	grace, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return web.Shutdown(grace)
}

func (s *server) request(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 4096))
	if err != nil {
		panic(http.ErrAbortHandler) // the client must not take this for an answer
	}
	id := string(body)
	if r.Method == http.MethodGet {
		id = r.URL.Query().Get("id")
	}
	if err := s.deliver(id, r.RemoteAddr); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer{id, s.pod, s.run}) // an error means that the client has left
}

func (s *server) acceptLines(l net.Listener) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "accept:", err)
			continue
		}
		go s.line(c)
	}
}

func (s *server) line(c net.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	id, err := bufio.NewReader(c).ReadString('\n')
	if err != nil || s.deliver(id[:len(id)-1], c.RemoteAddr().String()) != nil {
		return // a connection that was made ahead of its first byte, and given up
	}
	_ = json.NewEncoder(c).Encode(answer{id[:len(id)-1], s.pod, s.run})
}

// deliver writes down that an attempt arrived, before it is answered.
func (s *server) deliver(id, from string) error {
	if history.ClientOf(id) == "" {
		return fmt.Errorf("%q is not the ID of an attempt", id)
	}
	d := history.Delivery{At: time.Now(), ID: id, Server: s.pod, Run: s.run}
	if addr, err := netip.ParseAddrPort(from); err == nil {
		d.From = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	}
	text, err := json.Marshal(d)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err = s.out.Write(append(text, '\n'))
	return err
}
