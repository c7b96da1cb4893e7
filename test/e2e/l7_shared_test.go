package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/underlane/underlane/test/lab"
)

// sharedServer is the far pod's, on a port of its own.
type sharedServer struct {
	here atomic.Int32  // requests that keep connections busy
	busy chan struct{} // closed when those that keep connections busy may end
	come chan struct{} // gets one for each client that waits
	left chan struct{} // gets one for each client that has left
}

func (s *sharedServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/busy":
		s.here.Add(1)
		<-s.busy
	case "/wait":
		s.come <- struct{}{}
		select {
		case <-r.Context().Done():
			s.left <- struct{}{}
		case <-s.busy:
		}
	case "/echo":
		_, _ = io.Copy(w, r.Body)
	case "/big":
		zeros := make([]byte, 64<<10)
		for range 160 {
			if _, err := w.Write(zeros); err != nil {
				return
			}
		}
	case "/cut":
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, "not a thousand")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case "/upgrade":
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_ = rw.Flush()
		_, _ = io.Copy(c, rw)
	}
}

// Where a client has many HTTP/1 requests under way to an endpoint of another node
// they share connections between the agents, and none sees that it does.
func TestSharedConnections(t *testing.T) {
	t.Parallel()
	l := upL7(t)
	server := &sharedServer{busy: make(chan struct{}), come: make(chan struct{}, 1), left: make(chan struct{}, 1)}
	ln := listenIn(t, l.Lab, "far", 9000)
	srv := &http.Server{Handler: server}
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })
	var busy sync.WaitGroup
	defer busy.Wait()
	defer close(server.busy)
	base := "http://" + addrPort(l.Pod("far").IP(), 9000)
	client := l.client(t, false)
	ask := func(method, path string, body io.Reader) (*http.Response, error) {
		r, err := http.NewRequestWithContext(t.Context(), method, base+path, body)
		if err != nil {
			return nil, err
		}
		return client.Do(r)
	}
	// between counts the connections that the agents have for the client at this port.
	between := func() (n int) {
		port := fmt.Sprintf(":%04X", 9000)
		for _, line := range strings.Split(l.Exec("client", "cat", "/proc/net/tcp"), "\n") {
			if f := strings.Fields(line); len(f) > 3 && strings.HasSuffix(f[2], port) && f[3] == "01" {
				n++
			}
		}
		return n
	}
	const requests = 150
	for range requests {
		busy.Go(func() {
			resp, err := ask("GET", "/busy", nil)
			if err == nil {
				resp.Body.Close()
			}
			if err != nil || resp.StatusCode != 200 {
				t.Errorf("a request that takes long: %v, %v", resp, err)
			}
		})
	}
	l.Eventually(patience, func() error {
		if n := server.here.Load(); n < requests {
			return fmt.Errorf("%d requests are there of %d", n, requests)
		}
		return nil
	})
	if n := between(); n < 2 || n > 10 {
		t.Errorf("%d connections between the agents for %d requests", n, requests)
	}

	t.Run("bodies", func(t *testing.T) {
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				sent := make([]byte, 300_000*(i%4)+i)
				rand.Read(sent)
				resp, err := ask("POST", "/echo", bytes.NewReader(sent))
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, sent) {
					t.Errorf("%d bytes came back of %d: %v", len(got), len(sent), err)
				}
			})
		}
		all.Wait()
	})
	t.Run("a client that leaves", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		go func() {
			select {
			case <-server.come:
				cancel()
			case <-ctx.Done():
			}
		}()
		r, _ := http.NewRequestWithContext(ctx, "GET", base+"/wait", nil)
		if _, err := client.Do(r); err == nil {
			t.Error("an answer")
		}
		select {
		case <-server.left:
		case <-time.After(patience):
			t.Error("the application works on for nobody")
		}
	})
	t.Run("a response that is cut", func(t *testing.T) {
		resp, err := ask("GET", "/cut", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.ReadAll(resp.Body); err == nil {
			t.Error("the cut cannot be seen")
		}
	})
	t.Run("a response that nobody reads", func(t *testing.T) {
		resp, err := ask("GET", "/big", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		for range 20 {
			other, err := ask("POST", "/echo", strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			other.Body.Close()
		}
		if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != 160*64<<10 {
			t.Errorf("%d bytes: %v", n, err)
		}
	})
	t.Run("upgrade", func(t *testing.T) {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", base+"/upgrade", nil)
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", "echo")
		resp, err := client.Transport.RoundTrip(r) // a client with a time-out hides the stream
		if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%v, %v", resp, err)
		}
		defer resp.Body.Close()
		stream := resp.Body.(io.ReadWriter)
		for range 3 {
			if _, err := io.WriteString(stream, "ping"); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 4)
			if _, err := io.ReadFull(stream, got); err != nil || string(got) != "ping" {
				t.Fatalf("%q, %v", got, err)
			}
		}
	})
	if n := between(); n > 10 {
		t.Errorf("%d connections between the agents in the end", n)
	}
}

// The agents of both nodes are replaced under requests that share connections: no
// request is lost, for a stream is opened only where it will be served.
func TestTakeOverOfSharedConnections(t *testing.T) {
	l := &l7Lab{Lab: lab.Up(t, lab.Options{AgentArgs: []string{"--drain-timeout=5s"}}, manifests(clientPod("client", node1), serverPod("far", node2)))}
	waitEnrolled(t, l.Lab, "default/client", "default/far")
	l.from = dialFrom(t, l.Lab, "client")
	url := "http://" + addrPort(l.Pod("far").IP(), 8080) + "/delay/10ms"
	var clients sync.WaitGroup
	var answered atomic.Int32
	stop := make(chan struct{})
	for range 24 {
		client := l.client(t, false)
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				resp, err := client.Get(url)
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				if err != nil || resp.StatusCode != http.StatusOK {
					t.Errorf("%v, %v", resp, err)
					return
				}
				answered.Add(1)
			}
		})
	}
	for _, node := range []string{node2, node1} {
		old := nodeOf(t, l.Lab, node).Agent
		succeed(t, l.Lab, node)
		l.Eventually(patience, func() error {
			if !strings.Contains(l.Logs(node), "waiting to be stopped") {
				return fmt.Errorf("the agent of %s has not been succeeded", node)
			}
			return nil
		})
		if strings.Contains(l.Logs(node), "connections were cut") {
			t.Errorf("%s: connections had not ended in time", node)
		}
		if err := syscall.Kill(old.Pid, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	before := answered.Load()
	l.Eventually(patience, func() error {
		if answered.Load() < before+100 {
			return errors.New("traffic stands still")
		}
		return nil
	})
	close(stop)
	clients.Wait()
	t.Logf("%d requests answered", answered.Load())
}
