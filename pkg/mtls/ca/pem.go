package ca

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

const (
	pemCertificate = "CERTIFICATE"
	pemPrivateKey  = "PRIVATE KEY"
	pemECKey       = "EC PRIVATE KEY"
	pemRSAKey      = "RSA PRIVATE KEY"
)

// ParseAnchors returns the certificates in a PEM text. A text without any is an
// error, unless it is empty.
func ParseAnchors(text []byte) ([]*x509.Certificate, error) {
	_, certs, err := parsePEM(text)
	if err == nil && len(certs) == 0 && len(text) > 0 {
		err = fmt.Errorf("no PEM certificate in it")
	}
	return certs, err
}

// parsePEM returns the certificates in data, and the private key if there is one.
func parsePEM(data []byte) (crypto.Signer, []*x509.Certificate, error) {
	var key crypto.Signer
	var certs []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		var k any
		var err error
		switch block.Type {
		case pemCertificate:
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, nil, fmt.Errorf("parse certificate: %w", err)
			}
			certs = append(certs, c)
			continue
		case pemPrivateKey:
			k, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case pemECKey:
			k, err = x509.ParseECPrivateKey(block.Bytes)
		case pemRSAKey:
			k, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		default:
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("parse private key: %w", err)
		}
		signer, ok := k.(crypto.Signer)
		if !ok {
			return nil, nil, fmt.Errorf("private key of type %T cannot sign", k)
		}
		key = signer
	}
	return key, certs, nil
}
