package release

import (
	"encoding/json"
	"fmt"
	"time"
)

// Limits of a channel file. What is larger is refused; what is older than the newest
// MaxReleases is left out when the file is made.
const (
	MaxChannelBytes = 64 << 10
	MaxReleases     = 50
)

// Channel is the content of a channel file, BASE/channels/NAME.json. Its signature is
// beside it, with the suffix .sig.
type Channel struct {
	Channel  string    `json:"channel"`
	Newest   string    `json:"newest"`
	Releases []Release `json:"releases"` // the newest first
}

// Release is a release of a channel.
type Release struct {
	Version string `json:"version"`
	Date    string `json:"date"` // of its commit, in UTC: 2026-11-30
	// UpgradeFrom is the oldest version that may become this one in one step.
	UpgradeFrom string `json:"upgradeFrom"`
	Needs       Needs  `json:"needs"`
}

// Needs are the oldest versions that a release works on.
type Needs struct {
	Kubernetes string `json:"kubernetes"`
	Linux      string `json:"linux"`
}

// ParseChannel reads the file of the channel name. Fields that it does not know are
// left alone: a later version may have added them.
func ParseChannel(name string, text []byte) (Channel, error) {
	var c Channel
	if len(text) > MaxChannelBytes {
		return c, fmt.Errorf("channel %s: %d bytes, and %d are the limit", name, len(text), MaxChannelBytes)
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, fmt.Errorf("channel %s: %w", name, err)
	}
	if c.Channel != name {
		return c, fmt.Errorf("channel %s: the file is that of channel %q", name, c.Channel)
	}
	if len(c.Releases) == 0 || len(c.Releases) > MaxReleases || c.Releases[0].Version != c.Newest {
		return c, fmt.Errorf("channel %s: the newest, %q, is not the first of its %d releases", name, c.Newest, len(c.Releases))
	}
	for _, r := range c.Releases {
		// A stable release is in the channel edge, too, when it is the newest of all.
		if of, err := ChannelOf(r.Version); err != nil || name == Stable && of != Stable {
			return c, fmt.Errorf("channel %s: %q is no version of it", name, r.Version)
		}
		if _, err := time.Parse(time.DateOnly, r.Date); err != nil {
			return c, fmt.Errorf("channel %s: %s: %w", name, r.Version, err)
		}
		if IsNewer(r.Version, c.Newest) {
			return c, fmt.Errorf("channel %s: %s is newer than its newest, %s", name, r.Version, c.Newest)
		}
	}
	return c, nil
}

// With returns c with the release r as its newest. It refuses one that is not newer
// than those that it has, unless it is the newest itself.
func (c Channel) With(r Release) (Channel, error) {
	if c.Newest != "" && IsNewer(c.Newest, r.Version) {
		return c, fmt.Errorf("channel %s has %s, which is newer than %s", c.Channel, c.Newest, r.Version)
	}
	next := Channel{Channel: c.Channel, Newest: r.Version, Releases: []Release{r}}
	for _, old := range c.Releases {
		if old.Version != r.Version && len(next.Releases) < MaxReleases {
			next.Releases = append(next.Releases, old)
		}
	}
	return next, nil
}

// Text returns the file. install.sh finds the newest by its line.
func (c Channel) Text() ([]byte, error) {
	text, err := json.MarshalIndent(c, "", "  ")
	return append(text, '\n'), err
}
