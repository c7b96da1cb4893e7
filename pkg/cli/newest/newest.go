// Package newest asks where the releases are which is the newest of a channel. The
// request is for one file and says nothing of who asks, but for what any request does.
package newest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/underlane/underlane/internal/version"
	"github.com/underlane/underlane/pkg/release"
)

// Variable turns off what nobody has asked for, if it is "off".
const Variable = "UNDERLANE_VERSION_CHECK"

// limit bounds a question: a check must not wait for an address that does not answer.
const limit = 2 * time.Second

// ErrUnreachable is in the errors of Of when there was no answer: there is no network, or
// no such server.
var ErrUnreachable = errors.New("the releases cannot be reached")

// Allowed reports whether a command may ask without having been told to. A build that is
// no release has nobody to ask, and names below .example do not exist (RFC 2606).
func Allowed() bool {
	u, err := url.Parse(version.BaseURL)
	return err == nil && version.Channel != "" && u.Host != "" && !strings.HasSuffix(u.Hostname(), ".example") &&
		os.Getenv(Variable) != "off"
}

// Of returns the file of a channel, after a check of its signature.
func Of(ctx context.Context, channel string) (release.Channel, error) {
	if version.BaseURL == "" {
		return release.Channel{}, fmt.Errorf("channel %s: this build is no release, and does not know where they are", channel)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	address := version.BaseURL + "/channels/" + url.PathEscape(channel) + ".json"
	text, err := get(ctx, address)
	if err != nil {
		return release.Channel{}, err
	}
	signature, err := get(ctx, address+release.SignatureSuffix)
	if err != nil {
		return release.Channel{}, err
	}
	err = release.Verify(version.PublicKey, text, signature)
	if errors.Is(err, release.ErrSignature) {
		err = fmt.Errorf("%w, or the key has been replaced since %s, which docs/releases.md would say: then %s", err, version.Version, Hint(channel))
	}
	if err != nil {
		return release.Channel{}, fmt.Errorf("%s: %w", address, err)
	}
	return release.ParseChannel(channel, text)
}

func get(ctx context.Context, address string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", "underlane") // without the version
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: %s: %s", ErrUnreachable, address, answer.Status)
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, release.MaxChannelBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if len(text) > release.MaxChannelBytes {
		return nil, fmt.Errorf("%s has more than %d bytes, and is no file of a channel", address, release.MaxChannelBytes)
	}
	return text, nil
}

// Outdated returns an error if the channel has a newer version than this program.
func Outdated(c release.Channel) error {
	if !release.IsNewer(c.Newest, version.Version) {
		return nil
	}
	r := c.Releases[0]
	return fmt.Errorf("this is %s; the newest of the channel %s is %s of %s, for Kubernetes %s and Linux %s or newer",
		version.Version, c.Channel, r.Version, r.Date, r.Needs.Kubernetes, r.Needs.Linux)
}

// Hint says how to get the newest of a channel.
func Hint(channel string) string {
	if runtime.GOOS == "windows" { // where the script does not run
		return fmt.Sprintf("download underlane-VERSION-windows-%s.exe from %s; %s/channels/%s.json names the newest version", runtime.GOARCH, version.BaseURL, version.BaseURL, channel)
	}
	return fmt.Sprintf("curl -fsSL %s/install.sh | UNDERLANE_CHANNEL=%s sh", version.BaseURL, channel)
}
