// Package hostile attacks the mesh and measures what its neighbours feel. Each attack
// of the table (table_test.go) runs in a lab, from a pod outside the mesh, from a pod
// of the mesh, or from a peer that has a valid certificate as an agent has. Beside it
// a quiet pod makes requests at a fixed rate, to a server of its own node and to one of
// another, and an outsider tries to get into a strict pod. A row says what the attacker
// did and got, what the quiet pod's requests took before and during it, and what the
// agents used. The full form also runs each attack in a lab without the mesh: what the
// quiet pod feels there is the machine's part.
//
// The short form, with fewer attacks and connections, is a part of `make test`.
// `make hostile` runs the full one; RUN=http2 selects attacks by name. Every attack
// ends by itself, after a fixed time and a fixed number of connections.
//
// `make hostile-peers` makes the attacks on shared proxies of other projects, too, whose
// configurations are in the package peers. It prints a table and judges nothing.
//
// What the mesh does not hold yet is in open_test.go, and only that.
package hostile
