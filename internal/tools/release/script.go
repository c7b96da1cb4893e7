package main

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
)

// script writes install.sh, with the address and the key of this release.
func (o *options) script() error {
	text, err := os.ReadFile(filepath.Join(o.Repo, "scripts/install.sh"))
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(o.public)
	if err != nil {
		return err
	}
	for name, value := range map[string]string{"@BASE_URL@": o.BaseURL, "@PUBLIC_KEY@": base64.StdEncoding.EncodeToString(der)} {
		if n := bytes.Count(text, []byte(name)); n != 1 {
			return fmt.Errorf("scripts/install.sh has %s %d times, not once", name, n)
		}
		text = bytes.ReplaceAll(text, []byte(name), []byte(value))
	}
	return os.WriteFile(filepath.Join(o.Out, "install.sh"), text, 0o755)
}
