// Package wire plays both ends of connections at the level of sockets, through
// the whole mesh: a script for the client and one for the server (test/wire/script),
// in pods of two labs that differ in one thing, the mesh. What the two ends see
// without the mesh (which bytes, how the stream ended, when) is what they must see
// with it, to a server of the same node and of another.
//
// A row (rows_*_test.go) is one pair of scripts. What is known to differ is in
// differences_test.go, and only that. `go test ./test/wire -run 'TestWire/http1/reset'`
// plays some rows.
package wire
