// Package programs runs servers and clients that other people wrote, of many
// protocols, in the pods of two labs that differ in one thing, the mesh. What a
// client prints, how it ends and how long it takes must be the same in both. The
// programs are Debian's; libraries of Python and Node are from PyPI and npm, with
// the lock files in testdata.
//
// A row (rows_*_test.go) is a server and what clients do with it. It runs in the
// same pods of both labs, to a server of the same node and of another, over IPv4
// and IPv6. What is known to differ is in differences_test.go, and only that.
// `make test-programs` runs it alone, and each case in all four ways; `make test` runs
// each in two of them.
package programs
