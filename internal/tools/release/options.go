package main

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/underlane/underlane/pkg/release"
)

// exampleURL stands where an address would be: nothing is published. Names below
// .example never exist (RFC 2606).
const exampleURL = "https://releases.underlane.example"

// options are what the flags say, and what check makes of it.
type options struct {
	Repo, Out                string
	Version, Channel         string
	KeyFile, PublicKeyFile   string
	PreviousKeyFile          string
	BaseURL                  string
	Platforms                string
	Previous, Revision, Date string
	Progress                 io.Writer

	key    ed25519.PrivateKey // nil: only the public one is there
	public ed25519.PublicKey
	before ed25519.PublicKey // that has signed the releases before
	time   time.Time         // of the commit
	only   []string          // platforms; empty for all
	work   string            // directory of what is built, while run runs
	env    []string          // of commands of Go
}

// dir is the directory of the version's files.
func (o *options) dir() string { return filepath.Join(o.Out, o.Version) }

// check fills in what the options do not say, and refuses what makes no release.
func (o *options) check(ctx context.Context) error {
	channel, err := release.ChannelOf(o.Version)
	if err != nil {
		return err
	}
	if channel != o.Channel {
		return fmt.Errorf("version %s is of the channel %s, not %q", o.Version, channel, o.Channel)
	}
	if !strings.Contains(o.BaseURL, "://") || strings.ContainsAny(o.BaseURL, "\"' \n\\$`|&") {
		return fmt.Errorf("base URL %q is none", o.BaseURL)
	}
	o.BaseURL = strings.TrimRight(o.BaseURL, "/")
	if o.Platforms != "" {
		o.only = strings.Split(o.Platforms, ",")
	}
	for _, p := range o.only {
		if !isPlatform(p) {
			return fmt.Errorf("platform %q: there are %v", p, platforms)
		}
	}
	return errors.Join(o.keys(), o.commit(ctx))
}

// previously refuses a directory of the releases before that is not there, or that this one
// would empty: the channels and the index would lose what they have, without a word.
func (o *options) previously() error {
	if o.Previous == "" {
		return nil
	}
	previous, err := os.Stat(o.Previous)
	if err != nil {
		return fmt.Errorf("the releases before: %w", err)
	}
	if out, err := os.Stat(o.Out); err == nil && os.SameFile(previous, out) {
		return fmt.Errorf("the releases before are in %s, which is emptied: name another directory to write", o.Out)
	}
	return nil
}

func (o *options) keys() (err error) {
	switch {
	case o.KeyFile != "":
		if o.key, err = keyOf(o.KeyFile, release.PrivateKey); err != nil {
			return fmt.Errorf("key %s: %w", o.KeyFile, err)
		}
		o.public = o.key.Public().(ed25519.PublicKey)
	case o.PublicKeyFile != "":
		if o.public, err = keyOf(o.PublicKeyFile, release.PublicKey); err != nil {
			return fmt.Errorf("public key %s: %w", o.PublicKeyFile, err)
		}
	default:
		return errors.New("no key: make one with `openssl genpkey -algorithm ed25519 -out release.key`, keep it out of the source tree, and say KEY=release.key; or PUBLIC_KEY= to make a release of others again")
	}
	o.before = o.public
	if o.PreviousKeyFile != "" {
		if o.before, err = keyOf(o.PreviousKeyFile, release.PublicKey); err != nil {
			return fmt.Errorf("public key of the releases before, %s: %w", o.PreviousKeyFile, err)
		}
	}
	return nil
}

func keyOf[K any](path string, parse func([]byte) (K, error)) (key K, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return key, err
	}
	return parse(text)
}

// encoded is a public key as internal/version has it.
func encoded(key ed25519.PublicKey) string { return base64.StdEncoding.EncodeToString(key) }

// commit takes the commit and its time from git, unless both are said.
func (o *options) commit(ctx context.Context) error {
	if o.Revision == "" || o.Date == "" {
		changes, err := o.git(ctx, "status", "--porcelain", "--untracked-files=all")
		if err != nil {
			return err
		}
		if changes != "" {
			return fmt.Errorf("the source tree has changes that no commit has, so nobody could make this release again:\n%s", changes)
		}
		if o.Revision, err = o.git(ctx, "rev-parse", "HEAD"); err != nil {
			return err
		}
		if o.Date, err = o.git(ctx, "log", "-1", "--format=%cI"); err != nil {
			return err
		}
	}
	t, err := time.Parse(time.RFC3339, o.Date)
	o.time = t.UTC()
	return err
}

func (o *options) git(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir, cmd.Stderr = o.Repo, o.Progress
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: give -revision and -date where there is no repository", args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}
