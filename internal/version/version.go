// Package version says which build this is.
package version

// Version is set by the linker.
var Version = "dev"

// The linker sets these in a release only (internal/tools/release); a build of
// `make build` has none of them.
var (
	Channel   string // stable or edge
	PublicKey string // base64 of the Ed25519 key that signs the releases
	BaseURL   string // where the releases are, without a slash at its end
)
