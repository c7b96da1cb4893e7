package mtls

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// accounts are the identities of a node with many service accounts.
func accounts(n int) (ids []mesh.Identity) {
	for i := range n {
		ids = append(ids, mesh.Identity{TrustDomain: testDomain, Namespace: "shop", ServiceAccount: fmt.Sprint("account-", i)})
	}
	return ids
}

// TestRenewalsOfManyAccounts: a node with 200 service accounts and the default lifetime
// of an hour, which has requested all certificates at once, renews 7 a minute. The
// renewals of the first hours come within the time that the jitter gives them.
func TestRenewalsOfManyAccounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t, time.Hour)
		ids := accounts(200)
		startManager(t, a, ids...)
		synctest.Wait()
		count := func() (n int) {
			for _, id := range ids {
				n += a.requests(id)
			}
			return n
		}
		var minutes []int
		for range 4 * 60 {
			before := count()
			time.Sleep(time.Minute)
			minutes = append(minutes, count()-before)
		}
		sum := 0
		for _, n := range minutes {
			sum += n
		}
		t.Logf("%d renewals in 4 hours, %.2f a minute; at most %d in a minute of the first hour, %d of the last",
			sum, float64(sum)/240, slices.Max(minutes[:60]), slices.Max(minutes[180:]))
		if perHour := sum / 4; perHour < 400 || perHour > 450 {
			t.Errorf("%d renewals an hour, want 400 to 450", perHour)
		}
		if most := slices.Max(minutes); most > 100 {
			t.Errorf("%d renewals in a minute, want at most 100", most)
		}
	})
}

// BenchmarkRenewal is what the renewal of one certificate costs the agent: a key, a
// request for it, and the check of the answer. sign-ns/op is the authority's part, which
// the total includes.
func BenchmarkRenewal(b *testing.B) {
	a := newAuthority(b, time.Hour)
	m := startManager(b, a)
	e := m.newEntry(web)
	var signing time.Duration
	sign := func() {
		_, csr, err := newRequest(web)
		if err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		if _, _, err := a.Directory.SignWorkload(csr, web, time.Hour); err != nil {
			b.Fatal(err)
		}
		signing += time.Since(start)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.issue(b.Context(), e); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		sign()
		b.StartTimer()
	}
	b.ReportMetric(float64(signing.Nanoseconds())/float64(b.N), "sign-ns/op")
}
