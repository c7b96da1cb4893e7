package main

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/internal/rundir"
	"github.com/underlane/underlane/internal/version"
	"github.com/underlane/underlane/pkg/release"
)

// sumsFile has the checksums of a version's files. They are signed by its signature.
const sumsFile = "SHA256SUMS"

// run makes the release.
func (o *options) run(ctx context.Context) error {
	if err := o.check(ctx); err != nil {
		return err
	}
	if err := o.previously(); err != nil {
		return err
	}
	unix.Umask(0o022) // what a server has is for everybody
	// What of the chart is made here is what the released programs make.
	version.Version, version.Channel = o.Version, o.Channel
	if err := o.empty(); err != nil {
		return err
	}
	work, remove, err := rundir.Make("release")
	if err != nil {
		return err
	}
	defer remove()
	o.work = work
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"programs", func() error { return o.programs(ctx) }},
		{"images", o.images},
		{"chart", o.chart},
		{"manifest", func() error { return o.manifest(ctx) }},
		{"checksums", o.sums},
		{"channel", o.channel},
		{"install.sh", o.script},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	if o.key == nil {
		fmt.Fprintln(o.Progress, "the files have no signatures: only the public key is here")
	}
	return nil
}

// empty makes the directories, and removes an earlier release from them. It refuses a
// directory that has anything else.
func (o *options) empty() error {
	entries, err := os.ReadDir(o.Out)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		_, err := release.ChannelOf(name)
		if err != nil && name != "install.sh" && name != "channels" && name != "charts" {
			return fmt.Errorf("%s has %s, which is of no release: name another directory", o.Out, name)
		}
	}
	if err := os.RemoveAll(o.Out); err != nil {
		return err
	}
	for _, dir := range []string{o.dir(), filepath.Join(o.Out, "channels"), filepath.Join(o.Out, "charts")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// sums writes the checksums of all files of the version, in the form of sha256sum.
func (o *options) sums() error {
	entries, err := os.ReadDir(o.dir())
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, e := range entries { // sorted by name
		data, err := os.ReadFile(filepath.Join(o.dir(), e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&text, "%x  %s\n", sha256.Sum256(data), e.Name())
	}
	return o.signed(filepath.Join(o.dir(), sumsFile), []byte(text.String()))
}

// signed writes a file and its signature.
func (o *options) signed(path string, text []byte) error {
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return err
	}
	if o.key == nil {
		return nil
	}
	return os.WriteFile(path+release.SignatureSuffix, ed25519.Sign(o.key, text), 0o644)
}
