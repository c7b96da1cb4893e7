package peers

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/underlane/underlane/test/bench/pki"
	"github.com/underlane/underlane/test/bench/work"
)

// goConfig returns the configuration for this program itself as the proxy.
func goConfig(s Setup) (map[string]string, []string) {
	text, _ := json.MarshalIndent(s, "", " ") // addresses and strings: cannot fail
	return map[string]string{"go.json": string(text)}, []string{"reverse-proxy", filepath.Join(s.Dir, "go.json")}
}

// ReverseProxy runs Go's httputil.ReverseProxy with the Setup in a file and with
// commonly tuned settings.
func ReverseProxy(ctx context.Context, config string) error {
	text, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	var s Setup
	if err := json.Unmarshal(text, &s); err != nil {
		return fmt.Errorf("read %s: %w", config, err)
	}
	cert, err := tls.LoadX509KeyPair(s.PKI.Cert, s.PKI.Key)
	if err != nil {
		return err
	}
	anchors, err := os.ReadFile(s.PKI.Anchors)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(anchors)
	config13 := func() *tls.Config {
		return &tls.Config{
			Certificates: []tls.Certificate{cert}, RootCAs: pool, ClientCAs: pool, ServerName: pki.Name,
			ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
		}
	}
	failed := make(chan error, len(s.Hops))
	for _, h := range s.Hops {
		l, err := net.Listen("tcp", h.Listen.String())
		if err != nil {
			return err
		}
		srv := reverseProxy(h, config13)
		defer srv.Close()
		go func() {
			if h.TLSIn {
				failed <- srv.ServeTLS(l, "", "")
			} else {
				failed <- srv.Serve(l)
			}
		}()
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

func reverseProxy(h Hop, config func() *tls.Config) *http.Server {
	var in, out http.Protocols
	switch http2 := h.Port.Proto == work.ProtoHTTP2; {
	case http2:
		in.SetHTTP2(h.TLSIn)
		in.SetUnencryptedHTTP2(!h.TLSIn)
		out.SetHTTP2(h.TLSOut)
		out.SetUnencryptedHTTP2(!h.TLSOut)
	default:
		in.SetHTTP1(true)
		out.SetHTTP1(true)
	}
	scheme := "http"
	if h.TLSOut {
		scheme = "https"
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: scheme, Host: h.Connect.String()})
	proxy.FlushInterval = -1
	proxy.ErrorLog = log.New(os.Stderr, "", 0)
	if h.Port.Mode == work.HTTP1 {
		proxy.FlushInterval = 0
	}
	proxy.Transport = &http.Transport{
		TLSClientConfig: config(), Protocols: &out, DisableCompression: true,
		MaxIdleConns: 8192, MaxIdleConnsPerHost: 8192, IdleConnTimeout: time.Hour,
	}
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
		if !errors.Is(err, context.Canceled) {
			proxy.ErrorLog.Print(err)
		}
		w.WriteHeader(http.StatusBadGateway)
	}
	return &http.Server{
		Handler: proxy, Protocols: &in, TLSConfig: config(), ErrorLog: proxy.ErrorLog,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 1024},
	}
}
