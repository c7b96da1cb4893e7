// Package release says what a release is: its version and its channel, which upgrades
// are possible, the file that tells of a channel's releases, and the signature.
package release

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/semver"
)

// The channels. A version of Edge has the pre-release "edge.NUMBER", one of Stable
// has none.
const (
	Stable = "stable"
	Edge   = "edge"
)

// ChannelOf returns the channel of a release's version, such as v0.2.0 (stable) or
// v0.3.0-edge.4 (edge). Every other form is an error.
func ChannelOf(version string) (string, error) {
	pre := semver.Prerelease(version)
	_, err := strconv.ParseUint(strings.TrimPrefix(pre, "-edge."), 10, 32)
	switch {
	case !semver.IsValid(version) || semver.Canonical(version) != version:
		return "", fmt.Errorf("version %q: a release is called as v0.2.0 or v0.3.0-edge.4", version)
	case pre == "":
		return Stable, nil
	case strings.HasPrefix(pre, "-edge.") && err == nil:
		return Edge, nil
	}
	return "", fmt.Errorf("version %q: a release is called as v0.2.0 or v0.3.0-edge.4", version)
}

// IsNewer reports whether version a is newer than b.
func IsNewer(a, b string) bool { return semver.Compare(a, b) > 0 }

// ErrSkips is in the errors of CheckUpgrade.
var ErrSkips = errors.New("controller and agents work together over one minor version, and while an upgrade runs there are both")

// CheckUpgrade returns an error if an installation of version from must not become
// version to in one step, in either direction: the minor versions may differ by one.
// It finds nothing wrong with a version that is not a release's, because a developer
// knows what that is. Image tags without the "v" are understood.
func CheckUpgrade(from, to string) error {
	from, to = withV(from), withV(to)
	if !semver.IsValid(from) || !semver.IsValid(to) {
		return nil
	}
	if semver.Major(from) != semver.Major(to) {
		return fmt.Errorf("from %s to %s is another major version, whose notes say how: %w", from, to, ErrSkips)
	}
	a, b := minor(from), minor(to)
	switch {
	case b > a+1:
		return fmt.Errorf("%s to %s skips %s.%d: upgrade to the newest of that first: %w", from, to, semver.Major(from), a+1, ErrSkips)
	case a > b+1:
		return fmt.Errorf("%s back to %s skips %s.%d: go back to that first: %w", from, to, semver.Major(from), a-1, ErrSkips)
	}
	return nil
}

// UpgradesFrom returns the oldest version that may become version in one step.
func UpgradesFrom(version string) string {
	return fmt.Sprintf("%s.%d.0", semver.Major(version), max(0, minor(version)-1))
}

func withV(version string) string {
	if version != "" && version[0] >= '0' && version[0] <= '9' {
		return "v" + version
	}
	return version
}

// minor returns the second number of a valid version.
func minor(version string) int {
	_, text, _ := strings.Cut(semver.MajorMinor(version), ".")
	n, _ := strconv.Atoi(text)
	return n
}
