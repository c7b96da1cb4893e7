package certchain

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/underlane/underlane/test/bombs"
)

const id = "spiffe://cluster.local/ns/shop/sa/web"

func chain(t *testing.T, curve elliptic.Curve, cas int, sameName bool) []*x509.Certificate {
	return bombs.Parse(t, bombs.Chain(t, id, curve, cas, sameName))
}

func TestBounds(t *testing.T) {
	p256, p384 := elliptic.P256(), elliptic.P384()
	large := chain(t, p256, 1, false)
	large[1].Raw = make([]byte, MaxBytes)
	mixed := append(chain(t, p256, 0, false), chain(t, elliptic.P521(), 1, false)[1])
	for name, tc := range map[string]struct {
		chain []*x509.Certificate
		text  string // "": within the bounds
	}{
		"a leaf":                    {chain(t, p256, 0, false), ""},
		"three intermediates":       {chain(t, p384, 3, false), ""},
		"four intermediates":        {chain(t, p256, 4, false), "5 certificates, at most 4"},
		"two of one subject":        {chain(t, p256, 2, true), "two intermediates of one subject"},
		"99 CAs of one name, P-521": {chain(t, elliptic.P521(), 99, true), "100 certificates"},
		"P-521":                     {chain(t, elliptic.P521(), 0, false), "1 of 1: ECDSA key of curve P-521"},
		"P-224":                     {chain(t, elliptic.P224(), 0, false), "curve P-224"},
		"P-521 above":               {mixed, "2 of 2: ECDSA key of curve P-521"},
		"large":                     {large, "larger than 8192 bytes"},
		"none":                      {nil, ""},
	} {
		err := Check(tc.chain)
		if tc.text == "" && err != nil || tc.text != "" && (!errors.Is(err, ErrBounds) || !strings.Contains(err.Error(), tc.text)) {
			t.Errorf("%s: Check = %v, want %q", name, err, tc.text)
		}
		// No signature of a chain beyond the bounds is checked.
		if err := Verify(tc.chain, x509.VerifyOptions{Roots: x509.NewCertPool()}); err == nil || errors.Is(err, ErrBounds) != (tc.text != "") {
			t.Errorf("%s: Verify = %v, want an error that wraps ErrBounds: %t", name, err, tc.text != "")
		}
	}
}

// TestCheckIssuer checks that the bounds leave room for the leaf.
func TestCheckIssuer(t *testing.T) {
	for n, ok := range map[int]bool{0: true, 3: true, 4: false} {
		if err := CheckIssuer(chain(t, elliptic.P256(), n, false)[1:]); (err == nil) != ok {
			t.Errorf("%d intermediates: got %v, want accepted: %t", n, err, ok)
		}
	}
	if err := CheckIssuer(chain(t, elliptic.P256(), 2, true)[1:]); !errors.Is(err, ErrBounds) {
		t.Errorf("two intermediates with the same subject: got %v, want %v", err, ErrBounds)
	}
}

func TestCheckKey(t *testing.T) {
	modulus := func(bits int) *rsa.PublicKey {
		return &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), uint(bits-1)), E: 65537}
	}
	edwards, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	curve := func(c elliptic.Curve) *ecdsa.PublicKey { return &ecdsa.PublicKey{Curve: c} }
	for _, tc := range []struct {
		key any
		ok  bool
	}{
		{curve(elliptic.P224()), false},
		{curve(elliptic.P256()), true},
		{curve(elliptic.P384()), true},
		{curve(elliptic.P521()), false},
		{edwards, true},
		{modulus(2047), false},
		{modulus(2048), true},
		{modulus(4096), true},
		{modulus(4097), false},
		{modulus(8192), false},
		{nil, false},
		{"x", false},
	} {
		if err := CheckKey(tc.key); (err == nil) != tc.ok {
			t.Errorf("%T %v: got %v, want accepted: %t", tc.key, tc.key, err, tc.ok)
		}
	}
}

func TestVerifyTakesTheChainsIntermediates(t *testing.T) {
	certs := chain(t, elliptic.P256(), 3, false)
	roots := x509.NewCertPool()
	roots.AddCert(certs[3])
	opts := x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if err := Verify(certs, opts); err != nil {
		t.Errorf("a complete chain: got %v, want no error", err)
	}
	if err := Verify(certs[:2], opts); err == nil {
		t.Error("a chain with a gap: got no error, want one")
	}
}
