// Package history is what happened in a run of the contract: the attempts of clients,
// what servers received, what a link carried in the clear, which pod had which
// addresses, and the faults. It is only appended to, and written as lines of JSON.
package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"time"

	"github.com/underlane/underlane/test/contract/schedule"
)

// OK is the outcome of an attempt that was answered as it should be.
const OK = "ok"

// Attempt is one request, or one line over a TCP connection, of a client.
type Attempt struct {
	ID      string         `json:"id"` // see NewID
	Client  string         `json:"client"`
	To      string         `json:"to"`   // the target: a pod or a service
	Addr    netip.AddrPort `json:"addr"` // what the client dialled
	From    netip.AddrPort `json:"from"` // of the client's socket; zero if it has not connected
	How     How            `json:"how"`
	Dialled time.Time      `json:"dialled,omitzero"` // when the connection was; zero if it is not known
	Start   time.Time      `json:"start"`
	End     time.Time      `json:"end"`
	Outcome string         `json:"outcome"`          // OK, an errno such as ECONNREFUSED, eof, timeout, "status 502", wrong-answer
	Reason  string         `json:"reason,omitempty"` // of the response header underlane-reason
	Error   string         `json:"error,omitempty"`  // of the client, in words
	By      string         `json:"by,omitempty"`     // pod that answered
	Run     string         `json:"run,omitempty"`    // run of the server's program that answered
}

// How is the way in which a client makes an attempt.
type How string

// The ways. All but HTTPGet must arrive at most once.
const (
	TCP      How = "tcp"       // a connection each, opaque bytes
	HTTPGet  How = "http-get"  // HTTP/1.1, a connection each, which may be repeated
	HTTPPost How = "http-post" // HTTP/1.1, a connection each
	HTTPKept How = "http-kept" // HTTP/1.1, POST on connections that are kept
	HTTP2    How = "http2"     // HTTP/2 without TLS, POST on one connection
)

// Ways are all ways, in the order in which clients use them.
var Ways = []How{TCP, HTTPPost, HTTPKept, HTTP2, HTTPGet}

// Repeatable reports whether an attempt of this kind may arrive more than once.
func (h How) Repeatable() bool { return h == HTTPGet }

// Delivery is an attempt that arrived at a server's program.
type Delivery struct {
	At     time.Time      `json:"at"`
	ID     string         `json:"id"`     // of the attempt
	Server string         `json:"server"` // pod
	Run    string         `json:"run"`    // of the server's program
	From   netip.AddrPort `json:"from"`   // the client, as the server's program sees it
}

// Sighting is an attempt's ID that was read from a link between nodes.
type Sighting struct {
	At   time.Time      `json:"at"`
	ID   string         `json:"id"` // of the attempt
	From netip.AddrPort `json:"from"`
	To   netip.AddrPort `json:"to"`
}

// Tenure is the time in which a pod had its addresses. It may be longer than that of
// its programs.
type Tenure struct {
	Pod   string       `json:"pod"`
	Node  string       `json:"node"`
	Addrs []netip.Addr `json:"addrs"`
	From  time.Time    `json:"from"`
	To    time.Time    `json:"to"` // zero: to the end of the run
}

// Fault is a fault as it went.
type Fault struct {
	schedule.Fault
	Began   time.Time `json:"began"`   // something may be amiss from here on
	Struck  time.Time `json:"struck"`  // the fault is complete
	Healing time.Time `json:"healing"` // it begins to be undone
	Healed  time.Time `json:"healed"`  // all is as before: agents are ready, pods enrolled
}

// Load is how slow the machine was at a time.
type Load struct {
	At     time.Time `json:"at"`
	Factor float64   `json:"factor"` // by which a computation took longer than its processor time
}

// History is everything that happened in a run.
type History struct {
	Attempts   []Attempt
	Deliveries []Delivery
	Sightings  []Sighting
	Tenures    []Tenure
	Faults     []Fault
	Loads      []Load // of the machine, by time
}

// record is one line of a file. One of its fields is set.
type record struct {
	Attempt  *Attempt  `json:"attempt,omitempty"`
	Delivery *Delivery `json:"delivery,omitempty"`
	Sighting *Sighting `json:"sighting,omitempty"`
	Tenure   *Tenure   `json:"tenure,omitempty"`
	Fault    *Fault    `json:"fault,omitempty"`
	Load     *Load     `json:"load,omitempty"`
}

// Write writes the history, a record a line.
func (h *History) Write(w io.Writer) error {
	out := bufio.NewWriter(w)
	enc := json.NewEncoder(out)
	var errs error
	put := func(r record) { errs = errors.Join(errs, enc.Encode(r)) }
	for i := range h.Faults {
		put(record{Fault: &h.Faults[i]})
	}
	for i := range h.Tenures {
		put(record{Tenure: &h.Tenures[i]})
	}
	for i := range h.Attempts {
		put(record{Attempt: &h.Attempts[i]})
	}
	for i := range h.Deliveries {
		put(record{Delivery: &h.Deliveries[i]})
	}
	for i := range h.Sightings {
		put(record{Sighting: &h.Sightings[i]})
	}
	for i := range h.Loads {
		put(record{Load: &h.Loads[i]})
	}
	if err := errors.Join(errs, out.Flush()); err != nil {
		return fmt.Errorf("write a history: %w", err)
	}
	return nil
}

// Read reads what Write wrote.
func Read(r io.Reader) (*History, error) {
	h := &History{}
	dec := json.NewDecoder(r)
	for n := 1; ; n++ {
		var rec record
		err := dec.Decode(&rec)
		switch {
		case errors.Is(err, io.EOF):
			return h, nil
		case err != nil:
			return nil, fmt.Errorf("read a history: record %d: %w", n, err)
		case rec.Attempt != nil:
			h.Attempts = append(h.Attempts, *rec.Attempt)
		case rec.Delivery != nil:
			h.Deliveries = append(h.Deliveries, *rec.Delivery)
		case rec.Sighting != nil:
			h.Sightings = append(h.Sightings, *rec.Sighting)
		case rec.Tenure != nil:
			h.Tenures = append(h.Tenures, *rec.Tenure)
		case rec.Fault != nil:
			h.Faults = append(h.Faults, *rec.Fault)
		case rec.Load != nil:
			h.Loads = append(h.Loads, *rec.Load)
		default:
			return nil, fmt.Errorf("read a history: record %d is of no known kind", n)
		}
	}
}

// NewID returns the ID of a client's attempt. The client sends it as it is, so that
// FindIDs finds it in bytes, also in those of a URL.
func NewID(client string, n int) string { return fmt.Sprintf("ulc.%s.%d.z", client, n) }

var ids = regexp.MustCompile(`ulc\.([a-z0-9-]+)\.[0-9]+\.z`)

// ClientOf returns the client that made an ID, "" if it is none.
func ClientOf(id string) string {
	if m := ids.FindStringSubmatch(id); m != nil && m[0] == id {
		return m[1]
	}
	return ""
}

// FindIDs returns the IDs of attempts in bytes that a link carried.
func FindIDs(b []byte) []string {
	var out []string
	for _, m := range ids.FindAll(b, -1) {
		out = append(out, string(m))
	}
	return out
}
