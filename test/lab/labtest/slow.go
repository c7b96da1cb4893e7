package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
)

// slowServer receives and sends large bodies at full speed, except for a pause.
type slowServer struct {
	sent, received atomic.Int64
	paused         atomic.Bool
}

// Progress is the progress of a slowServer's bodies.
type Progress struct {
	Sent, Received int64
	Paused         bool // the server does not read
}

func (s *slowServer) register(mux *http.ServeMux) {
	mux.HandleFunc("GET /slow/{n}", s.down)
	mux.HandleFunc("POST /slow/{pause}", s.up)
	mux.HandleFunc("GET /slow/progress", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(Progress{s.sent.Load(), s.received.Load(), s.paused.Load()})
	})
}

var zeros [256 << 10]byte

// down sends n bytes.
func (s *slowServer) down(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(r.PathValue("n"), 10, 64)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	s.sent.Store(0)
	for n > 0 {
		m, err := w.Write(zeros[:min(n, int64(len(zeros)))])
		s.sent.Add(int64(m))
		if n -= int64(m); err != nil {
			return
		}
	}
}

// up reads the body, and pauses after a quarter of it.
func (s *slowServer) up(w http.ResponseWriter, r *http.Request) {
	pause, err := time.ParseDuration(r.PathValue("pause"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.received.Store(0)
	n, err := readWithPause(r.Body, r.ContentLength, &s.received, &s.paused, pause)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprint(w, n)
}

// readWithPause reads size bytes, and pauses after a quarter of them.
func readWithPause(body io.Reader, size int64, read *atomic.Int64, paused *atomic.Bool, pause time.Duration) (int64, error) {
	buf := make([]byte, 256<<10)
	var n int64
	for {
		m, err := body.Read(buf)
		before := n
		n += int64(m)
		read.Store(n)
		if before < size/4 && n >= size/4 {
			paused.Store(true)
			time.Sleep(pause)
			paused.Store(false)
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("after %d bytes: %w", n, err)
		}
	}
}

// zeroBody is a request body of zeros.
type zeroBody struct {
	left int64
	sent *atomic.Int64
}

func (z *zeroBody) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), z.left)]
	clear(p)
	z.left -= int64(len(p))
	z.sent.Add(int64(len(p)))
	return len(p), nil
}

func slow() *cobra.Command {
	var o struct {
		size  int64
		pause time.Duration
		http2 bool
		up    bool
	}
	cmd := &cobra.Command{
		Use: "slow URL", Args: cobra.ExactArgs(1),
		Short: "HTTP: a large body from `labtest http`, or with --up to it, whose reader stops for a while; prints how many bytes moved, and how many of those sent had not been read meanwhile",
		RunE: func(cmd *cobra.Command, args []string) error {
			url := args[0] + "/slow/"
			client := newHTTPClient(getOptions{http2: o.http2, concurrency: 1})
			client.Timeout = 0
			var moved, ahead atomic.Int64
			var paused atomic.Bool
			ctx, stop := context.WithCancel(cmd.Context())
			watching := make(chan error, 1)
			go func() {
				watching <- watchProgress(ctx, url+"progress", &ahead, func(p Progress) (int64, bool) {
					if o.up {
						return moved.Load() - p.Received, p.Paused
					}
					return p.Sent - moved.Load(), paused.Load()
				})
			}()
			var n int64
			var err error
			if o.up {
				n, err = upload(client, url+o.pause.String(), o.size, &moved)
			} else {
				n, err = download(client, url+strconv.FormatInt(o.size, 10), o.size, o.pause, &moved, &paused)
			}
			stop()
			if werr := <-watching; err == nil {
				err = werr
			}
			if err != nil {
				return err
			}
			fmt.Println(n, ahead.Load())
			return nil
		},
	}
	f := cmd.Flags()
	f.Int64Var(&o.size, "bytes", 1<<30, "length of the body")
	f.DurationVar(&o.pause, "pause", 3*time.Second, "how long the reader stops")
	f.BoolVar(&o.http2, "http2", false, "HTTP/2 with prior knowledge")
	f.BoolVar(&o.up, "up", false, "send, rather than receive")
	return cmd
}

func download(client *http.Client, url string, size int64, pause time.Duration, read *atomic.Int64, paused *atomic.Bool) (int64, error) {
	resp, err := client.Get(url)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("answered %s", resp.Status)
	}
	return readWithPause(resp.Body, size, read, paused, pause)
}

func upload(client *http.Client, url string, size int64, sent *atomic.Int64) (n int64, err error) {
	req, err := http.NewRequest("POST", url, &zeroBody{size, sent})
	if err != nil {
		return 0, err
	}
	req.ContentLength = size
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = fmt.Fscan(resp.Body, &n)
	return n, err
}

// watchProgress asks the server for its progress, on a separate connection. It
// records the largest lead of the sender over a reader that pauses.
func watchProgress(ctx context.Context, url string, ahead *atomic.Int64, lead func(Progress) (n int64, paused bool)) error {
	client := newHTTPClient(getOptions{concurrency: 1, timeout: time.Minute})
	for ctx.Err() == nil {
		resp, err := client.Get(url)
		if err != nil {
			return err
		}
		var p Progress
		err = json.NewDecoder(resp.Body).Decode(&p)
		resp.Body.Close()
		if err != nil {
			return err
		}
		if n, paused := lead(p); paused {
			ahead.Store(max(ahead.Load(), n))
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}
