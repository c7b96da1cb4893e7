package rig

import "context"

// Seen is how many segments the agents were given of what the pods send, and how many they were
// not although they needed them: a pod has a share of the ring buffer.
type Seen struct{ Given, Missed float64 }

// Seen returns what was seen of the subject's pods until now. observed is false if no agent
// observes them.
func (s *Subject) Seen(ctx context.Context) (now Seen, observed bool, err error) {
	if !s.seen {
		return Seen{}, false, nil
	}
	for _, what := range []struct {
		reason string
		to     *float64
	}{
		{"record", &now.Given}, {"limited", &now.Missed}, {"lost", &now.Missed}, {"shed", &now.Missed},
	} {
		n, err := s.metric(ctx, `underlane_kernel_events_total{reason="observe-`+what.reason+`"}`)
		if err != nil {
			return Seen{}, true, err
		}
		*what.to += n
	}
	return now, true, nil
}
