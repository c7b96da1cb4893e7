package selfcheck

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/underlane/underlane/test/demo/banner"
	"github.com/underlane/underlane/test/demo/catalog"
	pb "github.com/underlane/underlane/test/demo/proto"
	"github.com/underlane/underlane/test/demo/selfcheck/wire"
	"github.com/underlane/underlane/test/demo/web"
)

// controlPath is the path that a pod outside the mesh requests. A capture without
// it proves nothing.
const controlPath = "/healthz?outside=the-mesh"

// secrets returns the words that must not be readable on the wire.
func secrets() wire.Words {
	words := []string{
		"/api/list", "/api/vote", "/api/events", "/api/leaderboard", "GET / HTTP/1.1",
		pb.EmojiService_ListAll_FullMethodName, pb.EmojiService_FindByShortcode_FullMethodName,
		pb.VotingService_Results_FullMethodName, pb.VotingService_WatchResults_FullMethodName,
		"PRI * HTTP/2.0", "application/grpc",
		banner.Greeting, banner.QueryGreeting, banner.ServerVersion, "caching_sha2_password",
	}
	for _, e := range catalog.All {
		words = append(words, web.VotePath(e.Shortcode), e.Shortcode)
	}
	return wire.NewWords(words...)
}

// servers has the deployments that are called across the wire, with their ports.
var servers = []struct {
	name string
	port uint16
}{{"web", 8080}, {"voting", 8080}, {"banner", 3306}}

// CheckEncrypted checks a capture of a node's uplink. Between meshed pods, the ports
// must be the applications' and none of their words may be in the clear. The request
// of the pod outside the mesh must be in the clear.
func CheckEncrypted(capture io.Reader, pods []Pod) (saw string, err error) {
	var (
		owner    = map[netip.Addr]Pod{}
		segments = map[string]int{}
		words    = secrets()
		control  = wire.NewWords(controlPath)
		outside  bool // the request of the pod outside the mesh was seen
	)
	for _, p := range pods {
		for _, a := range p.Addrs {
			owner[a] = p
		}
	}
	for {
		frame, err := wire.ReadFrame(capture)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", err
		}
		s, ok := wire.ParseFrame(frame)
		if !ok || len(s.Payload) == 0 {
			continue
		}
		from, to := owner[s.From.Addr()], owner[s.To.Addr()]
		if from.Namespace != Namespace || to.Namespace != Namespace {
			outside = outside || control.In(s.Payload) != ""
			continue
		}
		if word := words.In(s.Payload); word != "" {
			return "", fmt.Errorf("%q is in the clear from %s (%s) to %s (%s)", word, from.Name, s.From, to.Name, s.To)
		}
		name, ok := servedBy(from, to, s)
		if !ok {
			return "", fmt.Errorf("%s (%s) to %s (%s): neither port is the application's", from.Name, s.From, to.Name, s.To)
		}
		segments[name]++
	}
	return summary(segments, outside)
}

// servedBy returns the name of the server whose own port a segment comes from or goes
// to.
func servedBy(from, to Pod, s wire.Segment) (name string, ok bool) {
	for _, server := range servers {
		for _, end := range []struct {
			pod  Pod
			port uint16
		}{{from, s.From.Port()}, {to, s.To.Port()}} {
			if end.port == server.port && strings.HasPrefix(end.pod.Name, server.name+"-") {
				return fmt.Sprintf("%s:%d", server.name, server.port), true
			}
		}
	}
	return "", false
}

func summary(segments map[string]int, outside bool) (string, error) {
	var parts []string
	for _, server := range servers {
		name := fmt.Sprintf("%s:%d", server.name, server.port)
		if segments[name] == 0 {
			return "", fmt.Errorf("the capture has no segment of %s: %w", name, errNotSeen)
		}
		parts = append(parts, fmt.Sprintf("%s %d", name, segments[name]))
	}
	if !outside {
		return "", fmt.Errorf("the capture lacks even the request of the pod outside the mesh: %w", errNotSeen)
	}
	slices.Sort(parts)
	return "segments " + strings.Join(parts, ", ") + ": no word in the clear but the outsider's", nil
}
