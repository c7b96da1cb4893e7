package request

import (
	"strings"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/authorizer"
	"github.com/underlane/underlane/pkg/l7proxy/destination"
)

// Authorizers has what is asked of external authorizers on this node.
type Authorizers struct {
	authorizer.Asker
	Directory *destination.Directory
	Counts    CheckCounts
}

// CheckResult is what a question has led to.
type CheckResult uint8

// The results.
const (
	CheckAllowed    CheckResult = iota
	CheckDenied                 // the authorizer refuses
	CheckFailed                 // there is no answer that counts: the request is refused
	CheckFailedOpen             // the same, and the request goes on

	NumCheckResults
)

// String returns the result's name, which is a label of metrics.
func (r CheckResult) String() string {
	return [NumCheckResults]string{"allowed", "denied", "failed", "failed-open"}[r]
}

func (c *Check) result() CheckResult {
	switch {
	case c.failed == nil && c.answer.Allowed:
		return CheckAllowed
	case c.failed == nil:
		return CheckDenied
	case c.allowed():
		return CheckFailedOpen
	}
	return CheckFailed
}

// CheckBounds are the upper bounds of the buckets of CheckCount, ascending. One more bucket
// has what takes longer.
var CheckBounds = [...]time.Duration{
	time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second,
}

// CheckCounts counts questions by their results.
type CheckCounts struct {
	by [NumCheckResults]struct {
		buckets [len(CheckBounds) + 1]atomic.Uint64
		sum     atomic.Int64
	}
}

// CheckCount are the questions with one result.
type CheckCount struct {
	Buckets [len(CheckBounds) + 1]uint64 // not cumulative
	Sum     time.Duration
}

func (c *CheckCounts) add(r CheckResult, took time.Duration) {
	i := 0
	for i < len(CheckBounds) && took > CheckBounds[i] {
		i++
	}
	c.by[r].buckets[i].Add(1)
	c.by[r].sum.Add(int64(took))
}

// Of returns the questions with a result.
func (c *CheckCounts) Of(r CheckResult) (out CheckCount) {
	for i := range out.Buckets {
		out.Buckets[i] = c.by[r].buckets[i].Load()
	}
	out.Sum = time.Duration(c.by[r].sum.Load())
	return out
}

// lowered returns a copy of a name in lower case.
func lowered(name string) string { return strings.Clone(strings.ToLower(name)) }
