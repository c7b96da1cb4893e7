package programs

import "time"

// row is a server and what clients do with it. Its scripts are for sh -eu, with
// these variables:
//
//	DATA    the package's testdata
//	SHARED  the row's directory, made by prepare
//	OWN     an empty directory of the server or client
//
// and for clients also
//
//	HOST    the server's address, URLHOST the same as it stands in a URL
//	SERVER  "near" or "far"
type row struct {
	name    string
	prepare string // once, on the machine
	server  string // in the server's pod, in the foreground
	ports   []uint16
	ready   string // in the server's pod, again and again until it succeeds
	cases   []testCase
}

// testCase is one run of a client. What it writes to standard output and error is
// compared, and how it ends.
type testCase struct {
	name   string
	client string
	masks  []string // regular expressions of what is never the same twice
	v4only bool     // the program cannot do IPv6
	limit  time.Duration
}

// rows are all of them.
var rows = func() []row {
	var all []row
	for _, some := range [][]row{httpRows, databaseRows, messageRows, fileRows, languageRows, grpcRows, tcpRows} {
		all = append(all, some...)
	}
	return all
}()

// way is how a client reaches a server.
type way struct {
	name, server string
	v6           bool
}

var ways = []way{
	{"same-node", "near", false},
	{"cross-node", "far", false},
	{"same-node-IPv6", "near", true},
	{"cross-node-IPv6", "far", true},
}
