package calls

import "golang.org/x/sys/unix"

// more has the system calls that newer architectures do not have.
var more = map[uint32]string{unix.SYS_EPOLL_WAIT: "epoll_wait", unix.SYS_POLL: "poll"}
