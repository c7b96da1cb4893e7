//go:build race

package tapapi

import "time"

// Under the race detector TestWideFigures is about data races, not about time.
const (
	wideNodes = 20
	wideLimit = time.Minute
)
