//go:build !race

package figures

// loads are the loads of TestMemory: requests of an edge in a window, and the windows that
// are kept at least.
var loads = map[string]load{"quiet": {3, DefaultWindows}, "busy": {60, DefaultWindows}, "too busy": {150, DefaultWindows / 2}}
