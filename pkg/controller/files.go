package controller

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/underlane/underlane/pkg/controller/watch"
	"github.com/underlane/underlane/pkg/mtls/ca"
)

const reloadEvery = 10 * time.Second // the authority's files: another process may rotate the root

// AuthorityDir is where the authority keeps its files.
func AuthorityDir(dataDir string) string { return filepath.Join(dataDir, "ca") }

// files is the authority of a controller without a cluster, and anchors.pem,
// which agents are given to know the controller by.
type files struct {
	*ca.Directory
	anchors string // path of anchors.pem
	log     *slog.Logger
	changed chan struct{}
}

// openFiles opens the backend of a directory of manifests.
func openFiles(opt Options) (backend, error) {
	if opt.DataDir == "" {
		return backend{}, errors.New("a data directory is needed, for the authority's keys")
	}
	if err := os.MkdirAll(opt.DataDir, 0o755); err != nil {
		return backend{}, fmt.Errorf("data directory: %w", err)
	}
	authority, err := ca.Open(AuthorityDir(opt.DataDir), opt.TrustDomain)
	if err != nil {
		return backend{}, err
	}
	source, err := watch.NewManifests(opt.Manifests, opt.Log)
	if err != nil {
		return backend{}, err
	}
	f := &files{Directory: authority, anchors: filepath.Join(opt.DataDir, "anchors.pem"), log: opt.Log, changed: make(chan struct{}, 1)}
	if err := f.writeAnchors(); err != nil {
		return backend{}, err
	}
	return backend{
		kind: "manifest", source: source, enrolled: filepath.Join(opt.DataDir, "enrolled.json"), authority: f, authenticate: f.Authenticate, changes: f.changed,
		problem: func() string { return "" }, leading: func() bool { return true }, statuses: func() (uint64, uint64) { return 0, 0 },
		run: []func(context.Context) error{f.run},
	}, nil
}

func (f *files) run(ctx context.Context) error {
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

// writeAnchors brings anchors.pem up to date, atomically.
func (f *files) writeAnchors() error {
	text := f.AnchorsPEM()
	old, err := os.ReadFile(f.anchors)
	if err == nil && bytes.Equal(old, text) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read trust bundle: %w", err)
	}
	tmp := f.anchors + ".new"
	if err := os.WriteFile(tmp, text, 0o644); err != nil {
		return fmt.Errorf("write trust bundle: %w", err)
	}
	if err := os.Rename(tmp, f.anchors); err != nil {
		return fmt.Errorf("write trust bundle: %w", err)
	}
	return nil
}
