//go:build !race

package tapapi

import "time"

// What TestWideFigures asks, and how soon it wants the answer.
const (
	wideNodes = 200
	wideLimit = 300 * time.Millisecond
)
