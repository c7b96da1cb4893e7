package otlp

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/underlane/underlane/pkg/limit"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// Bounds of a queue, and of what is sent of it at once.
const (
	maxItems = 4096
	maxBytes = 8 << 20
	maxBatch = 512
	// delay is how long an item waits for others.
	delay = time.Second
)

// A pod has perSecond spans a second, and burst of them at once: one that makes its callers'
// requests sampled must not take the queue from the others.
const (
	perSecond = 1000
	burst     = 2000
	maxPods   = 4096
)

// A batch is sent again for giveUp, with pauses from firstPause to lastPause. Then it is
// dropped: later ones are of more use.
const (
	giveUp     = time.Minute
	firstPause = 500 * time.Millisecond
	lastPause  = 10 * time.Second
)

// flushTime bounds what is still sent when the agent stops.
const flushTime = 2 * time.Second

// Options configure an Exporter.
type Options struct {
	Endpoint Endpoint
	CA       string // PEM file with the authority of the receiver's certificate; "": the system's
	Version  string // of the agent
	Log      *slog.Logger
}

// Counts are the items of one signal since the exporter was made.
type Counts struct {
	Sent     uint64 // and taken by the receiver
	Limited  uint64 // dropped, because the pod had too many
	Full     uint64 // dropped, because the queue was full
	Failed   uint64 // dropped, because the receiver could not be reached for too long, or refused the batch
	Rejected uint64 // by the receiver, as parts of batches that it took
}

// Exporter sends the spans of sampled requests and lines of access logs. It is a tap.Sink.
// Its methods are safe for concurrent use.
type Exporter struct {
	log    *slog.Logger
	sender sender
	spans  pipeline[tap.Event]
	lines  pipeline[Line]
	away   atomic.Bool // the last attempt has failed

	began   time.Time
	rates   *limit.Keyed[string] // of spans, by UID
	limited atomic.Uint64
}

// New makes an Exporter. It connects when there is something to send. Run must run.
func New(o Options) (*Exporter, error) {
	s, err := newSender(o.Endpoint, o.CA)
	if err != nil {
		return nil, err
	}
	rate, err := limit.NewRate(perSecond, time.Second, burst)
	if err != nil {
		return nil, err
	}
	x := &Exporter{
		log: o.Log.With("receiver", o.Endpoint.Host), sender: s,
		began: time.Now(), rates: limit.NewKeyed[string](rate, maxPods),
	}
	x.spans = pipeline[tap.Event]{signal: traces, queue: newQueue[tap.Event](maxItems, maxBytes, maxBatch), encode: func(events []tap.Event) proto.Message {
		return encodeSpans(events, o.Version)
	}}
	x.lines = pipeline[Line]{signal: logs, queue: newQueue[Line](maxItems, maxBytes, maxBatch), encode: func(lines []Line) proto.Message {
		return encodeLines(lines, o.Version)
	}}
	return x, nil
}

// Emit implements tap.Sink. It takes the ends of sampled requests.
func (x *Exporter) Emit(e *tap.Event) {
	if e.Trace == nil || e.Kind != tap.ResponseEnd {
		return
	}
	pod := e.Source.Workload
	if e.Direction == mesh.Inbound {
		pod = e.Destination.Workload
	}
	if pod != nil {
		if ok, _ := x.rates.Take(time.Since(x.began), pod.UID); !ok {
			x.limited.Add(1)
			return
		}
	}
	size := eventSize + len(e.Method) + len(e.Authority) + len(e.Path) + len(e.Trace.State) + attemptSize*len(e.Trace.Attempts)
	if e.Head != nil {
		size += len(e.Head.UserAgent) + len(e.Head.Referer)
	}
	kept := *e
	kept.Headers = nil // up to tap.MaxHeaderBytes, which no span has
	x.spans.queue.offer(kept, size)
}

// Wants implements tap.Chooser.
func (x *Exporter) Wants(k tap.Kind) bool { return k == tap.ResponseEnd }

// eventSize is about what an event holds besides the strings of its request.
const eventSize = 1 << 10

// attemptSize is about what an attempt is in memory, and in the message.
const attemptSize = 1 << 9

// Log sends a line of an access log.
func (x *Exporter) Log(l Line) { x.lines.queue.offer(l, len(l.Text)+len(l.Path)+eventSize) }

// Counts returns the counts by signal: traces, logs.
func (x *Exporter) Counts() map[string]Counts {
	spans := x.spans.counts()
	spans.Limited = x.limited.Load()
	return map[string]Counts{traces.name: spans, logs.name: x.lines.counts()}
}

// Run sends until ctx is done, and then for a moment what is left.
func (x *Exporter) Run(ctx context.Context) {
	var both sync.WaitGroup
	both.Go(func() { x.spans.run(ctx, x) })
	both.Go(func() { x.lines.run(ctx, x) })
	both.Wait()
	x.sender.close()
}

// pipeline sends the items of one signal.
type pipeline[T any] struct {
	signal signal
	queue  *queue[T]
	encode func([]T) proto.Message

	sent, failed, rejected atomic.Uint64
}

func (p *pipeline[T]) counts() Counts {
	return Counts{Sent: p.sent.Load(), Full: p.queue.dropped.Load(), Failed: p.failed.Load(), Rejected: p.rejected.Load()}
}

func (p *pipeline[T]) run(ctx context.Context, x *Exporter) {
	for {
		select {
		case <-p.queue.ready:
		case <-ctx.Done():
			p.flush(ctx, x)
			return
		}
		timer := time.NewTimer(delay)
		select {
		case <-timer.C:
		case <-p.queue.full:
		case <-ctx.Done():
		}
		timer.Stop()
		for !p.queue.empty() && ctx.Err() == nil {
			p.send(ctx, x)
		}
	}
}

// flush sends what is left when ctx is done.
func (p *pipeline[T]) flush(ctx context.Context, x *Exporter) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
	defer cancel()
	for !p.queue.empty() && ctx.Err() == nil {
		p.send(ctx, x)
	}
}

// send sends one batch, again while that may help.
func (p *pipeline[T]) send(ctx context.Context, x *Exporter) {
	items := p.queue.take()
	batch := p.encode(items)
	began, pause := time.Now(), firstPause
	for {
		rejected, err := x.sender.send(ctx, p.signal, batch)
		if err == nil {
			rejected = min(rejected, int64(len(items)))
			p.sent.Add(uint64(len(items)) - uint64(rejected))
			p.rejected.Add(uint64(rejected))
			x.reached()
			return
		}
		failure := asSendError(err)
		x.failed(failure)
		wait := max(failure.after, pause/2+rand.N(pause/2))
		if !failure.retry || time.Since(began)+wait > giveUp || !sleep(ctx, wait) {
			p.failed.Add(uint64(len(items)))
			return
		}
		pause = min(2*pause, lastPause)
	}
}

// sleep waits for d. It returns false if ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// failed and reached log when the receiver goes away and comes back, not each attempt.
func (x *Exporter) failed(err error) {
	if !x.away.Swap(true) {
		x.log.Warn("the receiver of traces does not take them: they are kept for a moment and then dropped", "cause", err)
	}
}

func (x *Exporter) reached() {
	if x.away.Swap(false) {
		x.log.Info("the receiver of traces takes them again")
	}
}
