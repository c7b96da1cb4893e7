package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

// caller is a connection to the server, and counts how often it was made.
type caller struct {
	*grpc.ClientConn
	connections atomic.Int64
}

var cases = map[string]func(context.Context, *caller) error{
	"unary": unary, "metadata": metadataBothWays, "statuses": statuses, "streams": streams,
	"parallel": parallel, "deadlines": deadlines, "cancelled": cancelled, "aged": aged,
	"stalled-uploads": stalledUploads, "stalled-downloads": stalledDownloads, "open-streams": openStreams,
}

func client(addr, name string) error {
	run, ok := cases[name]
	if !ok {
		return fmt.Errorf("no case %q; there are %v", name, slices.Sorted(maps.Keys(cases)))
	}
	c := &caller{}
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithStatsHandler(counter{c}),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})))
	if err != nil {
		return err
	}
	defer conn.Close()
	c.ClientConn = conn
	return run(context.Background(), c)
}

// counter counts connections.
type counter struct{ c *caller }

func (counter) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (counter) HandleRPC(context.Context, stats.RPCStats)                         {}
func (counter) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (c counter) HandleConn(_ context.Context, s stats.ConnStats) {
	if _, ok := s.(*stats.ConnBegin); ok {
		c.c.connections.Add(1)
	}
}

func (c *caller) call(ctx context.Context, method, request string, options ...grpc.CallOption) (string, error) {
	in, out := []byte(request), []byte(nil)
	err := c.Invoke(ctx, "/test.Test/"+method, &in, &out, options...)
	return string(out), err
}

func (c *caller) stream(ctx context.Context, method string) (grpc.ClientStream, error) {
	return c.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/test.Test/"+method)
}

// limit is how long a call is waited for.
type limit func(context.Context) (context.Context, context.CancelFunc)

// within gives a call a deadline, which the server is told of.
func within(d time.Duration) limit {
	return func(ctx context.Context) (context.Context, context.CancelFunc) { return context.WithTimeout(ctx, d) }
}

// cancelledAfter cancels a call, which the server cannot know before.
func cancelledAfter(d time.Duration) limit {
	return func(ctx context.Context) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancel(ctx)
		time.AfterFunc(d, cancel)
		return ctx, cancel
	}
}

// all makes calls at the same time and prints how many ended in which way.
func (c *caller) all(ctx context.Context, what string, n int, limit limit, method, request string) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	ends := map[codes.Code]int{}
	for range n {
		wg.Go(func() {
			ctx, cancel := limit(ctx)
			defer cancel()
			_, err := c.call(ctx, method, request)
			mu.Lock()
			defer mu.Unlock()
			ends[status.Code(err)]++
		})
	}
	wg.Wait()
	fmt.Println(what, ends)
}

func unary(ctx context.Context, c *caller) error {
	for _, size := range []int{0, 1, 1000, 16384, 65536, 1000000, 4000000} {
		request := strings.Repeat("x", size)
		for _, options := range [][]grpc.CallOption{nil, {grpc.UseCompressor(gzip.Name)}} {
			answer, err := c.call(ctx, "Echo", request, options...)
			fmt.Println(size, len(options), answer == request, err)
		}
	}
	_, err := c.call(ctx, "Echo", strings.Repeat("x", 5000000)) // more than a server takes
	fmt.Println(err)
	_, err = c.call(ctx, "None", "")
	fmt.Println(err)
	return nil
}

func metadataBothWays(ctx context.Context, c *caller) error {
	ctx = metadata.AppendToOutgoingContext(ctx, "some-bin", "\x00\x01\xff\n", "some", "a", "some", "b, c", "empty", "", "spaces", "d  e")
	var head, trailer metadata.MD
	answer, err := c.call(ctx, "Meta", "", grpc.Header(&head), grpc.Trailer(&trailer))
	fmt.Println(answer, err)
	for _, md := range []metadata.MD{head, trailer} {
		for _, key := range slices.Sorted(maps.Keys(md)) {
			fmt.Printf("%s=%q\n", key, md[key])
		}
	}
	return nil
}

func statuses(ctx context.Context, c *caller) error {
	for code := range 18 {
		_, err := c.call(ctx, "Fail", fmt.Sprint(code))
		fmt.Printf("%q\n", status.Convert(err).String())
	}
	answer, err := c.call(ctx, "FailLate", "x")
	fmt.Println(answer, err)
	return nil
}

func streams(ctx context.Context, c *caller) error {
	s, err := c.stream(ctx, "Echo")
	if err != nil {
		return err
	}
	for i := range 100 {
		m := fmt.Appendf(nil, "%d", i)
		var back []byte
		if err := errors.Join(s.SendMsg(&m), s.RecvMsg(&back)); err != nil || string(m) != string(back) {
			return fmt.Errorf("message %d: got %q: %w", i, back, err)
		}
	}
	for _, call := range []struct {
		method   string
		messages int
		content  string
	}{{"Echo", 0, ""}, {"Sum", 2000, strings.Repeat("x", 3000)}, {"Count", 1, "5000"}, {"FailLate", 1, "x"}} {
		s, err := c.stream(ctx, call.method)
		if err != nil {
			return err
		}
		m := []byte(call.content)
		for range call.messages {
			if err := s.SendMsg(&m); err != nil {
				return err
			}
		}
		if err := s.CloseSend(); err != nil {
			return err
		}
		var answers int
		var last []byte
		for err = s.RecvMsg(&last); err == nil; err = s.RecvMsg(&last) {
			answers++
		}
		fmt.Printf("%s %d %s %v\n", call.method, answers, last, err)
	}
	return nil
}

// parallel makes more calls at once than some servers allow: they wait.
func parallel(ctx context.Context, c *caller) error {
	c.all(ctx, "calls", 100, within(10*time.Second), "Sleep", "10ms")
	fmt.Println("connections", c.connections.Load())
	return nil
}

// deadlines makes calls that the server does not answer in time. They are no
// reason to end the connection.
func deadlines(ctx context.Context, c *caller) error {
	for range 2 { // 400 in all
		c.all(ctx, "slow", 200, within(time.Second), "Sleep", "10s")
		c.all(ctx, "quick", 20, within(10*time.Second), "Echo", "x")
	}
	return c.afterEndless()
}

// cancelled has calls given up soon.
func cancelled(ctx context.Context, c *caller) error {
	for range 20 {
		c.all(ctx, "slow", 10, cancelledAfter(100*time.Millisecond), "Sleep", "10s")
	}
	c.all(ctx, "quick", 20, within(10*time.Second), "Echo", "x")
	return c.afterEndless()
}

// aged calls a server that ends connections after a while. Those of a client of
// the mesh end at its agent, and live on.
func aged(ctx context.Context, c *caller) error {
	good := 0
	for began := time.Now(); time.Since(began) < 1500*time.Millisecond; {
		if _, err := c.call(ctx, "Sleep", "5ms"); err != nil {
			return fmt.Errorf("after %d calls: %w", good, err)
		}
		good++
	}
	fmt.Println(good > 5)
	return nil
}

// stalledUploads sends on streams that the server does not read, until there is no
// room, and has other calls answered beside them.
func stalledUploads(ctx context.Context, c *caller) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for range 5 {
		s, err := c.stream(ctx, "Unread")
		if err != nil {
			return err
		}
		wg.Go(func() {
			m := make([]byte, 1<<15)
			for s.SendMsg(&m) == nil {
			}
		})
	}
	time.Sleep(300 * time.Millisecond)
	c.all(ctx, "beside", 20, within(3*time.Second), "Echo", strings.Repeat("x", 1000))
	cancel()
	wg.Wait()
	return c.afterEndless()
}

// stalledDownloads does not read streams that the server fills, and has other
// calls answered beside them.
func stalledDownloads(ctx context.Context, c *caller) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for range 20 {
		s, err := c.stream(ctx, "Flood")
		if err != nil {
			return err
		}
		if err := s.CloseSend(); err != nil {
			return err
		}
	}
	time.Sleep(300 * time.Millisecond)
	c.all(ctx, "beside", 20, within(3*time.Second), "Echo", strings.Repeat("x", 1000))
	cancel()
	return c.afterEndless()
}

// afterEndless prints what becomes of calls, and of the server's streams, after
// those without end were cancelled.
func (c *caller) afterEndless() error {
	c.all(context.Background(), "after", 20, within(3*time.Second), "Echo", "x")
	answer, err := "", error(nil)
	for deadline := time.Now().Add(5 * time.Second); answer != "0" && err == nil && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		answer, err = c.call(context.Background(), "Endless", "")
	}
	fmt.Println("the server goes on with", answer, "connections", c.connections.Load())
	return err
}

// openStreams opens streams that stay open: how many are answered?
func openStreams(ctx context.Context, c *caller) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	var answered atomic.Int64
	for range 300 {
		wg.Go(func() {
			s, err := c.stream(ctx, "Echo")
			if err != nil {
				return
			}
			m := []byte("x")
			if s.SendMsg(&m) == nil && s.RecvMsg(&m) == nil {
				answered.Add(1)
			}
			<-ctx.Done()
			if err := s.RecvMsg(&m); errors.Is(err, io.EOF) {
				answered.Add(-1)
			}
		})
	}
	wg.Wait()
	fmt.Println(answered.Load())
	return nil
}
