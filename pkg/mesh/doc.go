// Package mesh holds the value types that every other package speaks in:
// identities, workloads, services, endpoints, and the closed table of failure
// reasons. It is a leaf: it imports only the standard library and does no I/O.
package mesh
