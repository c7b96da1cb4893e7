package cli

import "golang.org/x/sys/windows"

// Windows has numbers of its own for errors of sockets. Those of package syscall that have
// the names of POSIX are inventions of Go, which no socket returns.
const (
	errInUse   = windows.WSAEADDRINUSE
	errRefused = windows.WSAECONNREFUSED
)
