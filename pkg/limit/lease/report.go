package lease

import "time"

// Report is what an agent tells the Ledger.
type Report struct {
	Seq     uint64 // of this report, from 1 on each stream
	Applied uint64 // the newest Leases whose grants are in force
	Demands []Demand
	Gone    []uint64 // buckets that are not used any more
}

// Demand is what a node wants of a bucket.
type Demand struct {
	ID    uint64  // of the bucket on this stream
	Limit string  // "": the Ledger knows the ID
	Key   Key     // with Limit
	Rate  float64 // requests a second, let in or not
}

// Leases is what the Ledger answers. All shares of the agent hold for TTL from when it has
// sent the report with this Seq.
type Leases struct {
	Seq    uint64
	Number uint64 // of this message, from 1 on each stream
	Grants []Grant
}

// Grant is a node's share of a bucket.
type Grant struct {
	ID   uint64
	Rate float64 // requests a second
}

// mostDemands bounds one report. What is beyond waits for the next one.
const mostDemands = 2000

// Reporter reports the buckets of a Table on one stream, and applies the answers. A goroutine
// uses it alone. The Reporters of a Table follow each other.
type Reporter struct {
	table   *Table
	seq     uint64
	applied uint64
	begun   bool
	sentAt  map[uint64]time.Duration // of reports without an answer
	stepped time.Duration            // last
}

// Reporter begins a stream.
func (t *Table) Reporter() *Reporter {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gone = nil
	for _, b := range t.ids {
		b.known = false
	}
	return &Reporter{table: t, sentAt: map[uint64]time.Duration{}}
}

// Report returns the report to be sent at now: each Every at least, and at once after Wake and
// when Apply says so. more: another one is to follow at once.
func (r *Reporter) Report(now time.Duration) (out Report, more bool) {
	t := r.table
	t.mu.Lock()
	defer t.mu.Unlock()
	step := r.seq == 0 || now-r.stepped >= Every*9/10
	if step {
		t.sweep(now)
		r.stepped = now
	}
	out.Gone, t.gone = t.gone, nil
	for _, b := range t.ids {
		if step {
			b.step(now)
		}
		if !step && b.known {
			continue
		}
		demand := b.demand(now)
		if b.known && !differs(demand, b.told) {
			continue
		}
		if len(out.Demands) >= mostDemands {
			more = true
			continue
		}
		d := Demand{ID: b.id, Rate: demand}
		if !b.known {
			d.Limit, d.Key = b.pool.limit.Name, keyOf(b.value, b.other)
		}
		b.known, b.told = true, demand
		out.Demands = append(out.Demands, d)
	}
	r.seq++
	r.sentAt[r.seq] = now
	out.Seq, out.Applied = r.seq, r.applied
	return out, more
}

// differs reports whether a demand is worth a message.
func differs(a, b float64) bool { return a > b*1.1 || a < b*0.9 }

// Apply puts leases into force. confirm: a report is to be sent at once, so that the Ledger
// learns that shares were lowered.
func (r *Reporter) Apply(now time.Duration, m Leases) (confirm bool) {
	t := r.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if !r.begun {
		// Shares of an earlier stream must not come to life again.
		r.begun = true
		granted := make(map[uint64]bool, len(m.Grants))
		for _, g := range m.Grants {
			granted[g.ID] = true
		}
		for _, b := range t.ids {
			if !granted[b.id] {
				b.lend(now, -1)
			}
		}
	}
	for _, g := range m.Grants {
		if b := t.ids[g.ID]; b != nil && g.Rate >= 0 {
			b.lend(now, g.Rate)
		}
	}
	r.applied = max(r.applied, m.Number)
	if sent, ok := r.sentAt[m.Seq]; ok {
		// After the grants: they replace shares that have ended.
		t.until.Store(max(t.until.Load(), int64(sent+TTL)))
		for seq := range r.sentAt {
			if seq < m.Seq {
				delete(r.sentAt, seq)
			}
		}
	}
	return len(m.Grants) > 0
}

// step ends a step of the demand's measurement.
func (b *Bucket) step(now time.Duration) {
	b.mu.Lock()
	wanted := b.wanted
	b.mu.Unlock()
	copy(b.steps[1:], b.steps[:])
	copy(b.spans[1:], b.spans[:])
	b.steps[0] = max(float64(wanted)-float64(b.last), 0) // GiveBack may have taken back more
	b.last = wanted
	b.spans[0], b.stepped = now-b.stepped, now
}

// demand returns the requests a second that the bucket wants: the most of the last second and
// the one before.
func (b *Bucket) demand(now time.Duration) float64 {
	rate := func(i int) float64 {
		return (b.steps[i] + b.steps[i+1]) / max(b.spans[i]+b.spans[i+1], Every).Seconds()
	}
	out := max(rate(0), rate(2))
	if b.spans[1] == 0 { // too new to say
		out = max(out, b.pool.own())
	}
	return out
}
