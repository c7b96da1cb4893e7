// Package mesh holds the value types that all other packages share: identities,
// workloads, services, endpoints, routes, and the closed table of failure
// reasons. It is a leaf: it imports only the standard library and does no I/O.
package mesh
