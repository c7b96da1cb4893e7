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
	BaseURL                  string
	Platforms                string
	Previous, Revision, Date string
	Progress                 io.Writer

	key    ed25519.PrivateKey // nil: only the public one is there
	public ed25519.PublicKey
	time   time.Time // of the commit
	only   []string  // platforms; empty for all
	work   string    // directory of what is built, while run runs
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

func (o *options) keys() error {
	switch {
	case o.KeyFile != "":
		text, err := os.ReadFile(o.KeyFile)
		if err == nil {
			o.key, err = release.PrivateKey(text)
		}
		if err != nil {
			return fmt.Errorf("key %s: %w", o.KeyFile, err)
		}
		o.public = o.key.Public().(ed25519.PublicKey)
	case o.PublicKeyFile != "":
		text, err := os.ReadFile(o.PublicKeyFile)
		if err == nil {
			o.public, err = release.PublicKey(text)
		}
		if err != nil {
			return fmt.Errorf("public key %s: %w", o.PublicKeyFile, err)
		}
	default:
		return errors.New("no key: make one with `openssl genpkey -algorithm ed25519 -out release.key`, keep it out of the source tree, and say KEY=release.key; or PUBLIC_KEY= to make a release of others again")
	}
	return nil
}

// encodedKey is the public key as internal/version has it.
func (o *options) encodedKey() string { return base64.StdEncoding.EncodeToString(o.public) }

// commit takes the commit and its time from git, unless both are said.
func (o *options) commit(ctx context.Context) error {
	if o.Revision == "" || o.Date == "" {
		changes, err := o.git(ctx, "status", "--porcelain")
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
