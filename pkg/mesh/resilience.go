package mesh

import "time"

// FailureAccrual says when an endpoint of a Service is ejected because its
// responses are failures: a 5xx status or, for gRPC calls, one of the codes that
// blame the server. Either of the two measures is enough. With both 0 it has no
// effect.
type FailureAccrual struct {
	Consecutive int // failures in a row; 0: not measured

	SuccessRate float64       // lowest accepted share of good responses, above 0 and up to 1; 0: not measured
	MinRequests int           // number of requests within Window below which the rate is not judged
	Window      time.Duration // period over which the success rate is measured, 10 ms or more

	// MinPenalty is how long an endpoint is ejected at first. Then one request
	// probes it. Each probe that fails doubles the time, up to MaxPenalty.
	MinPenalty, MaxPenalty time.Duration
}

// DefaultFailureAccrual holds the defaults for a Service that asks for failure
// accrual without giving values. SuccessRate is used only by a Service that also
// asks for the success rate.
var DefaultFailureAccrual = FailureAccrual{
	Consecutive: 7, SuccessRate: 0.8, MinRequests: 5, Window: 10 * time.Second,
	MinPenalty: time.Second, MaxPenalty: time.Minute,
}

// RateLimit bounds the requests to a workload. Each pod counts on its own.
type RateLimit struct {
	Count  int           // requests in a Period, 1 or more
	Period time.Duration // at least one nanosecond for each request
	Burst  int           // how many may come at once, 1 or more
}

// RetryBudget bounds the retries to a Service from one node (GEP-3388,
// XBackendTrafficPolicy).
type RetryBudget struct {
	Percent     int           // share of an interval's requests that may be retries, 0 to 100
	Interval    time.Duration // 1 s to 1 h
	MinRetries  int           // always allowed in each MinInterval, whatever Percent says
	MinInterval time.Duration
}

// DefaultRetryBudget is the default of GEP-3388.
var DefaultRetryBudget = RetryBudget{Percent: 20, Interval: 10 * time.Second, MinRetries: 10, MinInterval: time.Second}
