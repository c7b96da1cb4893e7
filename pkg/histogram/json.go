package histogram

import (
	"encoding/json"
	"fmt"
)

// sparse is a histogram as JSON: pairs of bucket and count.
type sparse struct {
	Schema  int
	Buckets [][2]int64
}

// MarshalJSON writes the schema, and the buckets that are not empty.
func (h *Histogram) MarshalJSON() ([]byte, error) {
	s := sparse{Schema: Schema, Buckets: [][2]int64{}}
	if c := h.counts.Load(); c != nil {
		s.Schema = c.layout.schema
	}
	for bucket, n := range h.Buckets() {
		s.Buckets = append(s.Buckets, [2]int64{int64(bucket), int64(n)})
	}
	return json.Marshal(s)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (h *Histogram) UnmarshalJSON(text []byte) error {
	var s sparse
	if err := json.Unmarshal(text, &s); err != nil {
		return fmt.Errorf("read histogram: %w", err)
	}
	layout := Standard
	switch s.Schema {
	case Standard.schema:
	case Fine.schema:
		layout = Fine
	default:
		return fmt.Errorf("read histogram: its schema is %d, and not %d or %d", s.Schema, Standard.schema, Fine.schema)
	}
	h.counts.Store(layout.counts())
	for _, b := range s.Buckets {
		if b[0] < int64(layout.min) || b[0] > int64(layout.max) || b[1] < 0 {
			return fmt.Errorf("read histogram: there is no bucket %d with %d", b[0], b[1])
		}
		h.Add(int(b[0]), uint64(b[1]))
	}
	return nil
}
