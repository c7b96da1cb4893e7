package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/calls"
)

// Agent is the source of the agent's own metrics and health. Its methods are called
// at each scrape and each probe, from several goroutines at once.
type Agent interface {
	// Stats returns the agent's current counts. The caller may keep the maps and the
	// slice.
	Stats() Stats
	// NotReady returns why the agent is not ready, one sentence for each cause. An
	// empty result means that the agent is ready.
	NotReady() []string
}

// Stats are the agent's counts that do not come from tap events. The counts start
// with the agent; HTTP2Waiting, Pods, CertificateExpiry and Endpoints are current
// values. The keys of the maps are the values of the metric's label.
type Stats struct {
	RingbufLost        uint64                      // kernel events lost because the ring buffer was full
	KernelEvents       map[string]uint64           // kernel-side failures by reason
	TapLost            uint64                      // events that slow readers of tap and top missed
	AcceptsExhausted   uint64                      // accepts that failed for lack of descriptors or memory
	ListenersRevived   uint64                      // listeners that another program had destroyed and that listen again
	ConnectionPanics   uint64                      // connections that were closed because serving them panicked
	PlaintextFallbacks uint64                      // connections without TLS, because the peer's agent did not answer
	RetriesRefused     uint64                      // retries that a Service's budget did not allow
	PolicyAudited      uint64                      // requests and connections that policies ask to report
	ExpressionsFailed  uint64                      // requests of which an expression of a policy could not be evaluated
	PolicyDecisions    map[calls.Total]uint64      // of requests and connections, of a bounded number of objects
	PolicyRevoked      uint64                      // connections cut because the policy of the server's pod has changed
	RequestsRevoked    uint64                      // requests under way cut for the same cause
	KernelPaths        int                         // destinations that the kernel connects pods to without the proxy
	RedirectedPods     int                         // pods whose packets of kernel paths go past the host
	KernelPathsRefused uint64                      // destinations that stayed with the proxy because there were too many
	Checks             map[string]CheckTimes       // of external authorizers, by result
	MirrorsDropped     uint64                      // copies of requests that were not sent, or got no answer
	HTTP2Waiting       int                         // requests that wait for a stream of an HTTP/2 connection to their endpoint
	LimitHits          map[string]uint64           // refusals by the proxy, by the limit that was reached
	Sandboxes          map[string]uint64           // sandboxes that the container runtime reported, by result
	Repairs            uint64                      // kernel objects that another program had changed and the agent restored
	Ejections          map[string]uint64           // endpoints that were ejected, by reason
	Pods               map[string]int              // by state
	CertificateExpiry  map[mesh.Identity]time.Time // zero: there is no certificate yet
	CertificateStart   map[mesh.Identity]time.Time // from when on the certificate is valid
	Endpoints          []Endpoints
	PodCosts           []PodCost // in the order in which they get metrics, where Options.MaxPods is too little for all
}

// CheckTimes are how long questions to external authorizers have taken.
type CheckTimes struct {
	Count   uint64
	Seconds float64
	Buckets map[float64]uint64 // cumulative, by the upper bound in seconds
}

// podStates are the states of underlane_pods that are always there.
var podStates = [...]string{mesh.PodEnrolled, mesh.PodPending, mesh.PodFailed, mesh.PodLeftOut}

// agentCollector exports Stats.
type agentCollector struct{ m *Metrics }

var (
	ringbufLostDesc  = prometheus.NewDesc("underlane_ringbuf_lost_total", "Kernel events lost because the ring buffer was full.", nil, nil)
	kernelEventsDesc = prometheus.NewDesc("underlane_kernel_events_total", "Kernel-side failures by reason.", []string{"reason"}, nil)
	podsDesc         = prometheus.NewDesc("underlane_pods", "Pods of this node by state.", []string{"state"}, nil)
	certExpiryDesc   = prometheus.NewDesc("identity_cert_expiration_timestamp_seconds", "When the certificate of an identity expires, Unix time.", []string{"identity"}, nil)
	certStartDesc    = prometheus.NewDesc("underlane_cert_start_timestamp_seconds", "From when on the certificate of an identity is valid, Unix time.", []string{"identity"}, nil)
	readyDesc        = prometheus.NewDesc("underlane_ready", "1 while the agent is ready.", nil, nil)
	tapLostDesc      = prometheus.NewDesc("underlane_tap_lost_total", "Events that slow readers of tap and top missed.", nil, nil)
	fallbackDesc     = prometheus.NewDesc("underlane_plaintext_fallback_total", "Connections sent in plaintext because the peer's agent did not answer.", nil, nil)
	budgetDesc       = prometheus.NewDesc("underlane_retries_refused_total", "Retries that a route asked for and the Service's budget did not allow.", nil, nil)
	auditedDesc      = prometheus.NewDesc("underlane_policy_audited_total", "Requests and connections that policies ask to report, and let in.", nil, nil)
	expressionsDesc  = prometheus.NewDesc("underlane_policy_expression_failures_total", "Requests of which an expression of an authorization policy could not be evaluated.", nil, nil)
	decisionsDesc    = prometheus.NewDesc("underlane_policy_decisions_total", "Requests and connections that authorization policies have judged, by what decided.", []string{"namespace", "kind", "name", "object", "rule", "verdict"}, nil)
	checksDesc       = prometheus.NewDesc("underlane_external_auth_duration_seconds", "How long requests waited for an external authorizer, by what came of it.", []string{"result"}, nil)
	revokedDesc      = prometheus.NewDesc("underlane_policy_revoked_total", "Connections cut because the policy of the server's pod has changed.", nil, nil)
	requestsCutDesc  = prometheus.NewDesc("underlane_policy_revoked_requests_total", "Requests under way cut because the policy of the server's pod, or an EgressNetwork of the client's, has changed.", nil, nil)
	redirectedDesc   = prometheus.NewDesc("underlane_kernel_path_redirect_pods", "Pods of this node whose packets on kernel paths go past the host, from one pod's veth into the other pod.", nil, nil)
	pathsDesc        = prometheus.NewDesc("underlane_kernel_paths", "Destinations that the kernel connects pods of this node to, without the proxy.", nil, nil)
	pathsRefusedDesc = prometheus.NewDesc("underlane_kernel_paths_refused_total", "Destinations that stayed with the proxy because there were too many.", nil, nil)
	mirrorsDesc      = prometheus.NewDesc("underlane_mirrors_dropped_total", "Copies of requests that were not made, or not answered.", nil, nil)
	http2WaitingDesc = prometheus.NewDesc("underlane_http2_waiting_requests", "Requests that wait for a stream of an HTTP/2 connection to their endpoint.", nil, nil)
	limitsDesc       = prometheus.NewDesc("underlane_limit_hits_total", "Connections and requests refused because a limit of the proxy was reached.", []string{"limit"}, nil)
	exhaustedDesc    = prometheus.NewDesc("underlane_accept_exhausted_total", "Accepts that failed for want of descriptors or memory, and were tried again.", nil, nil)
	revivedDesc      = prometheus.NewDesc("underlane_listeners_revived_total", "Listeners that another program had destroyed and that listen again.", nil, nil)
	panicsDesc       = prometheus.NewDesc("underlane_connection_panics_total", "Connections cut because serving them panicked.", nil, nil)
	sandboxesDesc    = prometheus.NewDesc("underlane_sandboxes_total", "Pods that the container runtime told of before they started, by what became of them.", []string{"outcome"}, nil)
	repairsDesc      = prometheus.NewDesc("underlane_repairs_total", "Attached programs and map entries that somebody else had changed, put right.", nil, nil)
	overflowDesc     = prometheus.NewDesc("underlane_metrics_overflow_total", "New series over the limit: folded into authority=other, or dropped.", []string{"outcome"}, nil)
)

// Describe implements prometheus.Collector.
func (agentCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		ringbufLostDesc, kernelEventsDesc, podsDesc, certExpiryDesc, certStartDesc, readyDesc, tapLostDesc, fallbackDesc, budgetDesc, mirrorsDesc, http2WaitingDesc, limitsDesc, exhaustedDesc, revivedDesc, panicsDesc, sandboxesDesc, repairsDesc, overflowDesc,
		ejectionsDesc, endpointsDesc, auditedDesc, expressionsDesc, decisionsDesc, revokedDesc, requestsCutDesc, checksDesc, pathsDesc, redirectedDesc, pathsRefusedDesc,
		podProcessorDesc, podWaitedDesc, podWaitsDesc, podConnectionsDesc, podDescriptorsDesc, podBytesDesc, podWeightDesc, podsOmittedDesc,
	} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c agentCollector) Collect(out chan<- prometheus.Metric) {
	if agent := c.m.options.Agent; agent != nil {
		stats := agent.Stats()
		stats.collect(out)
		ready := 1.0
		if len(agent.NotReady()) > 0 {
			ready = 0
		}
		gauge(out, readyDesc, ready)
		c.m.pods.collect(out, stats.PodCosts)
	}
	folded, dropped := c.m.overflow()
	counterOf(out, overflowDesc, folded, "folded")
	counterOf(out, overflowDesc, dropped, "dropped")
}

func (s *Stats) collect(out chan<- prometheus.Metric) {
	for desc, n := range map[*prometheus.Desc]uint64{
		ringbufLostDesc: s.RingbufLost, tapLostDesc: s.TapLost, fallbackDesc: s.PlaintextFallbacks,
		auditedDesc: s.PolicyAudited, expressionsDesc: s.ExpressionsFailed, revokedDesc: s.PolicyRevoked, requestsCutDesc: s.RequestsRevoked, pathsRefusedDesc: s.KernelPathsRefused,
		budgetDesc: s.RetriesRefused, mirrorsDesc: s.MirrorsDropped,
		exhaustedDesc: s.AcceptsExhausted, revivedDesc: s.ListenersRevived, panicsDesc: s.ConnectionPanics, repairsDesc: s.Repairs,
	} {
		counter(out, desc, n)
	}
	for desc, counts := range map[*prometheus.Desc]map[string]uint64{
		kernelEventsDesc: s.KernelEvents, limitsDesc: s.LimitHits, sandboxesDesc: s.Sandboxes, ejectionsDesc: s.Ejections,
	} {
		for label, n := range counts {
			counterOf(out, desc, n, label)
		}
	}
	for t, n := range s.PolicyDecisions {
		out <- prometheus.MustNewConstMetric(decisionsDesc, prometheus.CounterValue, float64(n), t.Namespace, t.Kind, t.Name, t.Object, t.Rule, t.Verdict)
	}
	for result, t := range s.Checks {
		out <- prometheus.MustNewConstHistogram(checksDesc, t.Count, t.Seconds, t.Buckets, result)
	}
	gauge(out, http2WaitingDesc, float64(s.HTTP2Waiting))
	gauge(out, pathsDesc, float64(s.KernelPaths))
	gauge(out, redirectedDesc, float64(s.RedirectedPods))
	for state, n := range s.Pods {
		gauge(out, podsDesc, float64(n), state)
	}
	for _, state := range podStates { // a series that comes only with the first failure is no series to alert on
		if _, there := s.Pods[state]; !there {
			gauge(out, podsDesc, 0, state)
		}
	}
	for desc, times := range map[*prometheus.Desc]map[mesh.Identity]time.Time{
		certExpiryDesc: s.CertificateExpiry, certStartDesc: s.CertificateStart,
	} {
		for id, at := range times {
			if !at.IsZero() {
				gauge(out, desc, float64(at.Unix()), id.String())
			}
		}
	}
	s.collectEndpoints(out)
}

func counterOf(out chan<- prometheus.Metric, desc *prometheus.Desc, n uint64, label string) {
	out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), label)
}

func gauge(out chan<- prometheus.Metric, desc *prometheus.Desc, value float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
}
