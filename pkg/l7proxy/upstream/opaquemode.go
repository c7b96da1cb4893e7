package upstream

import "fmt"

// OpaqueStreams says which opaque connections to pods of other nodes are streams of shared
// connections. It is a pflag.Value.
type OpaqueStreams uint8

// The values, by their text: false, true, always.
const (
	NoStreams OpaqueStreams = iota
	// ManyStreams: those to an endpoint to which they are opened often and carry little each.
	ManyStreams
	// AllStreams: also the first ones, whatever others have carried. It is for tests, so that
	// they find a single connection on a stream.
	AllStreams
)

var streamsTexts = [...]string{NoStreams: "false", ManyStreams: "true", AllStreams: "always"}

// String implements pflag.Value.
func (m OpaqueStreams) String() string { return streamsTexts[m] }

// Set implements pflag.Value.
func (m *OpaqueStreams) Set(text string) error {
	for i, one := range streamsTexts {
		if one == text {
			*m = OpaqueStreams(i)
			return nil
		}
	}
	return fmt.Errorf("%q is none of true, false, always", text)
}

// Type implements pflag.Value.
func (m *OpaqueStreams) Type() string { return "bool" }
