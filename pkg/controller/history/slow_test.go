//go:build race

package history

import "testing"

// withoutRaceDetector is for a test of one goroutine that takes minutes with it. scripts/test.sh
// runs it without.
func withoutRaceDetector(t *testing.T) {
	t.Helper()
	t.Skip("scripts/test.sh runs it without the race detector")
}
