package redirect

import (
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/mesh"
)

// asker is a connection that requests are made on.
type asker struct {
	io.ReadWriter
	buf []byte
}

var (
	askedFor = []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	answered = []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
)

func (a *asker) ask(b *testing.B) time.Duration {
	began := time.Now()
	if _, err := a.Write(askedFor); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(a, a.buf); err != nil {
		b.Fatal(err)
	}
	return time.Since(began)
}

// askers returns two sets of n connections of a pod: of the first nothing is copied, the
// second is observed. What the kernel copies is read as the agent does, by handle.
func askers(b *testing.B, n int, handle func(*Observation)) (sets [2][]*asker) {
	sets, o := unread(b, n)
	done := make(chan struct{})
	var reading sync.WaitGroup
	b.Cleanup(func() {
		close(done)
		reading.Wait()
		counts := map[string]uint64{}
		_ = o.Counters(counts)
		b.Logf("counted %v", counts)
	})
	reading.Go(func() {
		for {
			if n, _ := o.Read(handle); n > 0 {
				continue
			}
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	return sets
}

// unread is askers for an Observer that nothing reads yet.
func unread(b *testing.B, n int) (sets [2][]*asker, o *Observer) {
	r := newRig(b, mesh.Settings{})
	o = NewObserver(r.d)
	b.Cleanup(o.Close)
	r.d.Withdraw(r.workload.UID)
	l := listen(b, r.peer, peer4, 8080)
	open := func() *asker {
		conn := mustDial(b, r.pod, netip.AddrPortFrom(peer4, 8080))
		accepted, err := l.Accept()
		if err != nil {
			b.Fatal(err)
		}
		go func() {
			defer accepted.Close()
			for buf := make([]byte, len(askedFor)); ; {
				if _, err := io.ReadFull(accepted, buf); err != nil {
					return
				}
				if _, err := accepted.Write(answered); err != nil {
					return
				}
			}
		}()
		return &asker{conn, make([]byte, len(answered))}
	}
	for range n {
		sets[0] = append(sets[0], open())
	}
	if err := o.Observe(r.pod.Cookie(), All); err != nil {
		b.Fatal(err)
	}
	if err := o.objs.Joining.Set(uint8(0)); err != nil { // the first set stays unseen
		b.Fatal(err)
	}
	for range n {
		sets[1] = append(sets[1], open())
	}
	return sets, o
}

// BenchmarkObserverRead reads what the kernel has copied of requests and responses.
func BenchmarkObserverRead(b *testing.B) {
	const each = 1000
	sets, o := unread(b, 1)
	records, bytes := 0, 0
	var spent time.Duration
	for b.Loop() {
		for range each {
			sets[1][0].ask(b)
		}
		runtime.LockOSThread()
		began := processor(b)
		for {
			n, err := o.Read(func(s *Observation) { bytes += len(s.Data) })
			if err != nil {
				b.Fatal(err)
			}
			if records += n; n == 0 {
				break
			}
		}
		spent += processor(b) - began
		runtime.UnlockOSThread()
	}
	if records < 2*each {
		b.Fatalf("%d records are read", records)
	}
	b.ReportMetric(float64(spent)/float64(records), "cpu-ns/record")
}

// processor is the processor time of the thread.
func processor(b *testing.B) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	return time.Duration(t.Nano())
}

// BenchmarkObserver makes requests in turn on a connection of which nothing is copied, and on
// one that is observed. It reports the median of both and their ratio.
func BenchmarkObserver(b *testing.B) {
	sets := askers(b, 1, func(*Observation) {})
	var times [2][]time.Duration
	for b.Loop() {
		for i := range sets {
			times[i] = append(times[i], sets[i][0].ask(b))
		}
	}
	for i := range times {
		slices.Sort(times[i])
	}
	plain, observed := times[0][len(times[0])/2], times[1][len(times[1])/2]
	b.ReportMetric(float64(plain), "plain-p50-ns")
	b.ReportMetric(float64(observed), "observed-p50-ns")
	b.ReportMetric(float64(observed)/float64(plain), "ratio")
}

// BenchmarkObserverMany makes requests on many connections at once, in rounds of which each
// second one is observed. It reports requests a second of the best round of both, and their
// ratio.
func BenchmarkObserverMany(b *testing.B) {
	for _, n := range []int{16, 64} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			sets := askers(b, n, func(*Observation) {})
			const each = 200
			var best [2]time.Duration // of a round: others disturb it only upwards
			for b.Loop() {
				for i := range sets {
					began := time.Now()
					var asking sync.WaitGroup
					for _, a := range sets[i] {
						asking.Go(func() {
							for range each {
								a.ask(b)
							}
						})
					}
					asking.Wait()
					if took := time.Since(began); best[i] == 0 || took < best[i] {
						best[i] = took
					}
				}
			}
			rate := func(i int) float64 { return float64(each*n) / best[i].Seconds() }
			b.ReportMetric(rate(0), "plain/s")
			b.ReportMetric(rate(1), "observed/s")
			b.ReportMetric(rate(1)/rate(0), "ratio")
		})
	}
}
