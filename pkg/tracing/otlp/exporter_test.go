package otlp

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/tracing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// receiver is a sender whose answers a test gives.
type receiver struct {
	mu     sync.Mutex
	times  []time.Duration // of the attempts, from the first on
	began  time.Time
	answer func(attempt int) (rejected int64, err error)
}

func (r *receiver) close() {}

func (r *receiver) attempts() []time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.times)
}

func (r *receiver) send(ctx context.Context, _ signal, _ proto.Message) (int64, error) {
	r.mu.Lock()
	if r.began.IsZero() {
		r.began = time.Now()
	}
	n := len(r.times)
	r.times = append(r.times, time.Since(r.began))
	r.mu.Unlock()
	if r.answer == nil {
		<-ctx.Done()
		return 0, &sendError{err: ctx.Err(), retry: true}
	}
	return r.answer(n)
}

func exporterTo(t *testing.T, s sender) *Exporter {
	t.Helper()
	x, err := New(Options{Endpoint: Endpoint{Host: "receiver:4318"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	x.sender = s
	return x
}

// run runs x and returns a function that stops it and waits.
func run(x *Exporter) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { x.Run(ctx) })
	return func() { cancel(); running.Wait() }
}

// sampled is the end of a request with this path.
func sampled(path string) *tap.Event {
	return &tap.Event{
		Kind: tap.ResponseEnd, Time: time.Unix(1000, 0), Method: "GET", Authority: "web", Path: path, Protocol: "http1", Status: 200,
		Trace: &tracing.Trace{ID: tracing.ID{1}, Span: tracing.SpanID{2}, Client: tracing.SpanID{3}, Flags: 1},
	}
}

func TestEmitTakesEndsOfSampledRequests(t *testing.T) {
	x := exporterTo(t, &receiver{})
	e := sampled("/")
	for _, kind := range []tap.Kind{tap.RequestInit, tap.ResponseInit, tap.ConnClose} {
		other := *e
		other.Kind = kind
		x.Emit(&other)
	}
	plain := *e
	plain.Trace = nil
	x.Emit(&plain)
	if n := len(x.spans.queue.items); n != 0 {
		t.Errorf("%d events are in the queue, want none", n)
	}
	if got := testing.AllocsPerRun(100, func() { x.Emit(&plain) }); got != 0 {
		t.Errorf("a request that is not sampled: %v allocations, want 0", got)
	}
	x.Emit(e)
	if n := len(x.spans.queue.items); n != 1 {
		t.Errorf("%d events are in the queue, want 1", n)
	}
}

// TestWhatWaits: the queue counts the strings of an event, and does not keep the header
// fields that only readers of tap get.
func TestWhatWaits(t *testing.T) {
	x := exporterTo(t, &receiver{})
	bare := sampled("/")
	x.Emit(bare)
	counted := x.spans.queue.bytes
	e := *bare
	e.Head = &tap.Head{UserAgent: strings.Repeat("a", 1000), Referer: strings.Repeat("r", 500)}
	e.Headers = &tap.Headers{List: []tap.Header{{Name: "x", Value: strings.Repeat("v", tap.MaxHeaderBytes)}}}
	x.Emit(&e)
	q := x.spans.queue
	if q.items[1].Headers != nil {
		t.Errorf("the queue keeps %d header fields, want none", len(q.items[1].Headers.List))
	}
	if got := q.bytes - counted; got != counted+1500 {
		t.Errorf("an event with a head counts as %d bytes, want %d and the 1500 of its head", got, counted)
	}
	if e.Headers == nil {
		t.Error("the event has lost its header fields, which others want")
	}
}

// TestBounds: a receiver that does not answer costs a bounded number of items and bytes, and
// no time.
func TestBounds(t *testing.T) {
	for name, tc := range map[string]struct {
		path string
		want int // items that are kept
	}{
		"items": {"/", maxItems},
		"bytes": {"/" + strings.Repeat("x", 1<<20), 7},
	} {
		x := exporterTo(t, &receiver{})
		e := sampled(tc.path)
		const n = 10_000
		for range n {
			x.Emit(e)
		}
		if got := len(x.spans.queue.items); got != tc.want {
			t.Errorf("%s: %d are kept, want %d", name, got, tc.want)
		}
		if diff := cmp.Diff(Counts{Full: n - uint64(tc.want)}, x.Counts()["traces"]); diff != "" {
			t.Errorf("%s: counts (-want +got):\n%s", name, diff)
		}
		for !x.spans.queue.empty() {
			x.spans.queue.take()
		}
		if got := x.spans.queue.bytes; got != 0 {
			t.Errorf("%s: an empty queue holds %d bytes, want 0", name, got)
		}
	}
}

// TestRate: a pod with very many sampled requests leaves room to the others.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := exporterTo(t, &receiver{})
		greedy, other := sampled("/"), sampled("/")
		greedy.Source.Workload = &mesh.Workload{UID: "greedy"}
		other.Direction, other.Destination.Workload = mesh.Inbound, &mesh.Workload{UID: "other"}
		for range 10_000 {
			x.Emit(greedy)
		}
		x.Emit(other)
		if got, want := x.Counts()["traces"], (Counts{Limited: 10_000 - burst}); got != want {
			t.Errorf("counts %+v, want %+v", got, want)
		}
		if got := len(x.spans.queue.items); got != burst+1 {
			t.Errorf("%d spans are kept, want %d", got, burst+1)
		}
		time.Sleep(time.Second)
		for range 10_000 {
			x.Emit(greedy)
		}
		if got := len(x.spans.queue.items); got != burst+perSecond+1 {
			t.Errorf("%d spans are kept a second later, want %d", got, burst+perSecond+1)
		}
	})
}

// TestBatches: items are sent together, after a second, or at once if they fill a batch.
func TestBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{answer: func(int) (int64, error) { return 0, nil }}
		x := exporterTo(t, r)
		stop := run(x)
		for range 3 {
			x.Emit(sampled("/"))
		}
		time.Sleep(delay / 2)
		synctest.Wait()
		if len(r.attempts()) != 0 {
			t.Errorf("%d batches after half of the delay, want none", len(r.attempts()))
		}
		time.Sleep(delay)
		for range maxBatch {
			x.Emit(sampled("/"))
		}
		synctest.Wait()
		if len(r.attempts()) != 2 {
			t.Errorf("%d batches, want 2: one of what had waited, and a full one", len(r.attempts()))
		}
		x.Emit(sampled("/"))
		stop()
		if want := (Counts{Sent: 3 + maxBatch + 1}); x.Counts()["traces"] != want {
			t.Errorf("counts %+v, want %+v: the rest is sent at the end", x.Counts()["traces"], want)
		}
	})
}

func TestRetries(t *testing.T) {
	away := &sendError{err: errors.New("away"), retry: true}
	for name, tc := range map[string]struct {
		answer   func(attempt int) (int64, error)
		attempts int
		want     Counts
	}{
		"taken later": {func(n int) (int64, error) {
			if n < 3 {
				return 0, away
			}
			return 0, nil
		}, 4, Counts{Sent: 2}},
		"refused for good": {func(int) (int64, error) { return 0, &sendError{err: errors.New("bad")} }, 1, Counts{Failed: 2}},
		"a part rejected":  {func(int) (int64, error) { return 1, nil }, 1, Counts{Sent: 1, Rejected: 1}},
		"a lie":            {func(int) (int64, error) { return 1 << 40, nil }, 1, Counts{Rejected: 2}},
		"told to wait": {func(n int) (int64, error) {
			if n == 0 {
				return 0, &sendError{err: errors.New("busy"), retry: true, after: 40 * time.Second}
			}
			return 0, nil
		}, 2, Counts{Sent: 2}},
		"told to wait for too long": {func(int) (int64, error) {
			return 0, &sendError{err: errors.New("busy"), retry: true, after: time.Hour}
		}, 1, Counts{Failed: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &receiver{answer: tc.answer}
				x := exporterTo(t, r)
				stop := run(x)
				x.Emit(sampled("/"))
				x.Emit(sampled("/"))
				time.Sleep(2 * giveUp)
				synctest.Wait()
				if len(r.attempts()) != tc.attempts {
					t.Errorf("%d attempts at %v, want %d", len(r.attempts()), r.attempts(), tc.attempts)
				}
				if diff := cmp.Diff(tc.want, x.Counts()["traces"]); diff != "" {
					t.Errorf("counts (-want +got):\n%s", diff)
				}
				stop()
			})
		})
	}
}

// TestAway: a receiver that is away for long loses what does not fit, and gets what comes
// afterwards.
func TestAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		back := time.Now().Add(10 * time.Minute)
		r := &receiver{answer: func(int) (int64, error) {
			if time.Now().Before(back) {
				return 0, &sendError{err: errors.New("away"), retry: true}
			}
			return 0, nil
		}}
		x := exporterTo(t, r)
		stop := run(x)
		const n = 8000
		for range n {
			x.Emit(sampled("/"))
			time.Sleep(75 * time.Millisecond) // ten minutes
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		c := x.Counts()["traces"]
		if c.Sent == 0 || c.Failed == 0 || c.Sent+c.Failed+c.Full != n {
			t.Errorf("counts %+v, want some sent, some dropped, and %d in all", c, n)
		}
		stop()
	})
}

// TestStop: a receiver that hangs holds the agent's end up for a moment only.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := exporterTo(t, &receiver{})
		stop := run(x)
		x.Emit(sampled("/"))
		time.Sleep(5 * time.Second)
		x.Emit(sampled("/"))
		began := time.Now()
		stop()
		if took := time.Since(began); took > flushTime {
			t.Errorf("the end took %v, want at most %v", took, flushTime)
		}
		if got := x.Counts()["traces"]; got.Failed != 2 {
			t.Errorf("counts %+v, want 2 failed", got)
		}
	})
}

// TestHostileStrings: what a client sends does not make a message that cannot be encoded, or
// that is large.
func TestHostileStrings(t *testing.T) {
	e := sampled("/\xff\xfe" + strings.Repeat("\xc3", 60_000) + "?sig=secret&a=b")
	e.Method, e.Authority, e.Head = "G\x80T", "user:password@\xffhost:99999", &tap.Head{Version: "1.1", UserAgent: "\x00\xff"}
	e.Destination.Workload = &mesh.Workload{Name: "web"}
	for _, direction := range []mesh.Direction{mesh.Outbound, mesh.Inbound} {
		for _, grpc := range []bool{false, true} {
			e.Direction, e.GRPC = direction, grpc
			b, err := proto.Marshal(encodeSpans([]tap.Event{*e}, "v"))
			if err != nil || len(b) > 3*4*maxValue {
				t.Errorf("%v, gRPC %v: %d bytes, %v; want a few kilobytes", direction, grpc, len(b), err)
			}
			for _, secret := range []string{"password", "secret"} {
				if strings.Contains(string(b), secret) {
					t.Errorf("%v, gRPC %v: the spans have the %s of a URL", direction, grpc, secret)
				}
			}
		}
	}
	b, err := proto.Marshal(encodeLines([]Line{{Text: "\xff", Path: "/\xff", Method: "\xff"}}, "v"))
	if err != nil {
		t.Errorf("a line with invalid UTF-8: %d bytes, %v", len(b), err)
	}
}
