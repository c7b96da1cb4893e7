package script

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Play takes orders, lines of JSON, until they end, and writes events.
func Play(orders io.Reader, events io.Writer) error {
	in, out := json.NewDecoder(orders), json.NewEncoder(events)
	var mu sync.Mutex
	var failed error
	say := func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		if err := out.Encode(e); err != nil && failed == nil {
			failed = err
		}
	}
	jobs := map[int]*job{}
	for {
		var o Order
		if err := in.Decode(&o); err != nil {
			if errors.Is(err, io.EOF) {
				return failed
			}
			return fmt.Errorf("read an order: %w", err)
		}
		if o.Role != "" {
			j := newJob(o, say)
			jobs[o.Job] = j
			go j.run()
			continue
		}
		j := jobs[o.Job]
		if j == nil {
			return fmt.Errorf("there is no job %d", o.Job)
		}
		if o.Tell != "" {
			j.told(o.Tell)
		}
		if o.Finish {
			go j.finish()
			delete(jobs, o.Job)
		}
	}
}
