package figures

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/histogram"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/calls"
	"github.com/underlane/underlane/pkg/tap"
)

// TestEncodingOfRandomWindows counts random events, and sums them up beside it.
func TestEncodingOfRandomWindows(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for round := range 300 {
		var l live
		want, latency := new(Sums), new(histogram.Histogram)
		for range r.IntN(1 << r.IntN(10)) {
			e := randomEvent(r)
			l.count(e)
			expect(want, latency, e)
		}
		if latency.Count() > 0 {
			want.Latency = latency
		}
		for _, drain := range []bool{false, true} {
			data := l.encode(nil, drain)
			if len(data) == 0 {
				if diff := cmp.Diff(new(Sums), want); diff != "" {
					t.Fatal("nothing is encoded of:", diff)
				}
				continue
			}
			got, in := new(Sums), reader{buf: data}
			got.Open = in.add(got)
			if in.err != nil || len(in.buf) > 0 {
				t.Fatalf("round %d: %v, %d bytes are left of %x", round, in.err, len(in.buf), data)
			}
			if diff := cmp.Diff(counts(want.Latency), counts(got.Latency)); diff != "" {
				t.Fatal("latencies (-want +got):", diff)
			}
			for i, part := range got.Parts {
				if off := (part - want.Parts[i]).Abs(); off > want.Parts[i]/2000+time.Microsecond {
					t.Fatalf("part %d is %v, want %v", i, part, want.Parts[i])
				}
				got.Parts[i] = want.Parts[i]
			}
			if off := (got.SRTT - want.SRTT).Abs(); off > time.Microsecond {
				t.Fatalf("round-trip times are %v, want %v", got.SRTT, want.SRTT)
			}
			if off := (got.MinRTT - want.MinRTT).Abs(); off > time.Microsecond {
				t.Fatalf("lowest round-trip times are %v, want %v", got.MinRTT, want.MinRTT)
			}
			got.SRTT, got.MinRTT = want.SRTT, want.MinRTT
			if diff := cmp.Diff(want, got, ignoreLatency); diff != "" {
				t.Fatal("sums (-want +got):", diff)
			}
		}
		got, in := new(Sums), reader{buf: append(l.encode(nil, true), 0)}
		if open := in.add(got); open != want.Open || got.Requests() != 0 || got.Closed != 0 {
			t.Fatalf("after draining: %+v with %d open connections, want nothing with %d", got, open, want.Open)
		}
	}
}

func randomEvent(r *rand.Rand) *tap.Event {
	latency := time.Duration(1 << r.IntN(36))
	e := &tap.Event{Kind: tap.ResponseEnd, Status: 200, Latency: latency, Duration: 5 * latency, Split: tap.Split{
		Queue: time.Duration(r.Int64N(int64(latency))), Connect: time.Duration(r.IntN(2)), TLS: latency, FirstByte: latency, Body: time.Duration(r.IntN(1e9)),
	}}
	switch r.IntN(8) {
	case 0:
		e.Status = 503
	case 1:
		e.Reason, e.Retries = mesh.Reason(r.IntN(int(mesh.NumReasons))), r.IntN(3)
	case 2:
		e.Kind = tap.ConnOpen
	case 3:
		e.Kind, e.ReadBytes, e.WriteBytes = tap.ConnClose, uint64(r.IntN(1e9)), uint64(r.IntN(1e9))
		e.SRTT, e.Retransmits = time.Duration(1+r.IntN(1e8)), uint32(r.IntN(5))
		e.MinRTT = e.SRTT / time.Duration(1+r.IntN(9))
	case 4:
		e.Kind, e.Duration = tap.ConnClose, 0
	case 5:
		e.Judged = &calls.Entry{Finding: &authz.Finding{Audit: "default audit"}}
	}
	return e
}

func expect(s *Sums, latency *histogram.Histogram, e *tap.Event) {
	ended := e.Kind == tap.ResponseEnd || e.Kind == tap.ConnClose && e.Duration == 0
	if ended && (e.Reason == mesh.ReasonPolicyDenied || e.Reason == mesh.ReasonNoIdentity) {
		s.Denied++
	}
	if e.Judged != nil && (e.Kind == tap.ResponseEnd || e.Kind == tap.ConnOpen) {
		s.Audited++
	}
	switch {
	case e.Kind == tap.ResponseEnd:
		if e.Success() {
			s.Success++
		} else {
			s.Fail(e.Reason, 1)
		}
		s.Retries += uint64(e.Retries)
		s.Parts[Queue] += e.Split.Queue
		s.Parts[Connect] += e.Split.Connect
		s.Parts[TLS] += e.Split.TLS
		s.Parts[FirstByte] += e.Split.FirstByte
		s.Parts[Body] += e.Split.Body
		latency.Observe(e.Latency)
	case e.Kind == tap.ConnOpen:
		s.Opened++
		s.Open++
	case e.Duration == 0:
		s.Failed++
	default:
		s.Closed++
		s.Open = max(1, s.Open) - 1
		s.Read, s.Written = s.Read+e.ReadBytes, s.Written+e.WriteBytes
		if e.SRTT > 0 {
			s.SRTT += e.SRTT
			s.MinRTT += e.MinRTT
			s.SRTTs++
		}
		s.Retransmits += uint64(e.Retransmits)
	}
}

func counts(h *histogram.Histogram) map[int]uint64 {
	out := map[int]uint64{}
	if h != nil {
		for bucket, n := range h.Buckets() {
			out[bucket] = n
		}
	}
	return out
}

// FuzzDecode: whatever is read, it ends and does not panic.
func FuzzDecode(f *testing.F) {
	var l live
	l.count(request(nil, nil, 503, time.Second))
	l.count(connection(tap.ConnOpen, nil, nil))
	f.Add(l.encode(nil, false))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		in := reader{buf: data}
		for len(in.buf) > 0 {
			in.add(new(Sums))
		}
	})
}

// TestShort: the numbers of parts are off by at most 0.05 %.
func TestShort(t *testing.T) {
	for v := uint64(0); v < 1<<41; v += 1 + v/997 {
		got := long(short(v))
		if off := max(got, v) - min(got, v); off*2000 > v {
			t.Fatalf("%d becomes %d", v, got)
		}
	}
}
