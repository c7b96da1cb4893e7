package timeslice

import _ "unsafe" // for linkname

// See pkg/redirect/heartbeat/runtime.go, which says what code between the two must not do.

//go:linkname entersyscall runtime.entersyscall
func entersyscall()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()
