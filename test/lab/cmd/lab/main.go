// Command lab runs real nodes and pods on this machine, without Kubernetes. A
// node is a network namespace. A pod is a network namespace behind a veth, with a
// cgroup and real processes.
package main

import (
	"os"
	"runtime"

	"github.com/underlane/underlane/test/lab/command"
)

// The main goroutine keeps the main thread, so that no other goroutine can move
// that thread into a namespace. /proc/PID/ns of the lab stays the machine's.
func init() { runtime.LockOSThread() }

func main() { os.Exit(command.Main(os.Args[1:])) }
