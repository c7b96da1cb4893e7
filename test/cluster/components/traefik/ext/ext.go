// Package ext has the extensions of Traefik's configuration: none. Traefik's own module of
// this name, which is the same, is in its source tree only.
package ext

// HTTP extends the configuration of HTTP.
type HTTP struct{}

// Router extends that of a router.
type Router struct{}
