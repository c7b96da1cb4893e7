package paths

import (
	"context"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// contextOf returns a context that ends when stop is closed.
func contextOf(t *testing.T, stop <-chan struct{}) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-stop
		cancel()
	}()
	return ctx
}
