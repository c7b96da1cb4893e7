// Package api holds the protocols between Underlane's processes. Each has a
// directory with its .proto file and the Go code generated from it, which is
// committed: building needs no protoc.
package api
