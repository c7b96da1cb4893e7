// Package accesslog writes a line for each request to the pods that want it
// (mesh.AnnotationAccessLog), in Apache's combined format or as JSON.
//
// What a client sends is escaped: a line is one line of printable ASCII, or of printable
// Unicode in JSON. Requests never wait for the log: each pod may log a number of lines a
// second, and what waits to be written is bounded. Lines beyond that are dropped and
// counted.
package accesslog

import (
	"context"
	"io"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/limit"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
)

// A pod may log perSecond lines a second, and burst of them at once.
const (
	perSecond = 1000
	burst     = 2000
	maxPods   = 4096
)

// maxWaiting is the largest number of bytes that wait to be written.
const maxWaiting = 4 << 20

// maxLines is the largest number of lines that wait to be written.
const maxLines = 8192

// Record is a line and what it is about.
type Record struct {
	Pod   *mesh.Workload
	Event *tap.Event // it is valid while Sink runs
	Line  string     // without its end
}

// Options configure a Log.
type Options struct {
	View func() *state.View // of the node's pods
	// Sink takes the lines, and must not wait. nil: Run writes them to Out.
	Sink func(Record)
	Out  io.Writer
}

// Log is a tap.Sink. Its methods are safe for concurrent use.
type Log struct {
	options Options
	began   time.Time
	rates   *limit.Keyed[string] // by UID
	active  atomic.Pointer[active]

	lines   chan string
	waiting atomic.Int64 // bytes of lines
	limited atomic.Uint64
	full    atomic.Uint64
}

// active is whether pods of a view have a log.
type active struct {
	view *state.View
	any  bool
}

// New returns a Log. Run must run, unless there is a Sink.
func New(o Options) *Log {
	rate, err := limit.NewRate(perSecond, time.Second, burst)
	if err != nil {
		panic(err) // the constants are wrong
	}
	return &Log{options: o, began: time.Now(), rates: limit.NewKeyed[string](rate, maxPods), lines: make(chan string, maxLines)}
}

// Active reports whether a pod of this node has a log. It is called for each request, and
// looks at the pods only when they have changed.
func (l *Log) Active() bool {
	view := l.options.View()
	known := l.active.Load()
	if known == nil || known.view != view {
		known = &active{view: view}
		for _, w := range view.Local() {
			known.any = known.any || w.Settings.AccessLog != mesh.AccessLogNone
		}
		l.active.Store(known)
	}
	return known.any
}

// Dropped returns the number of lines that were dropped, by cause: rate, of a pod, and
// queue, of the writer.
func (l *Log) Dropped() map[string]uint64 {
	return map[string]uint64{"rate": l.limited.Load(), "queue": l.full.Load()}
}

// Emit implements tap.Sink. It takes the ends of requests at the server's side.
func (l *Log) Emit(e *tap.Event) {
	if e.Head == nil || e.Kind != tap.ResponseEnd {
		return
	}
	pod := e.Destination.Workload
	if pod == nil || pod.Settings.AccessLog == mesh.AccessLogNone {
		return
	}
	// A request between two pods of one node passes the proxy once, outbound. If it did not
	// reach the server, it is not the server's.
	if e.Direction == mesh.Outbound && (e.TLS != tap.TLSSameNode || e.Reason.NotReached()) {
		return
	}
	if ok, _ := l.rates.Take(time.Since(l.began), pod.UID); !ok {
		l.limited.Add(1)
		return
	}
	line := format(e, pod)
	if l.options.Sink != nil {
		l.options.Sink(Record{Pod: pod, Event: e, Line: line})
		return
	}
	if l.waiting.Add(int64(len(line))) > maxWaiting {
		l.waiting.Add(-int64(len(line)))
		l.full.Add(1)
		return
	}
	select {
	case l.lines <- line:
	default:
		l.waiting.Add(-int64(len(line)))
		l.full.Add(1)
	}
}

// Wants implements tap.Chooser.
func (l *Log) Wants(k tap.Kind) bool { return k == tap.ResponseEnd }

// Run writes lines until ctx is done, and then those that wait.
func (l *Log) Run(ctx context.Context) {
	for {
		select {
		case line := <-l.lines:
			l.write(line)
		case <-ctx.Done():
			for {
				select {
				case line := <-l.lines:
					l.write(line)
				default:
					return
				}
			}
		}
	}
}

// write writes a line. The log of the agent is nothing that could be repaired here: an error
// loses the line.
func (l *Log) write(line string) {
	_, _ = io.WriteString(l.options.Out, line+"\n")
	l.waiting.Add(-int64(len(line)))
}
