package health

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/underlane/underlane/pkg/cli/check"
	"github.com/underlane/underlane/pkg/cli/cluster/certs"
	"github.com/underlane/underlane/pkg/cli/cluster/installation"
)

// expirySoon is Linkerd's limit. For a certificate with a shorter life, the warning
// comes when a fifth of its life remains.
const expirySoon = 60 * 24 * time.Hour

func (c *installChecks) identity() check.Category {
	var anchors, chain []*x509.Certificate
	const renew = "put a new issuer into Secret " + installation.Issuer + "; one that Underlane made is renewed by the controller: see its log"
	every := func(list *[]*x509.Certificate, wrong func(*x509.Certificate) error) func(context.Context) error {
		return func(context.Context) error {
			var errs []error
			for _, cert := range *list {
				errs = append(errs, wrong(cert))
			}
			return errors.Join(errs...)
		}
	}
	issuer := func(wrong func(*x509.Certificate) error) func(context.Context) error {
		return func(context.Context) error {
			if chain == nil {
				return check.Warn(errors.New("you may not read it"))
			}
			return wrong(chain[0])
		}
	}
	return check.Category{Name: "underlane-identity", Probes: []check.Probe{
		fatal("certificate config is valid", "the leading controller writes ConfigMap "+installation.Anchors+" and, unless it is yours, Secret "+installation.Issuer+": see its log", c.patient(func(ctx context.Context) (err error) {
			anchors, chain, err = c.certificates(ctx)
			return err
		})),
		probe("trust anchors are using supported crypto algorithm", "make new ones", every(&anchors, certs.SupportedKey)),
		probe("trust anchors are within their validity period", "agents trust nobody any more: "+renew, every(&anchors, c.valid)),
		probe("trust anchors are valid for at least 60 days", renew, every(&anchors, c.lasting)),
		probe("issuer cert is using supported crypto algorithm", "make a new one", issuer(func(c *x509.Certificate) error {
			return errors.Join(certs.SupportedKey(c), certs.Accepted(chain))
		})),
		probe("issuer cert is within its validity period", renew, issuer(c.valid)),
		probe("issuer cert is valid for at least 60 days", renew, issuer(c.lasting)),
		probe("issuer cert is issued by the trust anchor", "the issuer's root must be in ca.crt of Secret "+installation.Issuer+"; the controller carries it over into ConfigMap "+installation.Anchors, issuer(func(*x509.Certificate) error {
			return certs.IssuedBy(chain, anchors, c.now())
		})),
	}}
}

// certificates reads the agents' trust anchors and the issuer's chain. chain is nil
// when the caller may not read the Secret.
func (c *installChecks) certificates(ctx context.Context) (anchors, chain []*x509.Certificate, err error) {
	m, err := c.client.CoreV1().ConfigMaps(c.system).Get(ctx, installation.Anchors, metav1.GetOptions{})
	if err != nil {
		return nil, nil, err
	}
	if anchors, err = certs.ParsePEM([]byte(m.Data["anchors.pem"])); err != nil {
		return nil, nil, fmt.Errorf("key anchors.pem of ConfigMap %s: %w", installation.Anchors, err)
	}
	s, err := c.client.CoreV1().Secrets(c.system).Get(ctx, installation.Issuer, metav1.GetOptions{})
	if apierrors.IsForbidden(err) {
		return anchors, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if chain, err = certs.ParsePEM(s.Data["tls.crt"]); err != nil {
		return nil, nil, fmt.Errorf("key tls.crt of Secret %s: %w", installation.Issuer, err)
	}
	return anchors, chain, nil
}

func (c *installChecks) valid(cert *x509.Certificate) error {
	switch now := c.now(); {
	case now.Before(cert.NotBefore):
		return fmt.Errorf("%q is not valid before %s: do the clocks agree?", cert.Subject, cert.NotBefore.Format(time.RFC3339))
	case now.After(cert.NotAfter):
		return fmt.Errorf("%q has expired on %s", cert.Subject, cert.NotAfter.Format(time.RFC3339))
	}
	return nil
}

func (c *installChecks) lasting(cert *x509.Certificate) error {
	left, life := cert.NotAfter.Sub(c.now()), cert.NotAfter.Sub(cert.NotBefore)
	if left < expirySoon && left < life/5 {
		return check.Warn(fmt.Errorf("%q will expire on %s", cert.Subject, cert.NotAfter.Format(time.RFC3339)))
	}
	return nil
}
