package selfcheck

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// TapEvent has the fields of a line of `agent tap -o json` that the check uses.
type TapEvent struct {
	Source           TapPeer   `json:"source"`
	Destination      TapPeer   `json:"destination"`
	ProxyDirection   string    `json:"proxyDirection"` // INBOUND, OUTBOUND
	TLS              string    `json:"tls"`
	ResponseEndEvent *struct{} `json:"responseEndEvent"`
	ConnCloseEvent   *struct{} `json:"connCloseEvent"`
}

// TapPeer is one end of an event.
type TapPeer struct {
	Metadata map[string]string `json:"metadata"`
}

// ParseTap parses the output of `agent tap -o json`. It ignores an incomplete last
// line.
func ParseTap(output []byte) ([]TapEvent, error) {
	if end := bytes.LastIndexByte(output, '\n'); end >= 0 {
		output = output[:end]
	}
	var events []TapEvent
	for line := range bytes.Lines(output) {
		var e TapEvent
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("read tap: %w in %.100q", err, line)
		}
		events = append(events, e)
	}
	return events, nil
}

// edge is a pair of deployments that talk to each other, and how they must do it.
type edge struct {
	client, server string
	tls            string
	bothNodes      bool // the proxy of each node reports it
}

var edges = []edge{
	{"web", "emoji", "same-node", false},
	{"web", "voting", "true", true},
	{"web", "banner", "true", true},
	{"vote-bot", "web", "true", true},
}

// CheckIdentities checks the events of tap on both nodes. At each edge of the demo,
// both ends must have the identity of their own service account, and tls= must have
// the right value.
func CheckIdentities(events []TapEvent) (saw string, err error) {
	var parts []string
	for _, edge := range edges {
		n, err := edge.check(events)
		if err != nil {
			return "", err
		}
		parts = append(parts, fmt.Sprintf("%s→%s %s (%d)", edge.client, edge.server, edge.tls, n))
	}
	return strings.Join(parts, ", "), nil
}

// check counts the finished requests and connections of an edge.
func (d edge) check(events []TapEvent) (n int, err error) {
	directions := map[string]int{}
	for _, e := range events {
		finished := e.ResponseEndEvent != nil || e.ConnCloseEvent != nil
		if !finished || e.Source.Metadata["deployment"] != d.client || e.Destination.Metadata["deployment"] != d.server {
			continue
		}
		client, server := e.Source.Metadata["identity"], e.Destination.Metadata["identity"]
		if e.TLS != d.tls || client != identity(d.client) || server != identity(d.server) {
			return 0, fmt.Errorf("%s→%s, %s: tls=%s, client identity %q, server identity %q; want tls=%s and the identities of %s and %s",
				d.client, d.server, strings.ToLower(e.ProxyDirection), e.TLS, client, server, d.tls, d.client, d.server)
		}
		directions[e.ProxyDirection]++
		n++
	}
	if directions["OUTBOUND"] == 0 || d.bothNodes && directions["INBOUND"] == 0 {
		return 0, fmt.Errorf("%s→%s: tap showed %d outbound and %d inbound of %d events: %w", d.client, d.server,
			directions["OUTBOUND"], directions["INBOUND"], len(events), errNotSeen)
	}
	return n, nil
}

// identity returns the identity of a service account of the demo in the lab's trust
// domain.
func identity(account string) string {
	return "spiffe://cluster.local/ns/" + Namespace + "/sa/" + account
}
