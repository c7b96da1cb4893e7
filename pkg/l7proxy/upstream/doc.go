// Package upstream makes and keeps the connections to endpoints: TCP, mTLS to the
// agents of other nodes, pools of them for HTTP/1 and HTTP/2, and the watch over the
// agents at their other ends.
package upstream
