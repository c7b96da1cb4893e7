// Command lab runs real nodes and pods on this machine, without Kubernetes:
// a node is a network namespace, a pod is one behind a veth with a cgroup and
// real processes in it.
package main

import (
	"os"
	"runtime"

	"github.com/underlane/underlane/test/lab/command"
)

// The main goroutine keeps the main thread, so that no other goroutine moves
// it into a namespace: /proc/PID/ns of the lab stays the machine's.
func init() { runtime.LockOSThread() }

func main() { os.Exit(command.Main(os.Args[1:])) }
