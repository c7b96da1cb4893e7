package ca

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/mesh"
)

func TestControllerCertificate(t *testing.T) {
	a := open(t, t.TempDir())
	cert, err := a.ControllerCertificate(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	chain := parse(t, cert.Certificate)
	if err := verify(chain, a.Anchors()); err != nil {
		t.Error(err)
	}
	leaf := chain[0]
	if got := leaf.URIs[0].String(); got != "spiffe://"+a.TrustDomain()+"/controller" || len(leaf.URIs) != 1 || len(leaf.DNSNames) != 0 {
		t.Errorf("names %v %v, want only spiffe://%s/controller", leaf.URIs, leaf.DNSNames, a.TrustDomain())
	}
	if diff := cmp.Diff([]x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, leaf.ExtKeyUsage); diff != "" {
		t.Errorf("extended key usage (-want +got):\n%s", diff)
	}
	if id, err := mesh.ParseIdentity(leaf.URIs[0].String()); err == nil {
		t.Errorf("the controller's certificate was parsed as the workload %s, want an error", id)
	}
	if name, err := a.NodeName(leaf); err == nil {
		t.Errorf("the controller's certificate was parsed as node %q, want an error", name)
	}
}
