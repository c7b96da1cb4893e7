package cluster

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/underlane/underlane/internal/version"
	"github.com/underlane/underlane/pkg/release"
)

// VerifyCommand is `underlane verify`. It checks files of a release by the key that is
// compiled in, or by another one: install.sh has that of the release that it installs.
func VerifyCommand() *cobra.Command {
	var signature, keyFile string
	cmd := &cobra.Command{
		Use:   "verify SIGNED [FILE]...",
		Short: "Check files of another release: their signature and their checksums",
		Long: `Check files of another release. SIGNED has a signature beside it (SIGNED.sig),
which is checked by the key in this program, or by another one. If it is SHA256SUMS, each FILE must be
in it, with its checksum.`,
		Example: `  underlane verify SHA256SUMS underlane-v0.2.0-linux-amd64`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			if signature == "" {
				signature = args[0] + release.SignatureSuffix
			}
			sig, err := os.ReadFile(signature)
			if err != nil {
				return err
			}
			key, holder := version.PublicKey, "the key that this program has"
			if keyFile != "" {
				if key, err = readKey(keyFile); err != nil {
					return err
				}
				holder = "the key in " + keyFile
			}
			err = release.Verify(key, text, sig)
			if errors.Is(err, release.ErrSignature) && keyFile == "" {
				err = fmt.Errorf("%w, or the key has been replaced since %s (docs/releases.md): --public-key takes another", err, version.Version)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			for _, name := range args[1:] {
				if err := inSums(string(text), name); err != nil {
					return err
				}
			}
			fmt.Fprintln(cmd.OutOrStdout(), strings.Join(args, ", ")+": released by the holder of "+holder)
			return nil
		},
	}
	cmd.Flags().StringVar(&signature, "signature", "", "file of the signature (default SIGNED.sig)")
	cmd.Flags().StringVar(&keyFile, "public-key", "", "PEM file of the public key (default the key in this program)")
	return cmd
}

// readKey reads a public key, and returns it in the form of internal/version.
func readKey(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	key, err := release.PublicKey(text)
	if err != nil {
		return "", fmt.Errorf("public key %s: %w", path, err)
	}
	return base64.StdEncoding.EncodeToString(key), nil
}

// inSums returns an error if sums, the output of sha256sum, does not have the file with
// its checksum.
func inSums(sums, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	for line := range strings.Lines(sums) {
		want, of, _ := strings.Cut(strings.TrimSpace(line), "  ")
		if of != filepath.Base(name) {
			continue
		}
		if got := fmt.Sprintf("%x", h.Sum(nil)); got != want {
			return fmt.Errorf("%s: the checksum is %s, not %s: it is damaged or another file", name, got, want)
		}
		return nil
	}
	return errors.New(name + ": it is not among the checksums")
}
