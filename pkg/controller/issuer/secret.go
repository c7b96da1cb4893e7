package issuer

import (
	"crypto/x509"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/underlane/underlane/pkg/mtls/ca"
)

const (
	// SecretName is the Secret that holds the issuer. tls.crt has the issuer's
	// certificate and the intermediates up to a trust anchor, tls.key its key, and
	// ca.crt the anchors. cert-manager writes the same form for a Certificate with
	// isCA.
	SecretName = "underlane-identity-issuer"
	// AnchorsName is the ConfigMap that holds the trust bundle for agents.
	AnchorsName = "underlane-trust-anchors"
	// AnchorsKey is the bundle's key in that ConfigMap.
	AnchorsKey = "anchors.pem"

	keyAnchors = "ca.crt"
)

// The label that marks a Secret as created by the controller. The controller
// rotates only such a Secret, not one that a user has provided.
const (
	labelManagedBy = "app.kubernetes.io/managed-by"
	labelPartOf    = "app.kubernetes.io/part-of"
	managedBy      = "underlane-controller"
)

func labels() map[string]string {
	return map[string]string{labelManagedBy: managedBy, labelPartOf: "underlane"}
}

func isOurs(s *corev1.Secret) bool { return s.Labels[labelManagedBy] == managedBy }

// newSecret returns a Secret with an issuer that the controller has created.
// anchors are the issuer's own and those of earlier issuers.
func newSecret(namespace string, i ca.Issuer, anchors []*x509.Certificate) (*corev1.Secret, error) {
	key, err := i.KeyPEM()
	if err != nil {
		return nil, err
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: SecretName, Namespace: namespace, Labels: labels()},
		Type:       corev1.SecretTypeTLS,
		Data: map[string][]byte{
			corev1.TLSCertKey: i.ChainPEM(), corev1.TLSPrivateKeyKey: key, keyAnchors: ca.EncodePEM(anchors...),
		},
	}, nil
}

// parseSecret returns a Secret's issuer and its anchors: those of ca.crt, or the
// end of the issuer's chain if there are none.
func parseSecret(s *corev1.Secret) (ca.Issuer, []*x509.Certificate, error) {
	i, err := ca.ParseIssuer(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return ca.Issuer{}, nil, fmt.Errorf("%s and %s of Secret %s: %w", corev1.TLSCertKey, corev1.TLSPrivateKeyKey, s.Name, err)
	}
	anchors, err := ca.ParseAnchors(s.Data[keyAnchors])
	if err != nil {
		return ca.Issuer{}, nil, fmt.Errorf("%s of Secret %s: %w", keyAnchors, s.Name, err)
	}
	if len(anchors) == 0 {
		// Without ca.crt only the last certificate of the chain can be an anchor.
		// put checks whether the issuer leads to it.
		anchors = i.Chain[len(i.Chain)-1:]
	}
	return i, anchors, nil
}

// bundle returns the trust bundle: the issuer's anchors, then the previous anchors
// that have not expired and are still in the ConfigMap.
func bundle(now time.Time, own, before []*x509.Certificate) []*x509.Certificate {
	var out []*x509.Certificate
	for _, c := range ca.Distinct(append(own[:len(own):len(own)], before...)) {
		if now.Before(c.NotAfter) {
			out = append(out, c)
		}
	}
	return out
}
