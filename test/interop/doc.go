// Package interop holds the mesh to programs that are not ours: h2spec,
// grpc-go's interop client and server, and a WebSocket library, each in pods of
// the lab, within a node and between two. The programs are a module of their own,
// so that what they need stays out of the mesh's.
package interop
