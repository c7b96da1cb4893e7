package release

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
)

// SignatureSuffix is the suffix of the file, beside a signed one, that has its
// Ed25519 signature: 64 bytes (RFC 8032), as `openssl pkeyutl -rawin` reads them.
const SignatureSuffix = ".sig"

// ErrSignature says that a file is not what the holder of the key has signed.
var ErrSignature = errors.New("the signature is wrong: the file is not the one that was released")

// Verify checks the signature of text. key is in the form of internal/version.
func Verify(key string, text, signature []byte) error {
	raw, err := base64.StdEncoding.DecodeString(key)
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return errors.New("this build has no key to check releases with: it is not a release itself")
	}
	if !ed25519.Verify(raw, text, signature) {
		return ErrSignature
	}
	return nil
}

// PrivateKey reads a key that `openssl genpkey -algorithm ed25519` has made.
func PrivateKey(text []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	if k, ok := key.(ed25519.PrivateKey); ok {
		return k, nil
	}
	return nil, fmt.Errorf("%T: an Ed25519 key is needed", key)
}

// PublicKey reads what `openssl pkey -pubout` prints of such a key.
func PublicKey(text []byte) (ed25519.PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	if k, ok := key.(ed25519.PublicKey); ok {
		return k, nil
	}
	return nil, fmt.Errorf("%T: an Ed25519 key is needed", key)
}
