package mesh

// Reason says why Underlane refused, reset or itself answered a connection or a
// request. The set is closed: the HTTP status, the gRPC status code, the tap
// flag and the metric label of a failure all come from this one table.
type Reason uint8

const (
	ReasonNone                Reason = iota
	ReasonPolicyDenied               // policy at the server's node does not allow this client
	ReasonNoIdentity                 // strict policy, and the client has no mesh identity
	ReasonNoEndpoints                // the service has no endpoint that is ready
	ReasonConnectRefused             // the endpoint refused the connection
	ReasonConnectTimeout             // the endpoint did not answer the connection
	ReasonConnectFailed              // the connection failed for another cause (no route, out of ports…)
	ReasonTLSPeer                    // the peer's certificate is missing, expired, from another trust domain, or too costly to check
	ReasonTLSIdentity                // the peer's certificate belongs to another workload
	ReasonTLSFailed                  // the mTLS handshake failed for another cause
	ReasonAgentDown                  // no agent answers for the server's pod, and plaintext is not allowed
	ReasonNoCertificate              // this node has no certificate for the workload (yet)
	ReasonBadRequest                 // the client's bytes break the protocol
	ReasonBadResponse                // the server's bytes break the protocol
	ReasonUpstreamReset              // the server closed or reset the connection before its response was complete
	ReasonClientReset                // the client went away before the response was complete
	ReasonHeaderTooLarge             // the header section is over the limit
	ReasonResponseHeader             // the response's header section is over the limit
	ReasonOverload                   // a limit of the proxy was reached
	ReasonNoDestination              // the connection's original destination is not known
	ReasonTimeout                    // a time limit expired
	ReasonRefused                    // kernel: the connection was refused (un-proxied)
	ReasonReset                      // kernel: the connection was reset (un-proxied)
	ReasonUnreachable                // kernel: no route or no answer (un-proxied)
	ReasonFailClosed                 // kernel: the agent is away and the pod fails closed
	ReasonRequestTimeout             // the client did not send its request in time
	ReasonTLSRefused                 // the peer refused this node's certificate
	ReasonNoRoute                    // the service has routes, and none of them matches the request
	ReasonBadBackend                 // the route sends the request to a backend that does not exist
	ReasonFault                      // the route makes requests fail on purpose
	ReasonRateLimited                // the server's workload is over its rate limit
	ReasonNotSupported               // the endpoint does not support the protocol that the request asks for
	ReasonPodGone                    // the endpoint's pod has ended
	ReasonElsewhere                  // the peer's certificate is valid, but no pod with its identity has the peer's address
	ReasonExhausted                  // this node's agent has no file descriptors, or no memory for sockets, left
	ReasonRouteNotFound              // the server's policies have routes, and the request belongs to none of them
	ReasonBadToken                   // the request's token is not good
	ReasonBadOverride                // the request of an ingress names no Service that the address belongs to which it was sent to
	ReasonEgressDenied               // the client's namespace does not allow this destination outside the mesh
	ReasonExternalDenied             // an external authorizer does not allow the request
	ReasonExternalUnavailable        // the external authorizer cannot be asked, or its answer is no answer

	NumReasons
)

type reasonRow struct {
	name string
	http int // status of a synthesised HTTP response; 0: no response is ever made for this reason
	grpc int // google.golang.org/grpc/codes
	text string
}

// gRPC codes used below: 4 DEADLINE_EXCEEDED, 7 PERMISSION_DENIED,
// 5 NOT_FOUND, 8 RESOURCE_EXHAUSTED, 12 UNIMPLEMENTED, 13 INTERNAL, 14 UNAVAILABLE,
// 16 UNAUTHENTICATED.
var reasonTable = [NumReasons]reasonRow{
	ReasonNone:           {"", 0, 0, ""},
	ReasonPolicyDenied:   {"policy-denied", 403, 7, "the server's policy does not allow this client"},
	ReasonNoIdentity:     {"no-identity", 403, 7, "the server requires a mesh identity and the client has none"},
	ReasonNoEndpoints:    {"no-endpoints", 503, 14, "the service has no ready endpoint"},
	ReasonConnectRefused: {"connect-refused", 502, 14, "the endpoint refused the connection: is the application listening on this port?"},
	ReasonConnectTimeout: {"connect-timeout", 504, 14, "the endpoint did not answer: maybe a NetworkPolicy drops the packets"},
	ReasonConnectFailed:  {"connect-failed", 502, 14, "the connection to the endpoint failed"},
	ReasonTLSPeer:        {"tls-peer", 502, 14, "the peer's certificate is missing, expired, of another trust domain, or its chain is over the limits"},
	ReasonTLSIdentity:    {"tls-identity", 502, 14, "the peer's certificate belongs to another workload"},
	ReasonTLSFailed:      {"tls-failed", 502, 14, "the mTLS handshake failed"},
	ReasonAgentDown:      {"agent-down", 502, 14, "no agent answers for the server's pod, and plaintext is not allowed"},
	ReasonNoCertificate:  {"no-certificate", 503, 14, "this node has no certificate for the workload yet"},
	ReasonBadRequest:     {"bad-request", 400, 13, "the request breaks the protocol"},
	ReasonBadResponse:    {"bad-response", 502, 14, "the response breaks the protocol"},
	ReasonUpstreamReset:  {"upstream-reset", 502, 14, "the server closed the connection before its response was complete"},
	ReasonClientReset:    {"client-reset", 0, 0, "the client went away before the response was complete"},
	ReasonHeaderTooLarge: {"header-too-large", 431, 8, "the header section is over the limit"},
	ReasonResponseHeader: {"response-header-too-large", 502, 8, "the response's header section is over the limit"},
	ReasonOverload:       {"overload", 503, 8, "a limit of the proxy was reached"},
	ReasonNoDestination:  {"no-destination", 0, 0, "the original destination is not known: the connection was made to the proxy's own port"},
	ReasonTimeout:        {"timeout", 504, 4, "a time limit passed"},
	ReasonRefused:        {"refused", 0, 0, "connection refused"},
	ReasonReset:          {"reset", 0, 0, "connection reset"},
	ReasonUnreachable:    {"unreachable", 0, 0, "no route or no answer"},
	ReasonFailClosed:     {"fail-closed", 0, 0, "the agent is away and the pod fails closed"},
	ReasonRequestTimeout: {"request-timeout", 408, 4, "the client did not send its request in time"},
	ReasonTLSRefused:     {"tls-refused", 502, 14, "the peer refused this node's certificate: the peer's agent says why"},
	ReasonNoRoute:        {"no-route", 404, 12, "the service has routes, and none of them is for this request"},
	ReasonBadBackend:     {"bad-backend", 500, 14, "the route sends this request to a backend that does not exist, or has a filter that is not supported"},
	ReasonFault:          {"fault", 503, 14, "the route makes this request fail on purpose"},
	ReasonRateLimited:    {"rate-limited", 429, 8, "the server's workload lets in no more requests for now"},
	ReasonNotSupported:   {"not-supported", 501, 12, "the endpoint does not take the protocol that the request asks for"},
	ReasonPodGone:        {"pod-gone", 503, 14, "the endpoint's pod has ended"},
	ReasonElsewhere:      {"identity-elsewhere", 0, 0, "no pod that has the identity of the peer's certificate is known at the peer's address: was a key stolen?"},
	ReasonRouteNotFound:  {"route-not-found", 404, 5, "the server's policies have routes, and the request belongs to none of them"},
	ReasonExhausted:      {"exhausted", 503, 8, "the agent has no file descriptors, or no memory for sockets, left"},
	ReasonBadToken:       {"bad-token", 401, 16, "the request's token is not good"},
	ReasonBadOverride:    {"bad-override", 502, 14, "the override header names no Service that the address belongs to which the request was sent to"},
	ReasonEgressDenied:   {"egress-denied", 403, 7, "an EgressNetwork does not allow this destination outside the mesh"},
	ReasonExternalDenied: {"external-denied", 403, 7, "an external authorizer does not allow the request"},
	// 403 as in Envoy and Istio: the request is not allowed until somebody has allowed it.
	ReasonExternalUnavailable: {"external-unavailable", 403, 7, "the external authorizer could not be asked"},
}

var reasonByName = func() map[string]Reason {
	byName := make(map[string]Reason, NumReasons)
	for r := ReasonNone + 1; r < NumReasons; r++ {
		byName[r.String()] = r
	}
	return byName
}()

// ParseReason is the inverse of String. It returns ReasonNone for an unknown name.
func ParseReason(name string) Reason { return reasonByName[name] }

// String returns the name in tap and metric labels: lower case with hyphens, ""
// for ReasonNone.
func (r Reason) String() string { return reasonTable[r].name }

// HTTPStatus returns the status of the response synthesised for r, 0 if there is
// none.
func (r Reason) HTTPStatus() int { return reasonTable[r].http }

// GRPCCode returns the grpc-status of the response synthesised for r, 0 if there
// is none.
func (r Reason) GRPCCode() int { return reasonTable[r].grpc }

// Text returns a sentence for people: what happened and the likely cause.
func (r Reason) Text() string { return reasonTable[r].text }

// NotReached reports whether r means that no application has seen the request.
// Such a request may be sent to another endpoint, whatever its method. It is false of
// ReasonPodGone: a pod can end while it works on a request.
func (r Reason) NotReached() bool {
	return r == ReasonConnectRefused || r == ReasonConnectTimeout || r == ReasonConnectFailed
}

// ReasonError is an error that carries its Reason; errors.As finds it.
type ReasonError struct {
	Reason Reason
	Err    error // may be nil
}

// Fail wraps err with reason.
func Fail(reason Reason, err error) error { return &ReasonError{Reason: reason, Err: err} }

func (e *ReasonError) Error() string {
	if e.Err == nil {
		return e.Reason.String() + ": " + e.Reason.Text()
	}
	return e.Reason.String() + ": " + e.Err.Error()
}

func (e *ReasonError) Unwrap() error { return e.Err }
