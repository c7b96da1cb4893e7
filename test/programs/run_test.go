package programs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// script is a command that runs sh with more variables, as a process group.
func script(cmd *exec.Cmd, vars ...string) *exec.Cmd {
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, "LC_ALL=C.UTF-8", "TZ=UTC", "HOME=/nonexistent", "no_proxy=*", "NO_PROXY=*")
	cmd.Env = append(cmd.Env, scriptEnv...)
	cmd.Env = append(cmd.Env, vars...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second // a child of a child may hold the pipes
	return cmd
}

// signal signals a process group that may have ended.
func signal(cmd *exec.Cmd, sig syscall.Signal) { _ = syscall.Kill(-cmd.Process.Pid, sig) }

// outcome is how a run of a client ended.
type outcome struct {
	output string // masked
	code   int
	took   time.Duration
}

func (o outcome) String() string {
	return fmt.Sprintf("exit status %d\n%s", o.code, o.output)
}

// runClient runs a script to its end, or kills it at its limit: then the code is
// -1.
func runClient(cmd *exec.Cmd, limit time.Duration) (outcome, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return outcome{}, err
	}
	kill := time.AfterFunc(limit, func() { signal(cmd, syscall.SIGKILL) })
	err := cmd.Wait()
	took := time.Since(began)
	kill.Stop()
	signal(cmd, syscall.SIGKILL) // what it has left in the background
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		return outcome{}, err
	}
	return outcome{out.String(), cmd.ProcessState.ExitCode(), took}, nil
}

// server is a row's server in one pod of one side.
type server struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	how  error // after done
}

func startServer(s *side, r *row, pod string, vars []string, dir string) (*server, error) {
	log, err := os.Create(filepath.Join(dir, "server.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := script(s.PodCommand(pod, "sh", "-euc", r.server), vars...)
	cmd.Stdout, cmd.Stderr = log, log
	srv := &server{cmd: cmd, log: log.Name(), done: make(chan struct{})}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(srv.done)
		srv.how = cmd.Wait()
	}()
	return srv, srv.waitReady(s, r, pod, vars)
}

func (srv *server) waitReady(s *side, r *row, pod string, vars []string) error {
	deadline := time.Now().Add(patience)
	for {
		err := notReady(s, r, pod, vars)
		if err == nil {
			return nil
		}
		select {
		case <-srv.done:
			return fmt.Errorf("the server ended: %v", srv.how)
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not ready after %s: %w", patience, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func notReady(s *side, r *row, pod string, vars []string) error {
	open, err := s.listeners[pod].Ports()
	if err != nil {
		return err
	}
	for _, port := range r.ports {
		if !open[port] {
			return fmt.Errorf("nobody listens at port %d", port)
		}
	}
	if r.ready == "" {
		return nil
	}
	o, err := runClient(script(s.PodCommand(pod, "sh", "-euc", r.ready), vars...), patience)
	if err == nil && o.code != 0 {
		err = errors.New(o.String())
	}
	return err
}

// stop ends the server: first as it wants to be, then for good.
func (srv *server) stop() {
	signal(srv.cmd, syscall.SIGTERM)
	select {
	case <-srv.done:
	case <-time.After(3 * time.Second):
	}
	signal(srv.cmd, syscall.SIGKILL)
	<-srv.done
}

func (srv *server) tail() string {
	text, err := os.ReadFile(srv.log)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text[max(0, len(text)-3000):]))
}

// startServers starts a row's servers in both pods of both sides, at once.
func startServers(t *testing.T, r *row, sides []*side, base []string, dir string) {
	t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	servers, failed := map[string]*server{}, map[string]error{}
	for _, s := range sides {
		for _, pod := range []string{"near", "far"} {
			name := s.String() + "-" + pod
			own := emptyDir(t, dir, name)
			logs := emptyDir(t, dir, name+"-log")
			wg.Go(func() {
				srv, err := startServer(s, r, pod, append(base[:len(base):len(base)], "OWN="+own), logs)
				mu.Lock()
				defer mu.Unlock()
				servers[name], failed[name] = srv, err
			})
		}
	}
	wg.Wait()
	t.Cleanup(func() {
		var wg sync.WaitGroup
		for _, srv := range servers {
			if srv != nil {
				wg.Go(srv.stop)
			}
		}
		wg.Wait()
		for name, srv := range servers {
			if srv != nil && t.Failed() {
				t.Logf("the log of the server %s:\n%s", name, srv.tail())
			}
		}
	})
	for name, err := range failed {
		if err != nil {
			t.Errorf("start the server %s: %v", name, err)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// busy is how many times longer a computation takes now than on a processor of its
// own: with the mesh there is more to compute, which takes as much longer, too.
func busy() float64 {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	computed := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
			return 0
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	const sample = 50 * time.Millisecond
	began, until := time.Now(), computed()+sample
	for computed() < until && time.Since(began) < time.Minute {
	}
	return float64(time.Since(began)) / float64(sample)
}
