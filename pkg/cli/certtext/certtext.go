// Package certtext prints certificates in a readable form, like openssl and
// `linkerd identity`.
package certtext

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"io"
	"strings"
)

const timeFormat = "Jan _2 15:04:05 2006 MST"

// Write prints c. A SPIFFE certificate has its name in the subject alternative
// names, and its subject is empty.
func Write(w io.Writer, c *x509.Certificate) error {
	var b strings.Builder
	line := func(indent int, format string, args ...any) {
		b.WriteString(strings.Repeat(" ", 4*indent))
		fmt.Fprintf(&b, format+"\n", args...)
	}
	line(0, "Certificate:")
	line(1, "Data:")
	line(2, "Version: %d (0x%x)", c.Version, c.Version-1)
	line(2, "Serial Number: %d (0x%x)", c.SerialNumber, c.SerialNumber)
	line(1, "Signature Algorithm: %s", c.SignatureAlgorithm)
	line(2, "Issuer: %s", c.Issuer)
	line(2, "Validity")
	line(3, "Not Before: %s", c.NotBefore.UTC().Format(timeFormat))
	line(3, "Not After : %s", c.NotAfter.UTC().Format(timeFormat))
	line(2, "Subject: %s", c.Subject)
	line(2, "Subject Public Key Info:")
	line(3, "Public Key Algorithm: %s", c.PublicKeyAlgorithm)
	if size := keySize(c); size != "" {
		line(4, "Public-Key: (%s)", size)
	}
	line(2, "X509v3 extensions:")
	list := func(title string, values []string) {
		if len(values) > 0 {
			line(3, "%s:", title)
			line(4, "%s", strings.Join(values, ", "))
		}
	}
	list("X509v3 Key Usage: critical", keyUsages(c.KeyUsage))
	list("X509v3 Extended Key Usage", extKeyUsages(c.ExtKeyUsage))
	if c.BasicConstraintsValid {
		list("X509v3 Basic Constraints: critical", []string{fmt.Sprintf("CA:%s", strings.ToUpper(fmt.Sprint(c.IsCA)))})
	}
	list("X509v3 Authority Key Identifier", hexColons(c.AuthorityKeyId))
	list("X509v3 Subject Alternative Name", names(c))
	line(1, "Signature Algorithm: %s", c.SignatureAlgorithm)
	_, err := io.WriteString(w, b.String())
	return err
}

func keySize(c *x509.Certificate) string {
	switch key := c.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return fmt.Sprintf("%d bit, %s", key.Params().BitSize, key.Params().Name)
	case *rsa.PublicKey:
		return fmt.Sprintf("%d bit", key.N.BitLen())
	}
	return ""
}

func keyUsages(u x509.KeyUsage) []string {
	var out []string
	for i, name := range []string{
		"Digital Signature", "Content Commitment", "Key Encipherment", "Data Encipherment", "Key Agreement",
		"Certificate Sign", "CRL Sign", "Encipher Only", "Decipher Only",
	} {
		if u&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	return out
}

func extKeyUsages(usages []x509.ExtKeyUsage) []string {
	var out []string
	for _, u := range usages {
		switch u {
		case x509.ExtKeyUsageServerAuth:
			out = append(out, "TLS Web Server Authentication")
		case x509.ExtKeyUsageClientAuth:
			out = append(out, "TLS Web Client Authentication")
		default:
			out = append(out, fmt.Sprintf("Unknown (%d)", u))
		}
	}
	return out
}

func hexColons(data []byte) []string {
	if len(data) == 0 {
		return nil
	}
	parts := make([]string, len(data))
	for i, x := range data {
		parts[i] = fmt.Sprintf("%02X", x)
	}
	return []string{"keyid:" + strings.Join(parts, ":")}
}

func names(c *x509.Certificate) []string {
	var out []string
	for _, uri := range c.URIs {
		out = append(out, "URI:"+uri.String())
	}
	for _, name := range c.DNSNames {
		out = append(out, "DNS:"+name)
	}
	for _, ip := range c.IPAddresses {
		out = append(out, "IP Address:"+ip.String())
	}
	return out
}
