// Package interop tests the mesh with programs of others: h2spec, grpc-go's interop
// client and server, and a WebSocket library. They run in pods of the lab, on one
// node and on two. The programs are a separate module, which keeps their
// dependencies out of the mesh's.
package interop
