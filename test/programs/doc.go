// Package programs holds the mesh to programs that are not ours: servers and
// clients of Debian, of many protocols, run in pods of two labs that differ in
// one thing, the mesh. What a client says, how it ends and how long it takes
// without the mesh is what it must be with it.
//
// A row (rows_*_test.go) is a server and what clients do with it. It runs in the
// same pods of both labs, to a server of the same node and of another, over IPv4
// and IPv6. What is known to differ is in differences_test.go, and only that.
//
// It takes packages and minutes, so it runs by `make test-programs` alone.
package programs
