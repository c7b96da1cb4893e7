package controller

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/underlane/underlane/pkg/controller/watch"
	"github.com/underlane/underlane/pkg/mtls/ca"
)

const reloadEvery = 10 * time.Second // how often the authority's files are read again: another process may rotate the root

// AuthorityDir returns the directory of the authority's files.
func AuthorityDir(dataDir string) string { return filepath.Join(dataDir, "ca") }

// files is the platform of a controller without a cluster: a directory of
// manifests, and an authority that keeps its files in the data directory. It also
// writes anchors.pem there, with which agents verify the controller.
type files struct {
	*ca.Directory
	manifests *watch.Manifests
	dataDir   string
	log       *slog.Logger
	changed   chan struct{}
}

// openFiles opens the platform of a directory of manifests.
func openFiles(opt Options) (Platform, error) {
	if opt.DataDir == "" {
		return nil, errors.New("a data directory is needed, for the authority's keys")
	}
	if err := os.MkdirAll(opt.DataDir, 0o755); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	authority, err := ca.Open(AuthorityDir(opt.DataDir), opt.TrustDomain)
	if err != nil {
		return nil, err
	}
	source, err := watch.NewManifests(opt.Manifests, opt.Log)
	if err != nil {
		return nil, err
	}
	f := &files{Directory: authority, manifests: source, dataDir: opt.DataDir, log: opt.Log, changed: make(chan struct{}, 1)}
	if err := f.writeAnchors(); err != nil {
		return nil, err
	}
	return f, nil
}

// Source implements Platform.
func (f *files) Source() Source { return f.manifests }

// Authority implements Platform.
func (f *files) Authority() Authority { return f }

// Writer implements Platform. The controller does not write to manifests.
func (f *files) Writer() Writer { return noWriter{} }

// EnrolledFile implements Platform.
func (f *files) EnrolledFile() string { return filepath.Join(f.dataDir, "enrolled.json") }

// Changes implements Authority.
func (f *files) Changes() <-chan struct{} { return f.changed }

// Problem implements Authority. Files that cannot be read are only logged.
func (f *files) Problem() string { return "" }

// HasNode always returns true, because manifests need not name the nodes.
func (f *files) HasNode(string) bool { return true }

// IsNodeAddr returns false, because manifests need not name the nodes.
func (f *files) IsNodeAddr(netip.Addr) bool { return false }

// Leader returns nothing: there is one controller.
func (f *files) Leader() (namespace, name string) { return "", "" }

// Share returns nothing: there is one controller.
func (f *files) Share() (replicas, agents int) { return 0, 0 }

// Ready returns at once, because openFiles has read everything.
func (f *files) Ready(context.Context) error { return nil }

// OpenTap implements Platform. It returns nil, because there is no API server that
// would call the tap API.
func (f *files) OpenTap(*Controller) (Tap, error) { return nil, nil }

// Run reads the authority's files every reloadEvery.
func (f *files) Run(ctx context.Context) error {
	reload := time.NewTicker(reloadEvery)
	defer reload.Stop()
	for {
		select {
		case <-reload.C:
			f.refresh()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// refresh reads the authority's files again.
func (f *files) refresh() {
	if err := f.Reload(); err != nil {
		f.log.Error("the authority's files cannot be read again: going on with what was read before", "err", err)
	}
	if err := f.writeAnchors(); err != nil {
		f.log.Error("the trust bundle for agents is out of date", "err", err)
	}
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// writeAnchors updates anchors.pem atomically.
func (f *files) writeAnchors() error {
	path := filepath.Join(f.dataDir, "anchors.pem")
	text := f.AnchorsPEM()
	old, err := os.ReadFile(path)
	if err == nil && bytes.Equal(old, text) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read trust bundle: %w", err)
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, text, 0o644); err != nil {
		return fmt.Errorf("write trust bundle: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write trust bundle: %w", err)
	}
	return nil
}
