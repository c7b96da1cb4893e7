package node

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/cli"
	"github.com/underlane/underlane/pkg/tap/render"
)

// StatusCommand is `agent status`. It succeeds only when the agent is ready.
func StatusCommand(f *Flags) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how this node's agent is; fails unless it is ready",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "table" && output != "json" {
				return fmt.Errorf("output format %q: use table or json", output)
			}
			st, err := f.status(cmd.Context())
			if err != nil {
				return err
			}
			write := writeStatus
			if output == "json" {
				write = writeStatusJSON
			}
			if err := write(cmd.OutOrStdout(), st, time.Now()); err != nil {
				return err
			}
			if !st.GetReady() {
				return cli.ErrSilent
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

func writeStatus(out io.Writer, st *agentv1.StatusResponse, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintf(w, "Agent\t%s, version %s, up %s\n", st.GetNode(), st.GetVersion(), age(now.Sub(st.GetStarted().AsTime())))
	fmt.Fprintf(w, "Ready\t%s\n", yesNo(st.GetReady()))
	for _, why := range st.GetNotReady() {
		fmt.Fprintf(w, "\t%s\n", render.Clean(why))
	}
	fmt.Fprintf(w, "Controller\t%s\n", controllerLine(st.GetController(), now))
	fmt.Fprintf(w, "Snapshot\tversion %d%s\n", st.GetSnapshotVersion(), choose(st.GetSynced(), "", ", not synced"))
	fmt.Fprintf(w, "Programs\t%s\n", choose(st.GetProgramsAttached(), "attached", "not attached"))
	if r := st.GetRuntime(); r != nil {
		fmt.Fprintf(w, "Runtime\t%s\n", runtimeLine(r, now))
	}
	fmt.Fprintf(w, "Proxy\t%d open connections, %d plaintext fallbacks\n", st.GetOpenConnections(), st.GetPlaintextFallbacks())
	fmt.Fprintf(w, "Lost events\t%d in the ring buffer, %d by readers\n", st.GetRingbufLost(), st.GetTapLost())
	if err := w.Flush(); err != nil {
		return err
	}

	fmt.Fprintln(w, "\nNAMESPACE\tPOD\tIP\tSTATE\tPRE-MESH CONNECTIONS\tSINCE\tREASON")
	for _, p := range st.GetPods() {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", p.GetNamespace(), p.GetName(), p.GetIp(), p.GetState(),
			p.GetPreMeshConnections(), age(now.Sub(p.GetSince().AsTime())), render.Clean(p.GetReason()))
	}
	fmt.Fprintln(w, "\nIDENTITY\tSTATE\tEXPIRES IN\tERROR")
	for _, c := range st.GetCertificates() {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", c.GetIdentity(), c.GetState(), expiry(c, now), render.Clean(c.GetLastError()))
	}
	if len(st.GetKernelEvents()) > 0 {
		fmt.Fprintln(w, "\nKERNEL EVENT\tCOUNT")
	}
	for _, c := range st.GetKernelEvents() {
		fmt.Fprintf(w, "%s\t%d\n", c.GetName(), c.GetValue())
	}
	return w.Flush()
}

func controllerLine(c *agentv1.Controller, now time.Time) string {
	state := choose(c.GetConnected(), "connected", "not connected")
	if c.GetAddress() != "" {
		state += " to " + c.GetAddress()
	}
	if c.GetSince() != nil {
		state += " for " + age(now.Sub(c.GetSince().AsTime()))
	}
	if c.GetLastError() != "" {
		state += ", last error: " + c.GetLastError()
	}
	return state
}

func runtimeLine(r *agentv1.Runtime, now time.Time) string {
	if !r.GetConnected() {
		return "not connected: " + r.GetLastError()
	}
	return fmt.Sprintf("connected to %s for %s", r.GetName(), age(now.Sub(r.GetSince().AsTime())))
}

func expiry(c *agentv1.Certificate, now time.Time) string {
	if c.GetNotAfter() == nil {
		return "-"
	}
	left := c.GetNotAfter().AsTime().Sub(now)
	if left < 0 {
		return "expired " + age(-left) + " ago"
	}
	return age(left)
}

// age formats a duration like kubectl: its two largest units.
func age(d time.Duration) string {
	switch d = d.Truncate(time.Second); {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

func yesNo(ok bool) string { return choose(ok, "yes", "no") }

func choose(ok bool, yes, no string) string {
	if ok {
		return yes
	}
	return no
}

type statusJSON struct {
	Version            string            `json:"version"`
	Node               string            `json:"node"`
	Started            time.Time         `json:"started"`
	Ready              bool              `json:"ready"`
	NotReady           []string          `json:"notReady"`
	Controller         controllerJSON    `json:"controller"`
	SnapshotVersion    uint64            `json:"snapshotVersion"`
	Synced             bool              `json:"synced"`
	ProgramsAttached   bool              `json:"programsAttached"`
	Pods               []podJSON         `json:"pods"`
	Certificates       []certificateJSON `json:"certificates"`
	KernelEvents       map[string]uint64 `json:"kernelEvents"`
	RingbufLost        uint64            `json:"ringbufLost"`
	TapLost            uint64            `json:"tapLost"`
	OpenConnections    uint64            `json:"openConnections"`
	PlaintextFallbacks uint64            `json:"plaintextFallbacks"`
	Runtime            *runtimeJSON      `json:"runtime,omitempty"`
	Sandboxes          map[string]uint64 `json:"sandboxes"`
	Repairs            uint64            `json:"repairs"`
}

type runtimeJSON struct {
	Connected  bool   `json:"connected"`
	Name       string `json:"name,omitempty"`
	LastError  string `json:"lastError,omitempty"`
	Reconnects uint64 `json:"reconnects"`
}

type controllerJSON struct {
	Address   string `json:"address"`
	Connected bool   `json:"connected"`
	LastError string `json:"lastError,omitempty"`
}

type podJSON struct {
	Namespace          string    `json:"namespace"`
	Name               string    `json:"name"`
	IP                 string    `json:"ip"`
	Identity           string    `json:"identity"`
	State              string    `json:"state"`
	Reason             string    `json:"reason,omitempty"`
	PreMeshConnections uint32    `json:"preMeshConnections"`
	Since              time.Time `json:"since"`
}

type certificateJSON struct {
	Identity  string    `json:"identity"`
	State     string    `json:"state"`
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	LastError string    `json:"lastError,omitempty"`
}

func writeStatusJSON(out io.Writer, st *agentv1.StatusResponse, _ time.Time) error {
	c := st.GetController()
	doc := statusJSON{
		Version: st.GetVersion(), Node: st.GetNode(), Started: st.GetStarted().AsTime(),
		Ready: st.GetReady(), NotReady: append([]string{}, st.GetNotReady()...),
		Controller:      controllerJSON{c.GetAddress(), c.GetConnected(), c.GetLastError()},
		SnapshotVersion: st.GetSnapshotVersion(), Synced: st.GetSynced(), ProgramsAttached: st.GetProgramsAttached(),
		Pods: []podJSON{}, Certificates: []certificateJSON{}, KernelEvents: map[string]uint64{},
		RingbufLost: st.GetRingbufLost(), TapLost: st.GetTapLost(),
		OpenConnections: st.GetOpenConnections(), PlaintextFallbacks: st.GetPlaintextFallbacks(),
		Sandboxes: map[string]uint64{}, Repairs: st.GetRepairs(),
	}
	if r := st.GetRuntime(); r != nil {
		doc.Runtime = &runtimeJSON{r.GetConnected(), r.GetName(), r.GetLastError(), r.GetReconnects()}
	}
	for _, c := range st.GetSandboxes() {
		doc.Sandboxes[c.GetName()] = c.GetValue()
	}
	for _, p := range st.GetPods() {
		doc.Pods = append(doc.Pods, podJSON{
			p.GetNamespace(), p.GetName(), p.GetIp(), p.GetIdentity(), p.GetState(), p.GetReason(),
			p.GetPreMeshConnections(), p.GetSince().AsTime(),
		})
	}
	for _, c := range st.GetCertificates() {
		doc.Certificates = append(doc.Certificates, certificateJSON{
			c.GetIdentity(), c.GetState(), c.GetNotBefore().AsTime(), c.GetNotAfter().AsTime(), c.GetLastError(),
		})
	}
	for _, e := range st.GetKernelEvents() {
		doc.KernelEvents[e.GetName()] = e.GetValue()
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(doc)
}
