package codec

import (
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/mesh"
)

func encodeRateLimit(l *mesh.RateLimit) *pb.RateLimit {
	if l == nil {
		return nil
	}
	return &pb.RateLimit{Count: encodeCount(l.Count), Period: encodeDuration(l.Period), Burst: encodeCount(l.Burst)}
}

// encodeCount replaces a negative number by 0 and limits a large one to MaxInt32.
func encodeCount(n int) uint32 { return uint32(min(max(n, 0), math.MaxInt32)) }

func encodeAccrual(a *mesh.FailureAccrual) *pb.FailureAccrual {
	if a == nil {
		return nil
	}
	return &pb.FailureAccrual{
		Consecutive: encodeCount(a.Consecutive), SuccessRate: a.SuccessRate, MinRequests: encodeCount(a.MinRequests),
		Window: encodeDuration(a.Window), MinPenalty: encodeDuration(a.MinPenalty), MaxPenalty: encodeDuration(a.MaxPenalty),
	}
}

func encodeBudget(b *mesh.RetryBudget) *pb.RetryBudget {
	if b == nil {
		return nil
	}
	return &pb.RetryBudget{
		Percent: encodeCount(b.Percent), Interval: encodeDuration(b.Interval),
		MinRetries: encodeCount(b.MinRetries), MinInterval: encodeDuration(b.MinInterval),
	}
}

func decodeRateLimit(l *pb.RateLimit) (*mesh.RateLimit, error) {
	if l == nil {
		return nil, nil
	}
	period, err := decodeDuration(l.GetPeriod())
	count, burst := l.GetCount(), l.GetBurst()
	if err != nil || count < 1 || count > math.MaxInt32 || burst < 1 || burst > math.MaxInt32 || period < time.Duration(count) {
		return nil, fmt.Errorf("a rate limit of %d in %v, %d at once", count, period, burst)
	}
	return &mesh.RateLimit{Count: int(count), Period: period, Burst: int(burst)}, nil
}

func decodeAccrual(a *pb.FailureAccrual) (*mesh.FailureAccrual, error) {
	if a == nil {
		return nil, nil
	}
	if a.GetConsecutive() > math.MaxInt32 || a.GetMinRequests() > math.MaxInt32 {
		return nil, fmt.Errorf("failure accrual after %d failures, of %d requests", a.GetConsecutive(), a.GetMinRequests())
	}
	out := &mesh.FailureAccrual{
		Consecutive: int(a.GetConsecutive()), SuccessRate: a.GetSuccessRate(), MinRequests: int(a.GetMinRequests()),
	}
	if math.IsNaN(out.SuccessRate) || out.SuccessRate < 0 || out.SuccessRate > 1 {
		return nil, fmt.Errorf("failure accrual below a success rate of %v", out.SuccessRate)
	}
	if err := decodeDurations(map[*time.Duration]*durationpb.Duration{
		&out.Window: a.GetWindow(), &out.MinPenalty: a.GetMinPenalty(), &out.MaxPenalty: a.GetMaxPenalty(),
	}); err != nil {
		return nil, fmt.Errorf("failure accrual: %w", err)
	}
	if out.MinPenalty <= 0 || out.MaxPenalty < out.MinPenalty || out.SuccessRate > 0 && (out.Window <= 0 || out.MinRequests < 1) {
		return nil, fmt.Errorf("failure accrual with penalties from %v to %v, and %d requests in %v", out.MinPenalty, out.MaxPenalty, out.MinRequests, out.Window)
	}
	return out, nil
}

func decodeBudget(b *pb.RetryBudget) (*mesh.RetryBudget, error) {
	if b == nil {
		return nil, nil
	}
	if b.GetPercent() > 100 || b.GetMinRetries() > math.MaxInt32 {
		return nil, fmt.Errorf("a retry budget of %d percent, %d at least", b.GetPercent(), b.GetMinRetries())
	}
	out := &mesh.RetryBudget{Percent: int(b.GetPercent()), MinRetries: int(b.GetMinRetries())}
	if err := decodeDurations(map[*time.Duration]*durationpb.Duration{
		&out.Interval: b.GetInterval(), &out.MinInterval: b.GetMinInterval(),
	}); err != nil {
		return nil, fmt.Errorf("retry budget: %w", err)
	}
	if out.Interval < time.Second || out.Interval > time.Hour || out.MinRetries > 0 && out.MinInterval < time.Duration(out.MinRetries) {
		return nil, fmt.Errorf("a retry budget in %v, %d in %v at least", out.Interval, out.MinRetries, out.MinInterval)
	}
	return out, nil
}

func decodeDurations(all map[*time.Duration]*durationpb.Duration) error {
	for to, d := range all {
		var err error
		if *to, err = decodeDuration(d); err != nil {
			return err
		}
	}
	return nil
}
