package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/internal/version"
	"github.com/underlane/underlane/pkg/agent/nodeapi"
	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/redirect"
)

// reporter reports the agent's status to the node API and the metrics.
type reporter struct{ *components }

// Status returns the status of the agent, for `agent status` and `agent check`.
func (a reporter) Status(context.Context) *agentv1.StatusResponse {
	controller := a.client.Status()
	view := a.store.View()
	st := &agentv1.StatusResponse{
		Version: version.Version,
		Node:    a.config.Node,
		Started: timestamppb.New(a.started),
		Controller: &agentv1.Controller{
			Address: controller.Controller, Connected: controller.Connected,
			LastError: controller.LastError, Since: timestamp(controller.Since),
		},
		SnapshotVersion:    view.Version(),
		Synced:             view.Synced(),
		ProgramsAttached:   true, // Load fails otherwise
		Pods:               a.pods.Status(),
		TapLost:            a.hub.Lost(),
		OpenConnections:    uint64(a.conns.Open()),
		PlaintextFallbacks: a.proxy.PlaintextFallbacks(),
		Runtime:            a.runtimeStatus(),
		Repairs:            a.pods.Repaired(),
		Dns:                a.dns(),
		Watched:            a.watched(),
		Redirecting:        a.redirecting(),
	}
	for outcome, n := range a.sandboxes.Counts() {
		st.Sandboxes = append(st.Sandboxes, &agentv1.Counter{Name: outcome, Value: n})
	}
	slices.SortFunc(st.Sandboxes, byName)
	for _, c := range a.certs.Status() {
		st.Certificates = append(st.Certificates, &agentv1.Certificate{
			Identity: c.Identity.String(), NotBefore: timestamp(c.NotBefore), NotAfter: timestamp(c.NotAfter),
			State: certificateState(c), LastError: c.LastError, Chain: c.Chain,
		})
	}
	select {
	case <-a.pods.Reconciled():
	default:
		if st.Synced {
			st.NotReady = append(st.NotReady, "the node's pods have not been looked at yet")
		}
	}
	counters, err := a.datapath.Counters()
	if err != nil {
		st.NotReady = append(st.NotReady, err.Error())
	}
	for name, n := range counters {
		if name == redirect.CounterEventLost {
			st.RingbufLost = n
			continue
		}
		st.KernelEvents = append(st.KernelEvents, &agentv1.Counter{Name: name, Value: n})
	}
	slices.SortFunc(st.KernelEvents, byName)
	return st
}

func byName(x, y *agentv1.Counter) int { return cmp.Compare(x.Name, y.Name) }

func (a reporter) runtimeStatus() *agentv1.Runtime {
	if a.runtime == nil {
		return nil
	}
	s := a.runtime.Status()
	return &agentv1.Runtime{
		Connected: s.Connected, Name: s.Runtime, LastError: s.LastError, Since: timestamp(s.Since), Reconnects: s.Reconnects,
	}
}

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// Ejections returns the endpoints that the proxy does not choose for a while.
func (a reporter) Ejections() (out []*agentv1.Ejection) {
	for _, e := range a.proxy.Ejected() {
		// Service is namespace/name:port.
		name, port, _ := strings.Cut(e.Service, ":")
		namespace, service, _ := strings.Cut(name, "/")
		n, _ := strconv.ParseUint(port, 10, 16)
		out = append(out, &agentv1.Ejection{Namespace: namespace, Service: service, Port: uint32(n), Endpoint: e.Endpoint.String(), Cause: e.Cause})
	}
	return out
}

// Dump returns the agent's maps and state as one JSON object.
func (a reporter) Dump(context.Context) ([]byte, error) {
	maps, err := a.datapath.Dump()
	if err != nil {
		return nil, fmt.Errorf("dump maps: %w", err)
	}
	return json.Marshal(map[string]any{
		"maps":         maps,
		"state":        a.store.View().Dump(),
		"ejected":      a.proxy.Ejected(),
		"certificates": a.certs.Status(),
		"controller":   a.client.Status(),
		"limits":       a.limits.List(balance.Now()),
		"dnsNames":     a.names.cache.List(),
	})
}

// certificateState converts the state of a certificate to its name in the node API.
func certificateState(c mtls.CertStatus) string {
	switch c.State {
	case mtls.CertValid, mtls.CertStale:
		return nodeapi.CertValid
	case mtls.CertExpired:
		return nodeapi.CertExpired
	}
	if c.LastError != "" {
		return nodeapi.CertFailed
	}
	return nodeapi.CertPending
}

// certificates returns when the valid certificates of the node's pods expire.
func (a *components) certificates() map[mesh.Identity]time.Time {
	expiry := make(map[mesh.Identity]time.Time)
	for _, c := range a.certs.Status() {
		if c.State == mtls.CertValid || c.State == mtls.CertStale {
			expiry[c.Identity] = c.NotAfter
		}
	}
	return expiry
}
