package codec

import (
	"errors"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/limit/lease"
	"github.com/underlane/underlane/pkg/policy/authz"
)

func encodeAuthzLimit(l authz.Limit) *pb.AuthzLimit {
	return &pb.AuthzLimit{
		Policy: l.Policy, Name: l.Name, Number: uint32(l.Number), Requests: l.Requests, Per: durationpb.New(l.Per), Burst: l.Burst, Nodes: l.Nodes,
		By: each(l.By, func(by authz.Distinct) *pb.AuthzDistinct {
			return &pb.AuthzDistinct{Kind: uint32(by.Kind), Name: by.Name, Claim: by.Claim}
		}),
		Where: encodeAuthzRule(l.Where),
	}
}

// limit decodes a limit. What is not known is left out: that limits more requests, or
// more of them together.
func (d *authzDecoder) limit(l *pb.AuthzLimit) authz.Limit {
	out := authz.Limit{
		Policy: l.GetPolicy(), Name: l.GetName(), Number: int(l.GetNumber()), Requests: l.GetRequests(), Per: l.GetPer().AsDuration(), Burst: l.GetBurst(), Nodes: l.GetNodes(),
		By: each(l.GetBy(), func(by *pb.AuthzDistinct) authz.Distinct {
			return authz.Distinct{Kind: authz.DistinctKind(small(by.GetKind())), Name: by.GetName(), Claim: by.GetClaim()}
		}),
	}
	if len(l.ProtoReflect().GetUnknown()) == 0 && l.GetWhere() != nil {
		out.Where = d.rule(l.GetWhere())
	}
	return out
}

// EncodeReport encodes the report of an agent about its limits.
func EncodeReport(r lease.Report) *pb.LimitReport {
	return &pb.LimitReport{Seq: r.Seq, Applied: r.Applied, Gone: r.Gone, Demands: each(r.Demands, func(d lease.Demand) *pb.LimitDemand {
		out := &pb.LimitDemand{Id: d.ID, Limit: d.Limit, Rate: d.Rate}
		if d.Limit != "" {
			out.Key = d.Key[:]
		}
		return out
	})}
}

// DecodeReport is the inverse of EncodeReport.
func DecodeReport(in *pb.LimitReport) (lease.Report, error) {
	out := lease.Report{Seq: in.GetSeq(), Applied: in.GetApplied(), Gone: in.GetGone()}
	for _, d := range in.GetDemands() {
		to := lease.Demand{ID: d.GetId(), Limit: d.GetLimit(), Rate: d.GetRate()}
		if d.GetLimit() != "" && copy(to.Key[:], d.GetKey()) != len(to.Key) {
			return out, errors.New("the key of a bucket is too short")
		}
		out.Demands = append(out.Demands, to)
	}
	return out, nil
}

// EncodeLeases encodes the answer to a report.
func EncodeLeases(m lease.Leases) *pb.LimitLeases {
	return &pb.LimitLeases{Seq: m.Seq, Number: m.Number, Grants: each(m.Grants, func(g lease.Grant) *pb.LimitGrant {
		return &pb.LimitGrant{Id: g.ID, Rate: g.Rate}
	})}
}

// DecodeLeases is the inverse of EncodeLeases.
func DecodeLeases(in *pb.LimitLeases) lease.Leases {
	return lease.Leases{Seq: in.GetSeq(), Number: in.GetNumber(), Grants: each(in.GetGrants(), func(g *pb.LimitGrant) lease.Grant {
		return lease.Grant{ID: g.GetId(), Rate: g.GetRate()}
	})}
}
