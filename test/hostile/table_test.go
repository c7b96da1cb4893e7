package hostile

import (
	"time"

	"github.com/underlane/underlane/pkg/mtls"
)

// attack is a row of the table.
type attack struct {
	name     string
	what     string // what the attacker does, for docs/isolation.md
	do       string // a name in attackers or floods
	from     string // the pod: outsider, insider
	cert     string // of an attacker that speaks mTLS: bad, bomb, peer (valid, as the insider's agent has it)
	alpn     string
	to       string // see stage.place
	conns    int
	short    int           // connections in the short form; 0: it has no such attack
	lasts    time.Duration // in the full form; fullAttack if 0
	bare     bool          // it can be run without the mesh
	honest   bool          // what the attacker does is allowed: no connection of its own may be lost
	answered bool          // it is answered: if it is not, it has attacked nothing
}

const (
	web   = "target:8080"
	echo  = "target:7000"
	vault = "vault:8080" // strict
)

var attacks = []attack{
	{name: "tls/bomb", what: "handshakes with 99 CAs of one name and P-521 keys, 64 at a time", do: "handshakes", from: "outsider", cert: "bomb", alpn: mtls.ALPNHTTP1, to: vault, conns: 64, short: 16},
	{name: "tls/bad", what: "handshakes with a certificate of its own making, 8 at a time", do: "handshakes", from: "outsider", cert: "bad", alpn: mtls.ALPNHTTP1, to: vault, conns: 8, short: 8},
	{name: "tls/stalled", what: "1,000 handshakes that stop after the ClientHello", do: "stalled", from: "outsider", cert: "bad", alpn: mtls.ALPNTCP, to: vault, conns: 1000},
	{name: "tls/valid", what: "handshakes with a valid certificate, 8 at a time", do: "handshakes", from: "insider", cert: "peer", alpn: mtls.ALPNHTTP1, to: web, conns: 8, answered: true},
	{name: "tls/storm", what: "a pod of the mesh opens 5,000 opaque connections at once", do: "atOnce", from: "insider", to: echo, conns: 5000, short: 500, lasts: 20 * time.Second, bare: true, honest: true, answered: true},

	{name: "conns/idle", what: "10,000 connections that say nothing", do: "idle", from: "outsider", to: web, conns: 10_000, short: 1000, lasts: 6 * time.Second, bare: true},
	{name: "conns/idle-strict", what: "10,000 connections to a strict pod that say nothing", do: "idle", from: "outsider", to: vault, conns: 10_000, lasts: 6 * time.Second, bare: true},
	{name: "conns/slow-heads", what: "10,000 heads of 32 KiB that do not end", do: "slowHeads", from: "outsider", to: web, conns: 10_000, short: 500, lasts: 8 * time.Second, bare: true},
	{name: "conns/slow-heads-inside", what: "the same, 5,000, from a pod of the mesh", do: "slowHeads", from: "insider", to: web, conns: 5000, lasts: 8 * time.Second, bare: true},
	{name: "conns/slow-readers", what: "500 responses of 50 MB that are not read", do: "slowReads", from: "outsider", to: web, conns: 500, short: 100, lasts: 6 * time.Second, bare: true},
	{name: "conns/slow-readers-inside", what: "the same from a pod of the mesh", do: "slowReads", from: "insider", to: web, conns: 500, lasts: 6 * time.Second, bare: true},
	{name: "conns/unanswered", what: "10,000 requests to a server that does not answer", do: "unanswered", from: "outsider", to: web, conns: 10_000, short: 1000, lasts: 6 * time.Second, bare: true},
	{name: "conns/unanswered-inside", what: "the same, 5,000, from a pod of the mesh", do: "unanswered", from: "insider", to: web, conns: 5000, lasts: 6 * time.Second, bare: true},
	{name: "conns/greedy", what: "256 HTTP/1 connections of a pod of the mesh at full speed", do: "greedy", from: "insider", to: web, conns: 256, short: 64, bare: true, honest: true, answered: true},

	{name: "http1/chunks", what: "bodies in chunks of 1 byte, 4 connections", do: "chunks", from: "outsider", to: web, conns: 4, short: 4, bare: true},
	{name: "http1/pipeline", what: "pipelined requests for what is not there, 4 connections", do: "pipeline", from: "outsider", to: web, conns: 4, bare: true},
	{name: "http1/fields", what: "pipelined requests of 250 fields, 4 connections", do: "fields", from: "outsider", to: web, conns: 4, bare: true},
	{name: "http1/pipeline-inside", what: "pipelined requests from a pod of the mesh, 4 connections", do: "pipeline", from: "insider", to: web, conns: 4, bare: true},

	{name: "http2/settings", what: "SETTINGS that change the windows of 100 streams", do: "settings", from: "outsider", to: web, conns: 4, short: 4, bare: true},
	{name: "http2/settings-inside", what: "the same from a pod of the mesh", do: "settings", from: "insider", to: web, conns: 4, bare: true},
	{name: "http2/settings-bare", what: "SETTINGS that change the header table", do: "settingsBare", from: "outsider", to: web, conns: 4, bare: true},
	{name: "http2/priority", what: "PRIORITY", do: "priority", from: "outsider", to: web, conns: 4, bare: true},
	{name: "http2/unknown", what: "frames of an unknown type", do: "unknown", from: "outsider", to: web, conns: 4, short: 4, bare: true},
	{name: "http2/update-1", what: "WINDOW_UPDATE by 1 on 100 streams", do: "update1", from: "outsider", to: web, conns: 4, bare: true},
	{name: "http2/update-connection", what: "WINDOW_UPDATE by 1 of the connection", do: "updateConn1", from: "outsider", to: web, conns: 4, bare: true},
	{name: "http2/data-1", what: "DATA of 1 byte on 8 streams", do: "data1", from: "outsider", to: web, conns: 4, short: 4, bare: true},
	{name: "http2/empty-data", what: "empty DATA", do: "emptyData", from: "outsider", to: web, conns: 4, bare: true},
	{name: "http2/window-1", what: "100 responses through windows of 1 byte", do: "window1", from: "outsider", to: web, conns: 4, bare: true},
	{name: "http2/trailers-closed", what: "trailers on a stream that has ended", do: "trailersClosed", from: "outsider", to: web, conns: 4, bare: true},
	{name: "http2/continuation", what: "empty CONTINUATION, 60 for each request", do: "continuation", from: "outsider", to: web, conns: 4, bare: true},
	{name: "http2/ping", what: "PING", do: "ping", from: "outsider", to: web, conns: 4, short: 4, bare: true},
	{name: "http2/reset", what: "streams that are opened and reset", do: "reset", from: "outsider", to: web, conns: 4, short: 4, bare: true},
	{name: "http2/not-found", what: "requests for what is not there, all at once", do: "notFound", from: "outsider", to: web, conns: 4, bare: true},

	{name: "peer/storm", what: "with a valid certificate: 5,000 connections at once, with a handshake each", do: "atOnce", from: "insider", cert: "peer", alpn: mtls.ALPNTCP, to: echo, conns: 5000, lasts: 20 * time.Second, answered: true},
	{name: "peer/settings", what: "with a valid certificate: SETTINGS as above", do: "settings", from: "insider", cert: "peer", alpn: mtls.ALPNHTTP2, to: web, conns: 4},
	{name: "peer/data-1", what: "with a valid certificate: DATA of 1 byte", do: "data1", from: "insider", cert: "peer", alpn: mtls.ALPNHTTP2, to: web, conns: 4},
	{name: "peer/window-1", what: "with a valid certificate: windows of 1 byte", do: "window1", from: "insider", cert: "peer", alpn: mtls.ALPNHTTP2, to: web, conns: 4},
	{name: "peer/reset", what: "with a valid certificate: streams that are opened and reset", do: "reset", from: "insider", cert: "peer", alpn: mtls.ALPNHTTP2, to: web, conns: 4},
	{name: "peer/shared-reset", what: "on a shared connection of HTTP/1: streams that are opened and reset", do: "muxReset", from: "insider", cert: "peer", alpn: mtls.ALPNMux, to: web, conns: 4, short: 2, lasts: 8 * time.Second},
	{name: "peer/shared-data-1", what: "on a shared connection of HTTP/1: DATA of 1 byte", do: "muxData1", from: "insider", cert: "peer", alpn: mtls.ALPNMux, to: web, conns: 4},
	{name: "peer/shared-settings", what: "on a shared connection of HTTP/1: SETTINGS that change the windows of 60 streams", do: "muxSettings", from: "insider", cert: "peer", alpn: mtls.ALPNMux, to: web, conns: 4},
	{name: "peer/shared-ping", what: "on a shared connection of HTTP/1: PING", do: "muxPing", from: "insider", cert: "peer", alpn: mtls.ALPNMux, to: web, conns: 4},
	{name: "peer/streams-reset", what: "on a shared connection of opaque ones: streams that are opened and reset", do: "streamsReset", from: "insider", cert: "peer", alpn: mtls.ALPNStreams, to: web, conns: 4},
	{name: "peer/streams-unread", what: "on a shared connection of opaque ones: streams whose bytes are not read, each reset 60 later", do: "streamsUnread", from: "insider", cert: "peer", alpn: mtls.ALPNStreams, to: web, conns: 4},
	{name: "peer/streams-window-1", what: "on a shared connection of opaque ones: 60 streams with windows of 1 byte", do: "streamsWindow1", from: "insider", cert: "peer", alpn: mtls.ALPNStreams, to: web, conns: 4},
	{name: "peer/streams-data-1", what: "on a shared connection of opaque ones: DATA of 1 byte", do: "streamsData1", from: "insider", cert: "peer", alpn: mtls.ALPNStreams, to: web, conns: 4},

	{name: "doors/node-api", what: "handshakes without a good certificate at the node API (4193), 8 at a time", do: "handshakes", from: "outsider", cert: "bad", alpn: "h2", to: "node-2:4193", conns: 8, short: 8},
	{name: "doors/node-api-idle", what: "5,000 connections to the node API", do: "idle", from: "outsider", to: "node-2:4193", conns: 5000},
	{name: "doors/metrics-idle", what: "5,000 connections to the agent's metrics (4191)", do: "idle", from: "outsider", to: "node-2:4191", conns: 5000, short: 500},
	{name: "doors/metrics", what: "16 connections that read the agent's metrics at full speed", do: "scrape", from: "outsider", to: "node-2:4191", conns: 16},
	{name: "doors/controller", what: "handshakes with a certificate bomb at the controller (8443), 16 at a time", do: "handshakes", from: "outsider", cert: "bomb", alpn: "h2", to: "controller:8443", conns: 16},
	{name: "doors/controller-idle", what: "5,000 connections to the controller", do: "idle", from: "outsider", to: "controller:8443", conns: 5000, short: 500},
}
