package expression

import "cel.dev/cel-go/common/types"

// The variables of an expression. What the client does not have is the empty string.
const (
	requestMethod        = "request.method"
	requestPath          = "request.path"  // without the query
	requestQuery         = "request.query" // as it is sent, without the question mark
	requestHost          = "request.host"  // in lower case, without a port
	requestHeaders       = "request.headers"
	sourceIdentity       = "source.identity" // SPIFFE ID
	sourceTrustDomain    = "source.trustDomain"
	sourceNamespace      = "source.namespace"
	sourceServiceAccount = "source.serviceAccount"
	sourceAddress        = "source.address" // as the server's node sees it, without a port
	destinationPort      = "destination.port"
	authPrincipal        = "auth.principal" // "issuer/subject" of the request's token
	authClaims           = "auth.claims"
)

// Variables returns the variables and their types.
func Variables() map[string]*types.Type {
	return map[string]*types.Type{
		requestMethod: types.StringType, requestPath: types.StringType, requestQuery: types.StringType, requestHost: types.StringType,
		requestHeaders: types.NewMapType(types.StringType, types.StringType),
		sourceIdentity: types.StringType, sourceTrustDomain: types.StringType, sourceNamespace: types.StringType,
		sourceServiceAccount: types.StringType, sourceAddress: types.StringType,
		destinationPort: types.IntType,
		authPrincipal:   types.StringType, authClaims: types.NewMapType(types.StringType, types.DynType),
	}
}
