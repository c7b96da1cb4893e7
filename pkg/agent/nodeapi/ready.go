package nodeapi

import (
	"fmt"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/mesh"
)

// States of pods and certificates in a StatusResponse.
const (
	PodEnrolled = mesh.PodEnrolled
	PodPending  = mesh.PodPending
	PodFailed   = mesh.PodFailed
	PodLeftOut  = mesh.PodLeftOut

	CertValid   = "valid"
	CertPending = "pending" // requested
	CertExpired = "expired"
	CertFailed  = "failed" // there is none, and the last request failed
)

// Judge sets Ready and adds to NotReady from the other fields of st. An agent is ready
// if it has a snapshot, the programs are attached, every enrolled pod has a valid
// certificate, and NotReady was empty before.
func Judge(st *agentv1.StatusResponse) {
	if !st.GetSynced() && st.GetSnapshotVersion() == 0 {
		st.NotReady = append(st.NotReady, "no state from the controller yet: "+controllerProblem(st.GetController()))
	}
	if !st.GetProgramsAttached() {
		st.NotReady = append(st.NotReady, "the BPF programs are not attached: see the agent's log")
	}
	valid := map[string]bool{}
	for _, c := range st.GetCertificates() {
		valid[c.GetIdentity()] = c.GetState() == CertValid
	}
	missing := map[string]bool{}
	for _, p := range st.GetPods() {
		id := p.GetIdentity()
		if p.GetState() == PodEnrolled && !valid[id] && !missing[id] {
			missing[id] = true
			st.NotReady = append(st.NotReady, fmt.Sprintf("pod %s/%s has no valid certificate for %s", p.GetNamespace(), p.GetName(), id))
		}
	}
	st.Ready = len(st.NotReady) == 0
}

func controllerProblem(c *agentv1.Controller) string {
	switch {
	case c.GetLastError() != "":
		return c.GetLastError()
	case c.GetConnected():
		return "connected, waiting for the first snapshot"
	}
	return "not connected to the controller"
}
