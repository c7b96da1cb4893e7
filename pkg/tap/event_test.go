package tap

import (
	"slices"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/underlane/underlane/pkg/mesh"
)

// TestSuccess goes through all statuses and codes.
func TestSuccess(t *testing.T) {
	for status := 100; status < 600; status++ {
		e := Event{Kind: ResponseEnd, Status: status}
		if got, want := e.Success(), status < 500; got != want {
			t.Errorf("HTTP %d: Success() = %v, want %v", status, got, want)
		}
	}
	failures := []codes.Code{codes.Unknown, codes.DeadlineExceeded, codes.PermissionDenied, codes.Internal, codes.Unavailable, codes.DataLoss}
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		e := Event{Kind: ResponseEnd, Status: 200, GRPC: true, GRPCStatus: int(code)}
		if got, want := e.Success(), !slices.Contains(failures, code); got != want {
			t.Errorf("gRPC %s: Success() = %v, want %v", code, got, want)
		}
	}
	for name, e := range map[string]Event{
		"reset":       {Kind: ResponseEnd, Status: 200, Reset: true},
		"with reason": {Kind: ResponseEnd, Status: 429, Reason: mesh.ReasonRateLimited},
		"refused":     {Kind: ConnClose, Reason: mesh.ReasonRefused},
	} {
		if e.Success() {
			t.Errorf("%s: Success() = true, want false", name)
		}
	}
	if e := (Event{Kind: ConnClose}); !e.Success() {
		t.Error("a connection closed without a reason: Success() = false, want true")
	}
}
