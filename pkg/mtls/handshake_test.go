package mtls

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// TestPeersThatAreNoAgent has what a client may meet if the server's agent is
// down or if something else listens.
func TestPeersThatAreNoAgent(t *testing.T) {
	m := ready(t, startManager(t, newAuthority(t, time.Hour), web, store))
	client, err := m.ClientConfig(web, store, ALPNTCP)
	if err != nil {
		t.Fatal(err)
	}
	say := func(text string) func(*net.TCPConn) {
		return func(c *net.TCPConn) {
			_, _ = io.ReadFull(c, make([]byte, 100)) // some of the ClientHello
			_, _ = io.WriteString(c, text)
			_ = c.CloseWrite()
			_, _ = io.Copy(io.Discard, c)
		}
	}
	banner := make([]byte, 0x80)
	banner[0] = 0x80 // length of a MySQL greeting; reads like SSLv2
	// Peers that speak TLS, or send TLS back, but are applications.
	foreign := map[string]bool{"alert": true, "echo": true, "TLS, no names": true, "TLS, other ALPN": true, "TLS 1.2": true}
	// Peers that never answer get a short deadline.
	patience := map[string]time.Duration{"silence": 300 * time.Millisecond, "stuck after hello": 3 * time.Second}
	for name, tc := range map[string]struct {
		serve  func(*net.TCPConn)
		notTLS bool
		reason mesh.Reason
	}{
		"HTTP answer":       {say("HTTP/1.1 400 Bad Request\r\n\r\n"), true, mesh.ReasonAgentDown},
		"SMTP banner":       {say("220 mail ESMTP\r\n"), true, mesh.ReasonAgentDown},
		"MySQL banner":      {say("J\x00\x00\x00\x0a8.0.36\x00"), true, mesh.ReasonAgentDown},
		"banner like SSLv2": {say(string(banner)), true, mesh.ReasonAgentDown},
		"one byte":          {say("x"), true, mesh.ReasonAgentDown},
		"close":             {say(""), true, mesh.ReasonAgentDown},
		"reset": {func(c *net.TCPConn) {
			_, _ = c.Read(make([]byte, 1))
			_ = c.SetLinger(0)
		}, true, mesh.ReasonAgentDown},
		"silence":                       {func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }, false, mesh.ReasonTimeout},
		"silence, and our time is over": {func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }, false, mesh.ReasonTimeout},
		"busy":                          {say(string(BusyAlert)), false, mesh.ReasonOverload},
		"stuck after hello":             {stuckAfterHello(t, m), false, mesh.ReasonTimeout},
		"alert":                         {say("\x15\x03\x03\x00\x02\x02\x28"), false, mesh.ReasonTLSFailed},  // handshake_failure
		"alert about us":                {say("\x15\x03\x03\x00\x02\x02\x30"), false, mesh.ReasonTLSRefused}, // unknown_ca
		"cut after hello":               {cutAfterHello(t, m), false, mesh.ReasonTLSFailed},
		"internal error":                {say("\x15\x03\x03\x00\x02\x02\x50"), false, mesh.ReasonTLSFailed}, // an agent may have one
		"echo":                          {echo, false, mesh.ReasonTLSFailed},
		"TLS, no names":                 {foreignTLS(t, &tls.Config{}), false, mesh.ReasonTLSPeer},
		"TLS, other ALPN":               {foreignTLS(t, &tls.Config{NextProtos: []string{"h2", "http/1.1"}}), false, mesh.ReasonTLSFailed},
		"TLS 1.2":                       {foreignTLS(t, &tls.Config{MaxVersion: tls.VersionTLS12}), false, mesh.ReasonTLSFailed},
	} {
		t.Run(name, func(t *testing.T) {
			c := dialServed(t, tc.serve)
			_ = c.SetDeadline(time.Now().Add(cmp.Or(patience[name], 20*time.Second)))
			ctx, cancel := t.Context(), func() {}
			if name == "silence, and our time is over" {
				ctx, cancel = context.WithTimeout(ctx, 300*time.Millisecond)
			}
			defer cancel()
			err := Handshake(ctx, tls.Client(c, client))
			if err == nil {
				t.Fatal("the handshake succeeded, want an error")
			}
			if got := NotTLS(err); got != tc.notTLS {
				t.Errorf("NotTLS(%v) = %t, want %t", err, got, tc.notTLS)
			}
			if got, want := NotAgent(err), tc.notTLS || foreign[name]; got != want {
				t.Errorf("NotAgent(%v) = %t, want %t", err, got, want)
			}
			if got := HandshakeReason(err); got != tc.reason {
				t.Errorf("HandshakeReason(%v) = %q, want %q", err, got, tc.reason)
			}
			if got, want := Silent(err), name == "silence"; got != want {
				t.Errorf("Silent(%v) = %t, want %t", err, got, want)
			}
			if got, want := Busy(err), name == "busy"; got != want {
				t.Errorf("Busy(%v) = %t, want %t", err, got, want)
			}
			if !errors.As(err, new(*mesh.ReasonError)) {
				t.Errorf("got a %T, want a *mesh.ReasonError", err)
			}
		})
	}
}

func echo(c *net.TCPConn) { _, _ = io.Copy(c, c) }

// foreignTLS is an application that speaks TLS itself, with a certificate for a
// DNS name.
func foreignTLS(t *testing.T, config *tls.Config) func(*net.TCPConn) {
	config.Certificates = []tls.Certificate{*newRoot(t, "public").issue(t, func(c *x509.Certificate) {
		c.DNSNames = []string{"shop.example"}
	})}
	return func(c *net.TCPConn) {
		s := tls.Server(c, config)
		if s.Handshake() == nil {
			_, _ = io.Copy(io.Discard, s)
		}
	}
}

// cutAfterHello relays to a real server and closes the connection after the
// server's first record.
func cutAfterHello(t *testing.T, m *Manager) func(*net.TCPConn) {
	return afterHello(t, m, func(c *net.TCPConn) { _ = c.CloseWrite() })
}

// stuckAfterHello does the same, but falls silent instead.
func stuckAfterHello(t *testing.T, m *Manager) func(*net.TCPConn) {
	return afterHello(t, m, func(*net.TCPConn) {})
}

func afterHello(t *testing.T, m *Manager, then func(*net.TCPConn)) func(*net.TCPConn) {
	server, err := m.ServerConfig(store)
	if err != nil {
		t.Fatal(err)
	}
	return func(c *net.TCPConn) {
		a, b := net.Pipe()
		near, far := buffered(a), buffered(b)
		go func() { _ = tls.Server(far, server).Handshake(); _ = far.Close() }()
		go func() { _, _ = io.Copy(near, c); _ = near.Close() }()
		hello := make([]byte, 5)
		_, _ = io.ReadFull(near, hello)
		body := make([]byte, int(hello[3])<<8|int(hello[4]))
		_, _ = io.ReadFull(near, body)
		_, _ = c.Write(append(hello, body...))
		then(c)
		_, _ = io.Copy(io.Discard, near)
	}
}

func dialServed(t *testing.T, serve func(*net.TCPConn)) net.Conn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if s, err := l.Accept(); err == nil {
			serve(s.(*net.TCPConn))
			_ = s.Close()
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(); _ = l.Close(); <-done })
	return c
}

func TestHandshakeReason(t *testing.T) {
	remote := func(code int) error {
		return fmt.Errorf("read: %w", &net.OpError{Op: "remote error", Err: tls.AlertError(code)})
	}
	for _, tc := range []struct {
		err    error
		want   mesh.Reason
		notTLS bool
	}{
		{nil, mesh.ReasonNone, false},
		{mesh.Fail(mesh.ReasonTLSIdentity, nil), mesh.ReasonTLSIdentity, false},
		{fmt.Errorf("dial: %w", mesh.Fail(mesh.ReasonNoCertificate, io.EOF)), mesh.ReasonNoCertificate, false},
		{remote(42), mesh.ReasonTLSRefused, false},  // bad_certificate
		{remote(116), mesh.ReasonTLSRefused, false}, // certificate_required
		{remote(48), mesh.ReasonTLSRefused, false},  // unknown_ca
		{remote(120), mesh.ReasonTLSFailed, false},  // no_application_protocol
		{remote(70), mesh.ReasonTLSFailed, false},   // protocol_version
		{tls.RecordHeaderError{Msg: "x", RecordHeader: [5]byte{0x16, 3, 1}}, mesh.ReasonTLSFailed, false},
		{io.EOF, mesh.ReasonAgentDown, true},
		{fmt.Errorf("read: %w", io.ErrUnexpectedEOF), mesh.ReasonAgentDown, true},
		{&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, mesh.ReasonAgentDown, true},
		{mesh.Fail(mesh.ReasonAgentDown, io.EOF), mesh.ReasonAgentDown, true},
		{context.DeadlineExceeded, mesh.ReasonTimeout, false},
		{&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, mesh.ReasonTimeout, false},
		{context.Canceled, mesh.ReasonTLSFailed, false},
		{errors.New("other"), mesh.ReasonTLSFailed, false},
	} {
		if got := HandshakeReason(tc.err); got != tc.want {
			t.Errorf("HandshakeReason(%v) = %q, want %q", tc.err, got, tc.want)
		}
		if got := NotTLS(tc.err); got != tc.notTLS {
			t.Errorf("NotTLS(%v) = %t, want %t", tc.err, got, tc.notTLS)
		}
	}
}
