package ca

import (
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// Names inside the authority's directory.
const (
	rootFile   = "root.pem"
	secretFile = "token.key"
	bundleFile = "anchors.pem"
	anchorsDir = "anchors.d"
	lockFile   = "lock"
)

const secretSize = 32

// Directory is an Authority that stores its issuer in files.
type Directory struct {
	*Authority
	dir    string
	secret []byte // key of the bootstrap tokens

	mu sync.Mutex // serialises changes of the directory
}

// Open loads the authority in dir, or creates one there:
//
//	root.pem       private key, root certificate, and the cross-signed one
//	token.key      key of the bootstrap tokens
//	anchors.d/     PEM files with further trust anchors (*.pem, *.crt)
//	anchors.pem    the complete bundle, written for distribution to agents
//
// Two processes may open the same directory at once. The error names the file
// at fault. A broken directory is never silently replaced.
func Open(dir, trustDomain string) (*Directory, error) {
	authority, err := New(trustDomain)
	if err != nil {
		return nil, fmt.Errorf("open CA: %w", err)
	}
	d := &Directory{Authority: authority, dir: dir}
	unlock, err := d.lock()
	if err != nil {
		return nil, fmt.Errorf("open CA: %w", err)
	}
	defer unlock()
	if d.secret, err = loadOrCreateSecret(d.path(secretFile)); err != nil {
		return nil, fmt.Errorf("open CA: %w", err)
	}
	if err := d.createRootIfMissing(); err != nil {
		return nil, fmt.Errorf("open CA: %w", err)
	}
	if err := d.load(); err != nil {
		return nil, fmt.Errorf("open CA: %w", err)
	}
	return d, nil
}

// Reload reads the directory again, so that an anchor added to or removed from
// anchors.d takes effect. On an error nothing changes.
func (d *Directory) Reload() error {
	unlock, err := d.lock()
	if err != nil {
		return fmt.Errorf("reload CA: %w", err)
	}
	defer unlock()
	if err := d.load(); err != nil {
		return fmt.Errorf("reload CA: %w", err)
	}
	return nil
}

// Rotate makes a new root, which is used for signing from then on. The old root
// cross-signs the new one and stays in the bundle as a file in anchors.d. The
// operator can remove that once all certificates it signed have expired.
func (d *Directory) Rotate() error {
	unlock, err := d.lock()
	if err != nil {
		return fmt.Errorf("rotate root: %w", err)
	}
	defer unlock()
	if err := d.rotate(); err != nil {
		return fmt.Errorf("rotate root: %w", err)
	}
	return nil
}

func (d *Directory) rotate() error {
	// Another process may have rotated since, so read the root from the directory.
	old, err := readRoot(d.path(rootFile))
	if err != nil {
		return err
	}
	next, err := old.Successor(d.TrustDomain())
	if err != nil {
		return err
	}
	// Store the old root among the anchors first. A crash after that leaves it in
	// two places, but never loses it.
	retired := fmt.Sprintf("%s/root-%x.pem", d.path(anchorsDir), old.Cert().SerialNumber)
	if err := writeFile(retired, EncodePEM(old.Cert()), 0o600); err != nil {
		return err
	}
	if err := writeRoot(d.path(rootFile), next); err != nil {
		return err
	}
	return d.load()
}

// load reads the directory and uses the root and the anchors in it.
func (d *Directory) load() error {
	root, err := readRoot(d.path(rootFile))
	if err != nil {
		return err
	}
	extra, err := readAnchors(d.path(anchorsDir))
	if err != nil {
		return err
	}
	anchors := Distinct(append([]*x509.Certificate{root.Cert()}, extra...))
	if err := root.check(d.trustDomain, anchors); err != nil {
		return fmt.Errorf("%s: %w", d.path(rootFile), err)
	}
	if err := writeFile(d.path(bundleFile), EncodePEM(anchors...), 0o644); err != nil {
		return err
	}
	return d.Use(root, anchors)
}

func (d *Directory) createRootIfMissing() error {
	if _, err := os.Stat(d.path(rootFile)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r, err := newRoot(d.trustDomain)
	if err != nil {
		return err
	}
	return writeRoot(d.path(rootFile), r)
}

func (d *Directory) path(name string) string { return filepath.Join(d.dir, name) }

// lock creates the directory if needed, and keeps other processes and goroutines
// from changing it until unlock.
func (d *Directory) lock() (unlock func(), err error) {
	if err := os.MkdirAll(d.path(anchorsDir), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(d.path(lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	d.mu.Lock()
	return func() {
		d.mu.Unlock()
		_ = f.Close() // releases the lock
	}, nil
}

// loadOrCreateSecret reads the key of the bootstrap tokens, or creates one.
func loadOrCreateSecret(path string) ([]byte, error) {
	secret, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		secret = make([]byte, secretSize)
		_, _ = rand.Read(secret) // never fails
		return secret, writeFile(path, secret, 0o600)
	}
	if err != nil {
		return nil, err
	}
	if len(secret) < secretSize {
		return nil, fmt.Errorf("%s: %d bytes, want %d: remove it, and every node needs a new token", path, len(secret), secretSize)
	}
	return secret, nil
}
