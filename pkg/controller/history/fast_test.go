//go:build !race

package history

import "testing"

func withoutRaceDetector(*testing.T) {}
