package mesh

import "time"

// FailureAccrual says when an endpoint of a Service is left alone for a while
// because its answers are failures: 5xx, or for gRPC calls one of the codes that
// blame the server. Either of its two measures is enough; with both 0 it does
// nothing.
type FailureAccrual struct {
	Consecutive int // failures in a row; 0: not looked at

	SuccessRate float64       // least share of good answers, above 0 to 1; 0: not looked at
	MinRequests int           // within Window, for the share to mean something
	Window      time.Duration // of the success rate: 10 ms at least

	// MinPenalty is how long an endpoint is out at first. Then one request tries
	// it, and for each trial that fails the time doubles, up to MaxPenalty.
	MinPenalty, MaxPenalty time.Duration
}

// DefaultFailureAccrual has the values that count where a Service asks for
// failure accrual and does not give them. Its success rate is for those that ask
// for that too.
var DefaultFailureAccrual = FailureAccrual{
	Consecutive: 7, SuccessRate: 0.8, MinRequests: 5, Window: 10 * time.Second,
	MinPenalty: time.Second, MaxPenalty: time.Minute,
}

// RateLimit bounds requests to a workload, each of its pods for itself.
type RateLimit struct {
	Count  int           // requests, 1 at least
	Period time.Duration // in which they may come; a nanosecond for each at least
	Burst  int           // how many may come at once, 1 at least
}

// RetryBudget bounds the retries to a Service from one node (GEP-3388,
// XBackendTrafficPolicy).
type RetryBudget struct {
	Percent     int           // of all requests of an interval may be retries, 0 to 100
	Interval    time.Duration // 1 s to 1 h
	MinRetries  int           // allowed in each MinInterval, whatever Percent says
	MinInterval time.Duration
}

// DefaultRetryBudget is the one that GEP-3388 gives.
var DefaultRetryBudget = RetryBudget{Percent: 20, Interval: 10 * time.Second, MinRetries: 10, MinInterval: time.Second}
