package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// pieces has a server and a client that write a message in several writes with
// Nagle's algorithm on, as many simple programs do. Each write after the first is
// sent only when the peer has acknowledged the one before.
func pieces() *cobra.Command {
	cmd := &cobra.Command{Use: "pieces", Short: "Messages that are written piece by piece, without TCP_NODELAY"}
	var listen string
	serve := &cobra.Command{
		Use: "serve", Short: "HTTP/1, HTTP/2 and an opaque protocol, told by the first byte", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serveTCP(cmd.Context(), "pieces", listen, servePieces)
		},
	}
	serve.Flags().StringVar(&listen, "listen", ":9000", "address")
	var o askOptions
	ask := &cobra.Command{
		Use: "ask HOST:PORT CASE", Short: "Make requests and print how long they took, as JSON", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return askPieces(cmd.Context(), args[0], args[1], o)
		},
	}
	ask.Flags().IntVarP(&o.count, "count", "n", 30, "how many requests")
	ask.Flags().BoolVar(&o.keep, "keep", false, "all on one connection")
	cmd.AddCommand(serve, ask)
	return cmd
}

type askOptions struct {
	count int
	keep  bool
}

// pieceCases are ways to cut a request and its response into pieces, which are
// written one by one. The path of the request tells the server how to cut the
// response.
var pieceCases = map[string]func(*pieceConn) error{
	"whole":            http1Case("GET /whole HTTP/1.1\r\nHost: x\r\n\r\n"),
	"response":         http1Case("GET /pieces HTTP/1.1\r\nHost: x\r\n\r\n"),
	"chunked-response": http1Case("GET /chunked HTTP/1.1\r\nHost: x\r\n\r\n"),
	"closing-response": http1Case("GET /closing HTTP/1.1\r\nHost: x\r\n\r\n"),
	"interim-response": http1Case("GET /interim HTTP/1.1\r\nHost: x\r\n\r\n"),
	"cut-head":         http1Case("GET /cut HTTP/1.1\r\n", "Host: x\r\n\r\n"),
	"request":          http1Case("POST /whole HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n", "hello"),
	"chunked-request":  http1Case("POST /whole HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "5\r\n", "hello\r\n", "0\r\n\r\n"),
	"http2-response":   http2Case("/pieces", false),
	"http2-request":    http2Case("/whole", true),
	"opaque":           opaqueCase,
}

// pieceConn is one end of a connection. It buffers no writes.
type pieceConn struct {
	*net.TCPConn
	r  *bufio.Reader
	h2 *h2Pieces
}

func newPieceConn(c *net.TCPConn) *pieceConn {
	_ = c.SetNoDelay(false)
	return &pieceConn{TCPConn: c, r: bufio.NewReader(c)}
}

func (c *pieceConn) write(pieces ...string) error {
	for _, p := range pieces {
		if _, err := io.WriteString(c.TCPConn, p); err != nil {
			return err
		}
	}
	return nil
}

func askPieces(ctx context.Context, addr, name string, o askOptions) error {
	ask, ok := pieceCases[name]
	if !ok {
		return fmt.Errorf("no case %q", name)
	}
	var c *pieceConn
	var took []time.Duration
	for range o.count {
		began := time.Now()
		if c == nil {
			nc, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", addr)
			if err != nil {
				return err
			}
			defer nc.Close()
			c = newPieceConn(nc.(*net.TCPConn))
			_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		}
		if err := ask(c); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		took = append(took, time.Since(began))
		if !o.keep {
			c.Close()
			c = nil
		}
	}
	slices.Sort(took)
	return json.NewEncoder(os.Stdout).Encode(Summary{Requests: len(took), P50: took[len(took)/2], P99: took[len(took)*99/100]})
}

func http1Case(pieces ...string) func(*pieceConn) error {
	return func(c *pieceConn) error {
		if err := c.write(pieces...); err != nil {
			return err
		}
		for {
			resp, err := http.ReadResponse(c.r, nil)
			if err != nil {
				return err
			}
			body, err := io.ReadAll(resp.Body)
			switch {
			case err != nil:
				return err
			case resp.StatusCode == http.StatusEarlyHints:
			case string(body) != "hello, world\n":
				return fmt.Errorf("%s %q", resp.Status, body)
			default:
				return nil
			}
		}
	}
}

// opaqueCase sends a length and then that many bytes, and expects the same.
func opaqueCase(c *pieceConn) error {
	if err := c.write("\x00\x00\x00\x05", "hello"); err != nil {
		return err
	}
	return readLengthed(c)
}

func readLengthed(c *pieceConn) error {
	var length [4]byte
	if _, err := io.ReadFull(c.r, length[:]); err != nil {
		return err
	}
	_, err := io.CopyN(io.Discard, c.r, int64(binary.BigEndian.Uint32(length[:])))
	return err
}

func servePieces(nc *net.TCPConn) error {
	c := newPieceConn(nc)
	first, err := c.r.Peek(3)
	if err != nil {
		return nil // the connection closed without any data
	}
	serve := serveHTTP1Pieces
	switch {
	case string(first) == "PRI":
		serve = serveHTTP2Pieces
	case first[0] == 0:
		serve = serveOpaquePieces
	}
	for {
		if _, err := c.r.Peek(1); err != nil {
			return nil
		}
		if err := serve(c); err != nil {
			return err
		}
	}
}

func serveOpaquePieces(c *pieceConn) error {
	if err := readLengthed(c); err != nil {
		return err
	}
	return c.write("\x00\x00\x00\x05", "world")
}

func serveHTTP1Pieces(c *pieceConn) error {
	req, err := http.ReadRequest(c.r)
	if err == nil {
		_, err = io.Copy(io.Discard, req.Body)
	}
	if err != nil {
		return err
	}
	const head, body = "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n", "hello, world\n"
	switch strings.TrimPrefix(req.URL.Path, "/") {
	case "pieces":
		return c.write(head, body)
	case "chunked":
		return c.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "7\r\nhello, \r\n", "6\r\n", "world\n\r\n", "0\r\n\r\n")
	case "closing":
		if err := c.write("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", "hello, ", "world\n"); err != nil {
			return err
		}
		return c.CloseWrite()
	case "interim":
		return c.write("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", head+body)
	}
	return c.write(head + body)
}
