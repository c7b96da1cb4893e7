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
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/test/contract/history"
)

// clients make attempts.
type clients struct {
	timeout            time.Duration
	fresh, kept, http2 *http.Client
	dials              *dials
}

// dials remembers when connections were dialled, by the addresses of their clients.
type dials struct{ began sync.Map }

func (d *dials) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	began := time.Now()
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err == nil {
		d.began.Store(localAddr(c), began)
	}
	return c, err
}

func (d *dials) of(from netip.AddrPort) time.Time {
	began, _ := d.began.Load(from)
	at, _ := began.(time.Time)
	return at
}

func newClients(timeout time.Duration) clients {
	made := &dials{}
	web := func(version2, fresh bool) *http.Client {
		tr := &http.Transport{DialContext: made.dial, DisableKeepAlives: fresh, Protocols: new(http.Protocols), MaxIdleConnsPerHost: 4}
		tr.Protocols.SetHTTP1(!version2)
		tr.Protocols.SetUnencryptedHTTP2(version2)
		return &http.Client{Transport: tr, Timeout: timeout}
	}
	return clients{timeout: timeout, fresh: web(false, true), kept: web(false, false), http2: web(true, false), dials: made}
}

// do makes an attempt and sets what became of it.
func (c clients) do(a *history.Attempt) {
	a.Start = time.Now()
	var got answer
	var err error
	switch a.How {
	case history.TCP:
		got, err = c.line(a)
	case history.HTTPKept:
		got, err = request(c.kept, a)
	case history.HTTP2:
		got, err = request(c.http2, a)
	default:
		got, err = request(c.fresh, a)
	}
	a.End = time.Now()
	a.Dialled = c.dials.of(a.From)
	a.By, a.Run = got.Pod, got.Run
	switch {
	case err != nil:
		a.Outcome, a.Error = outcome(err), err.Error()
	case got.ID != a.ID:
		a.Outcome, a.Error = "wrong-answer", fmt.Sprintf("the answer is for %q", got.ID)
	default:
		a.Outcome = history.OK
	}
}

func (c clients) line(a *history.Attempt) (got answer, err error) {
	conn, err := net.DialTimeout("tcp", a.Addr.String(), c.timeout)
	if err != nil {
		return got, err
	}
	defer conn.Close()
	a.From = localAddr(conn)
	_ = conn.SetDeadline(a.Start.Add(c.timeout))
	if _, err := io.WriteString(conn, a.ID+"\n"); err != nil {
		return got, err
	}
	text, err := bufio.NewReader(conn).ReadBytes('\n')
	if err != nil {
		return got, err
	}
	return got, json.Unmarshal(text, &got)
}

func localAddr(c net.Conn) netip.AddrPort {
	addr, ok := c.LocalAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	a := addr.AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// statusError is an answer that is not 200.
type statusError struct {
	code int
	text string
}

func (e statusError) Error() string { return fmt.Sprintf("status %d: %s", e.code, e.text) }

func request(client *http.Client, a *history.Attempt) (got answer, err error) {
	method, at, body := http.MethodPost, "http://"+a.Addr.String()+"/", io.Reader(strings.NewReader(a.ID))
	if a.How == history.HTTPGet {
		method, at, body = http.MethodGet, at+"?id="+url.QueryEscape(a.ID), nil
	}
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { a.From = localAddr(info.Conn) },
	})
	req, err := http.NewRequestWithContext(ctx, method, at, body)
	if err != nil {
		return got, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return got, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return got, err
	}
	a.Reason = resp.Header.Get("underlane-reason")
	if resp.StatusCode != http.StatusOK {
		return got, statusError{resp.StatusCode, strings.TrimSpace(string(text))}
	}
	return got, json.Unmarshal(text, &got)
}

// outcome names the failure of an attempt, without what differs from one to the next.
func outcome(err error) string {
	var status statusError
	var errno syscall.Errno
	switch {
	case errors.As(err, &status):
		return fmt.Sprintf("status %d", status.code)
	case os.IsTimeout(err), errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "eof"
	}
	return "error"
}
