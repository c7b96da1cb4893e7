package mesh

// The label and the annotations that users write. The label goes on a pod or a
// namespace; "disabled" on a pod wins over its namespace. An annotation on a
// pod wins over the same one on its namespace.
const (
	LabelMesh     = "underlane.io/mesh" // enabled | disabled | observe
	LabelEnabled  = "enabled"
	LabelDisabled = "disabled"
	LabelObserve  = "observe" // not in the mesh: its requests are seen, and nothing is redirected

	AnnotationSkipOutboundPorts = "underlane.io/skip-outbound-ports" // "25,3306,9000-9100"
	AnnotationSkipInboundPorts  = "underlane.io/skip-inbound-ports"
	AnnotationOpaquePorts       = "underlane.io/opaque-ports"
	AnnotationFailMode          = "underlane.io/fail-mode" // open | closed
	AnnotationPolicy            = "underlane.io/policy"    // allow | strict | a mode of AnnotationLinkerdPolicy
	// AnnotationLinkerdPolicy is Linkerd's annotation. It decides about ports that no Server
	// selects, and is in force at once when it changes.
	AnnotationLinkerdPolicy     = "config.linkerd.io/default-inbound-policy" // all-unauthenticated | all-authenticated | cluster-… | deny | audit
	AnnotationPlaintextFallback = "underlane.io/plaintext-fallback"          // never | allowed
	AnnotationRateLimit         = "underlane.io/rate-limit"                  // "100/s", "100/s burst=200", "none"
	AnnotationClientRateLimit   = "underlane.io/rate-limit-per-client"       // likewise
	AnnotationTraceSampling     = "underlane.io/trace-sampling"              // off | parent | "5%"
	AnnotationAccessLog         = "underlane.io/access-log"                  // none | apache | json
	AnnotationIngress           = "underlane.io/ingress"                     // enabled | disabled
	// AnnotationSameNode, on a namespace, disables the same-node shortcut. It is
	// for clusters that enforce policies which the controller cannot see.
	AnnotationSameNode = "underlane.io/same-node" // shortcut | wire
	// AnnotationStatus is written by the controller on labelled pods. It says
	// whether the pod is in the mesh and, if not, why.
	AnnotationStatus = "underlane.io/status" // enrolled | pending: … | failed: … | left-out: …
	// AnnotationEnrolled is written by the controller when a pod is first
	// enrolled. It stays as long as the pod has the label, whatever happens to
	// the pod or to its agent.
	AnnotationEnrolled = "underlane.io/enrolled" // true
)

// Annotations of a Service, HTTPRoute or GRPCRoute. Apart from the domain, names
// and values are the same as Linkerd's.
const (
	AnnotationRetryHTTP      = "retry.underlane.io/http"      // "5xx,gateway-error,429,500-502"
	AnnotationRetryGRPC      = "retry.underlane.io/grpc"      // "cancelled,unavailable"
	AnnotationRetryLimit     = "retry.underlane.io/limit"     // "3"
	AnnotationRetryTimeout   = "retry.underlane.io/timeout"   // "400ms", for one attempt
	AnnotationTimeoutRequest = "timeout.underlane.io/request" // "10s", for all attempts together
)

// Annotations of a Service, also named as Linkerd's.
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
