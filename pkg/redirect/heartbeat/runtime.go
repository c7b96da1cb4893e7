package heartbeat

import _ "unsafe" // for linkname

// syscall.Syscall calls these two functions around a system call. Between them the
// goroutine has a thread but no P, and the scheduler does not wait for it. Code between
// them must call only nosplit functions, must not allocate, and must not write a
// pointer.

//go:linkname entersyscall runtime.entersyscall
func entersyscall()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()
