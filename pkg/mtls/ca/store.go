package ca

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// writeRoot stores key and certificates in one file. A crash then leaves either
// the old root or the new one, but never a key without its certificate.
func writeRoot(path string, r Issuer) error {
	key, err := r.KeyPEM()
	if err != nil {
		return err
	}
	return writeFile(path, append(key, r.ChainPEM()...), 0o600)
}

func readRoot(path string) (Issuer, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Issuer{}, err
	}
	r, err := ParseIssuer(data, data)
	if err != nil {
		return Issuer{}, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// readAnchors reads the certificates of every PEM file in dir.
func readAnchors(dir string) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for _, pattern := range []string{"*.pem", "*.crt"} {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			_, certs, err := parsePEM(data)
			if err == nil && len(certs) == 0 {
				err = errors.New("no certificate in it")
			}
			if err != nil {
				return nil, fmt.Errorf("trust anchor %s: %w", path, err)
			}
			out = append(out, certs...)
		}
	}
	return out, nil
}

// writeFile replaces the file at path atomically, so that a crash leaves either
// the old content or the new.
func writeFile(path string, data []byte, mode fs.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}
