package heartbeat

import _ "unsafe" // for linkname

// What syscall.Syscall calls around a system call: in between the goroutine has a
// thread and no P, and the scheduler does not wait for it. Between the two nothing
// may be called that is not nosplit, nothing allocated, and no pointer written.

//go:linkname entersyscall runtime.entersyscall
func entersyscall()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()
