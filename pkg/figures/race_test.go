//go:build race

package figures

// loads of TestMemory are small under the race detector, which makes millions of atomic
// operations slow. The memory is the same.
var loads = map[string]load{"quiet": {3, DefaultWindows}}
