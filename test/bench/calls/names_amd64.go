package calls

import "golang.org/x/sys/unix"

// more are those that newer architectures have not.
var more = map[uint32]string{unix.SYS_EPOLL_WAIT: "epoll_wait", unix.SYS_POLL: "poll"}
