package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// signers are agents of so many nodes, with a pod of idA on each.
func signers(t testing.TB, nodes int) (agents []*agent) {
	c := newController(t)
	var pods []*mesh.Workload
	for i := range nodes {
		pods = append(pods, pod("a", fmt.Sprint("n", i), podA))
		pods[i].UID = fmt.Sprint("uid-", i)
	}
	c.publish(pods)
	for i := range nodes {
		agents = append(agents, c.agent(fmt.Sprint("n", i)))
		agents[i].untilConnected()
	}
	return agents
}

// TestSigningStorm: all agents ask for certificates at once, as after the start of a cluster. A
// certificate costs some signatures, so that 50,000 take less than a minute of a processor. The
// processor time is that of both ends.
func TestSigningStorm(t *testing.T) {
	const nodes, each = 20, 30
	agents, request := signers(t, nodes), csr(t)
	unit := signature(t)
	before := cpuTime(t)
	var asking sync.WaitGroup
	for _, a := range agents {
		asking.Go(func() {
			for range each {
				if _, err := a.SignWorkload(t.Context(), idA, request); err != nil {
					t.Error(err)
				}
			}
		})
	}
	asking.Wait()
	cost := (cpuTime(t) - before) / (nodes * each)
	t.Logf("a certificate takes %s of a processor, %.1f times what a signature and its verification take; 50,000 take %.0f s",
		cost.Round(time.Microsecond), float64(cost)/float64(unit), (50_000 * cost).Seconds())
	if !raceEnabled && cost > 30*unit {
		t.Errorf("a certificate takes as long as %.0f signatures", float64(cost)/float64(unit))
	}
}

// signature returns the processor time of a signature and its verification: a measure of the
// machine.
func signature(t *testing.T) time.Duration {
	const n = 200
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(nil)
	before := cpuTime(t)
	for range n {
		s, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
		if err != nil || !ecdsa.VerifyASN1(&key.PublicKey, sum[:], s) {
			t.Fatal("it cannot be verified", err)
		}
	}
	return (cpuTime(t) - before) / n
}
