package jwks

import (
	"crypto/x509"
	"sync"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// knowAuthorities makes the authorities that Mozilla trusts known to this process where the
// system has none, as in the controller's image: no certificate of an issuer would be good there.
// It takes some milliseconds and a megabyte, which a controller that asks nobody does not need.
var knowAuthorities = sync.OnceFunc(func() {
	pool := x509.NewCertPool()
	for root := range bundle.Roots() {
		cert, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			continue // this Go does not take it
		}
		if root.Constraint != nil {
			pool.AddCertWithConstraint(cert, root.Constraint)
			continue
		}
		pool.AddCert(cert)
	}
	x509.SetFallbackRoots(pool)
})
