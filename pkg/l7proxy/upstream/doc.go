// Package upstream makes and keeps the connections to endpoints: TCP, mTLS to the agents
// of other nodes, and the pools for HTTP/1 and HTTP/2. It also watches whether those
// agents still run.
package upstream
