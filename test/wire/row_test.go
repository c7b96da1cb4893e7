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
	v6    bool          // also over IPv6
}

const defaultLimit = 5 * time.Second

var v6 = options{v6: true}

// rows are all of them.
var rows = func() []row {
	var all []row
	for _, some := range [][]row{opaqueRows, http1Rows} {
		all = append(all, some...)
	}
	return all
}()
