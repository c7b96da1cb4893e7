package codec

import (
	"fmt"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/policy/authz"
)

func encodeAuthzToken(r authz.TokenRule) *pb.AuthzToken {
	return &pb.AuthzToken{
		Policy: r.Policy, Issuer: r.Issuer, Audiences: r.Audiences, Keys: r.Keys, Source: r.Source,
		Headers: each(r.Headers, func(h authz.TokenHeader) *pb.AuthzTokenHeader {
			return &pb.AuthzTokenHeader{Name: h.Name, Prefix: h.Prefix}
		}),
		Params: r.Params, Cookies: r.Cookies, Forward: r.Forward, PayloadHeader: r.PayloadHeader,
		ClaimHeaders: each(r.ClaimHeaders, func(c authz.TokenCopy) *pb.AuthzTokenCopy {
			return &pb.AuthzTokenCopy{Header: c.Header, Claim: c.Claim}
		}),
		SpaceDelimited: r.SpaceDelimited,
	}
}

// token decodes a rule. One with a field that is not known fails, and the workload with it:
// without that field other tokens might be good.
func (d *authzDecoder) token(r *pb.AuthzToken) authz.TokenRule {
	if hasUnknown(r.ProtoReflect()) {
		d.fail(fmt.Errorf("tokens of %q: %s", r.GetPolicy(), notKnown))
	}
	return authz.TokenRule{
		Policy: r.GetPolicy(), Issuer: r.GetIssuer(), Audiences: r.GetAudiences(), Keys: r.GetKeys(), Source: r.GetSource(),
		Headers: each(r.GetHeaders(), func(h *pb.AuthzTokenHeader) authz.TokenHeader {
			return authz.TokenHeader{Name: h.GetName(), Prefix: h.GetPrefix()}
		}),
		Params: r.GetParams(), Cookies: r.GetCookies(), Forward: r.GetForward(), PayloadHeader: r.GetPayloadHeader(),
		ClaimHeaders: each(r.GetClaimHeaders(), func(c *pb.AuthzTokenCopy) authz.TokenCopy {
			return authz.TokenCopy{Header: c.GetHeader(), Claim: c.GetClaim()}
		}),
		SpaceDelimited: r.GetSpaceDelimited(),
	}
}
