//go:build !race

package history

import "testing"

const slowdown = 1

func withoutRaceDetector(*testing.T) {}
