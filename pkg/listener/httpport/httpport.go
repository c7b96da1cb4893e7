// Package httpport serves HTTP at ports that anyone in the cluster may call, as those of
// metrics and health. A port bounds what its callers cost: their connections, their
// requests, and the work of collecting what they read.
package httpport

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/underlane/underlane/pkg/limit"
	"github.com/underlane/underlane/pkg/listener/crowd"
)

// Bounds of a port. A scraper makes a request in some seconds, and a kubelet one for each
// of its probes.
const (
	maxConns       = 256
	maxFromOne     = 64 // connections from one address
	connsPerSecond = 10 // new connections from one address, beyond maxFromOne at once
	perSecond      = 10 // requests from one address, beyond burst at once
	burst          = 50
	maxSources     = 4096 // addresses whose rate is remembered at a time
	// Fresh is how long a response of Cached is used again.
	Fresh = time.Second
)

// Port is a port. Use New.
type Port struct {
	crowd    crowd.Crowd
	requests *limit.Keyed[netip.Addr]
	began    time.Time
}

// New returns a Port.
func New() *Port {
	rate, err := limit.NewRate(perSecond, time.Second, burst)
	if err != nil {
		panic(err) // the constants are wrong
	}
	return &Port{
		crowd:    crowd.Crowd{Total: maxConns, Each: maxFromOne, PerSecond: connsPerSecond},
		requests: limit.NewKeyed[netip.Addr](rate, maxSources),
		began:    time.Now(),
	}
}

// Listen returns a listener that bounds the connections from ln.
func (p *Port) Listen(ln net.Listener) net.Listener { return p.crowd.Listen(ln) }

// Server returns a server for the connections of Listen. A request above the rate of its
// address is answered 429, and its connection is closed.
func (p *Port) Server(handler http.Handler) *http.Server {
	return &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if from := source(r); !from.IsLoopback() {
				if ok, _ := p.requests.Take(time.Since(p.began), from); !ok {
					w.Header().Set("Connection", "close")
					w.Header().Set("Retry-After", "1")
					http.Error(w, "too many requests from your address", http.StatusTooManyRequests)
					return
				}
			}
			handler.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, sourceKey{}, crowd.Source(conn))
		},
	}
}

// sourceKey is the context key of the address that a connection comes from.
type sourceKey struct{}

func source(r *http.Request) netip.Addr {
	from, _ := r.Context().Value(sourceKey{}).(netip.Addr)
	return from
}
