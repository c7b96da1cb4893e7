package mesh

// The label and annotations users write. The label goes on a pod or a
// namespace; "disabled" on a pod wins over its namespace. An annotation on a
// pod wins over the same one on its namespace.
const (
	LabelMesh     = "underlane.io/mesh" // enabled | disabled
	LabelEnabled  = "enabled"
	LabelDisabled = "disabled"

	AnnotationSkipOutboundPorts = "underlane.io/skip-outbound-ports" // "25,3306,9000-9100"
	AnnotationSkipInboundPorts  = "underlane.io/skip-inbound-ports"
	AnnotationOpaquePorts       = "underlane.io/opaque-ports"
	AnnotationFailMode          = "underlane.io/fail-mode"             // open | closed
	AnnotationPolicy            = "underlane.io/policy"                // allow | strict
	AnnotationPlaintextFallback = "underlane.io/plaintext-fallback"    // never | allowed
	AnnotationRateLimit         = "underlane.io/rate-limit"            // "100/s", "100/s burst=200", "none"
	AnnotationClientRateLimit   = "underlane.io/rate-limit-per-client" // likewise
	// AnnotationSameNode closes the same-node shortcut where policies are
	// enforced that the controller does not know of. On a namespace.
	AnnotationSameNode = "underlane.io/same-node" // shortcut | wire
	// AnnotationStatus is written on labelled pods: what became of them.
	AnnotationStatus = "underlane.io/status" // enrolled | pending: … | failed: … | left-out: …
	// AnnotationEnrolled is written on a pod once it was enrolled, and stays while
	// it is labelled, whatever becomes of it or of its agent.
	AnnotationEnrolled = "underlane.io/enrolled" // true
)

// Annotations of a Service, HTTPRoute or GRPCRoute, named as Linkerd names its
// own, and with the same values.
const (
	AnnotationRetryHTTP      = "retry.underlane.io/http"      // "5xx,gateway-error,429,500-502"
	AnnotationRetryGRPC      = "retry.underlane.io/grpc"      // "cancelled,unavailable"
	AnnotationRetryLimit     = "retry.underlane.io/limit"     // "3"
	AnnotationRetryTimeout   = "retry.underlane.io/timeout"   // "400ms", of one attempt
	AnnotationTimeoutRequest = "timeout.underlane.io/request" // "10s", with all attempts
)

// Annotations of a Service, likewise.
const (
	AnnotationAccrual                   = "balancer.underlane.io/failure-accrual" // consecutive | unified
	AnnotationAccrualMaxFailures        = "balancer.underlane.io/failure-accrual-consecutive-max-failures"
	AnnotationAccrualMinPenalty         = "balancer.underlane.io/failure-accrual-consecutive-min-penalty"
	AnnotationAccrualMaxPenalty         = "balancer.underlane.io/failure-accrual-consecutive-max-penalty"
	AnnotationAccrualJitter             = "balancer.underlane.io/failure-accrual-consecutive-jitter-ratio" // has no effect
	AnnotationAccrualSuccessRate        = "balancer.underlane.io/failure-accrual-success-rate-threshold"   // 0 to 1
	AnnotationAccrualSuccessWindow      = "balancer.underlane.io/failure-accrual-success-rate-window"
	AnnotationAccrualSuccessMinRequests = "balancer.underlane.io/failure-accrual-success-rate-min-requests"
)
