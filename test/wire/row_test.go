package wire

import "time"

// row is a script for each end.
type row struct {
	name           string // kind/…
	client, server string
	row            options
}

// options of a row, which is in most of them the zero value.
type options struct {
	limit time.Duration // of every step that waits, defaultLimit if zero
	slack time.Duration // how much later with the mesh, defaultSlack if zero
	v6    bool          // also over IPv6
	exact bool          // Connection is compared, too
}

const (
	defaultLimit = 15 * time.Second
	// The machine is slow and shared, and what is looked for are waits.
	defaultSlack = 700 * time.Millisecond
)

var (
	v6    = options{v6: true}
	exact = options{exact: true}
	// Fifty turns and more: a wait of 40 ms in each of them is longer than that.
	turns = options{limit: 10 * time.Second, slack: 1500 * time.Millisecond}
	short = options{limit: 3 * time.Second} // where somebody waits in vain
)

// rows are all of them.
var rows = func() []row {
	var all []row
	for _, some := range [][]row{silentRows, opaqueRows, endRows, halfRows, loginRows, http1Rows, turnRows, http2Rows, grpcRows} {
		all = append(all, some...)
	}
	return all
}()
