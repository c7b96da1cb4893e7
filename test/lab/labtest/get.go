package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

// Summary is what `get --summary` prints, as JSON.
type Summary struct {
	Requests int            `json:"requests"`
	Failed   int            `json:"failed"`           // without an answer
	Errors   map[string]int `json:"errors,omitempty"` // text → how often
	Status   map[int]int    `json:"status,omitempty"`
	Hosts    map[string]int `json:"hosts,omitempty"`   // hostname in the answers → how often
	Reasons  map[string]int `json:"reasons,omitempty"` // of the answers that the mesh gave itself → how often
	P50      time.Duration  `json:"p50"`               // nanoseconds
	P99      time.Duration  `json:"p99"`
	Elapsed  time.Duration  `json:"elapsed"`
}

type getOptions struct {
	method      string
	headers     []string
	count       int
	concurrency int
	interval    time.Duration
	duration    time.Duration
	untilEOF    bool
	timeout     time.Duration
	bodyBytes   int64
	http2       bool
	fresh       bool
	summary     bool
	hash        bool
	include     bool
}

func get() *cobra.Command {
	var o getOptions
	cmd := &cobra.Command{
		Use: "get URL", Args: cobra.ExactArgs(1),
		Short: "HTTP: make requests and print the bodies (or --summary); exit 1 if one has no answer",
		RunE:  func(cmd *cobra.Command, args []string) error { return runGet(cmd.Context(), args[0], o) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.method, "method", "X", "GET", "method")
	f.StringArrayVarP(&o.headers, "header", "H", nil, "Name: value (repeatable)")
	f.IntVarP(&o.count, "count", "n", 1, "how many requests; 0 for as many as --duration allows")
	f.IntVarP(&o.concurrency, "concurrency", "c", 1, "how many at a time")
	f.DurationVar(&o.interval, "interval", 0, "pause after each request")
	f.DurationVar(&o.duration, "duration", 0, "end after this time; SIGTERM ends too, and what was is summed up")
	f.BoolVar(&o.untilEOF, "until-eof", false, "end when standard input ends, too, and sum up what was")
	f.DurationVar(&o.timeout, "timeout", 10*time.Second, "of one request")
	f.Int64Var(&o.bodyBytes, "body", 0, "bytes of request body")
	f.BoolVar(&o.http2, "http2", false, "HTTP/2 with prior knowledge")
	f.BoolVar(&o.fresh, "fresh", false, "a new connection for each request")
	f.BoolVar(&o.summary, "summary", false, "print a summary as JSON in place of the bodies")
	f.BoolVarP(&o.include, "include", "i", false, "print status and header before each body, and trailers after it")
	f.BoolVar(&o.hash, "hash", false, "print length and SHA-256 of each body in place of the body")
	return cmd
}

// result is one request's outcome.
type result struct {
	status  int
	host    string
	reason  string // that the mesh gave
	latency time.Duration
	err     error
}

func runGet(ctx context.Context, url string, o getOptions) error {
	if o.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.duration)
		defer cancel()
	}
	if o.untilEOF {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
	}
	client := newHTTPClient(o)
	jobs := make(chan struct{})
	go func() {
		defer close(jobs)
		for n := 0; o.count == 0 || n < o.count; n++ {
			select {
			case jobs <- struct{}{}:
			case <-ctx.Done():
				return
			}
		}
	}()
	var mu sync.Mutex
	var results []result
	var wg sync.WaitGroup
	began := time.Now()
	for range o.concurrency {
		wg.Go(func() {
			for range jobs {
				// Without ctx: a request that has begun may finish.
				r := one(client, url, o, &mu)
				mu.Lock()
				results = append(results, r)
				mu.Unlock()
				if o.interval > 0 {
					time.Sleep(o.interval)
				}
			}
		})
	}
	wg.Wait()
	s, err := sum(results, time.Since(began))
	if o.summary {
		return errors.Join(json.NewEncoder(os.Stdout).Encode(s), err)
	}
	return err
}

func newHTTPClient(o getOptions) *http.Client {
	var protocols http.Protocols
	protocols.SetHTTP1(!o.http2)
	protocols.SetUnencryptedHTTP2(o.http2)
	protocols.SetHTTP2(o.http2)
	return &http.Client{
		Timeout:       o.timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Protocols: &protocols, DisableKeepAlives: o.fresh, DisableCompression: true,
			MaxIdleConnsPerHost: o.concurrency, DialContext: (&net.Dialer{Timeout: o.timeout}).DialContext,
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // a test server's own certificate
		},
	}
}

func one(client *http.Client, url string, o getOptions, out *sync.Mutex) (r result) {
	var body io.Reader
	if o.bodyBytes > 0 {
		body = io.LimitReader(&pattern{}, o.bodyBytes)
	}
	req, err := http.NewRequest(o.method, url, body)
	if err != nil {
		return result{err: err}
	}
	if o.bodyBytes > 0 {
		req.ContentLength = o.bodyBytes
	}
	for _, h := range o.headers {
		name, value, _ := strings.Cut(h, ":")
		value = strings.TrimSpace(value)
		if strings.EqualFold(name, "host") {
			req.Host = value
		}
		req.Header.Add(name, value)
	}
	began := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return result{err: err}
	}
	defer resp.Body.Close()
	r.status, r.latency, r.reason = resp.StatusCode, time.Since(began), resp.Header.Get("Underlane-Reason")
	h := sha256.New()
	var n int64
	var text []byte
	if o.hash {
		n, err = io.Copy(h, resp.Body)
	} else {
		text, err = io.ReadAll(resp.Body)
	}
	if err != nil {
		r.err = fmt.Errorf("body: %w", err)
		return r
	}
	var a Answer
	if json.Unmarshal(text, &a) == nil {
		r.host = a.Hostname
	}
	out.Lock()
	defer out.Unlock()
	switch {
	case o.hash:
		fmt.Printf("%d %x\n", n, h.Sum(nil))
	case o.include:
		fmt.Printf("%s %s\n", resp.Proto, resp.Status)
		resp.Header.Write(os.Stdout)
		fmt.Printf("\n%s\n", text)
		resp.Trailer.Write(os.Stdout)
	case !o.summary:
		os.Stdout.Write(text)
	}
	return r
}

func sum(results []result, elapsed time.Duration) (Summary, error) {
	s := Summary{Requests: len(results), Errors: map[string]int{}, Status: map[int]int{}, Hosts: map[string]int{}, Reasons: map[string]int{}, Elapsed: elapsed}
	var latencies []time.Duration
	var first error
	for _, r := range results {
		if r.err != nil {
			s.Failed++
			s.Errors[r.err.Error()]++
			if first == nil {
				first = r.err
			}
			continue
		}
		s.Status[r.status]++
		if r.reason != "" {
			s.Reasons[r.reason]++
		}
		if r.host != "" {
			s.Hosts[r.host]++
		}
		latencies = append(latencies, r.latency)
	}
	slices.Sort(latencies)
	if n := len(latencies); n > 0 {
		s.P50, s.P99 = latencies[n/2], latencies[n*99/100]
	}
	if first != nil {
		return s, fmt.Errorf("%d of %d requests failed, the first: %w", s.Failed, s.Requests, first)
	}
	return s, nil
}
