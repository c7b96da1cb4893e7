package programs

import (
	"hash/fnv"
	"os"
	"time"
)

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

var (
	near4 = way{"same-node", "near", false}
	far4  = way{"cross-node", "far", false}
	near6 = way{"same-node-IPv6", "near", true}
	far6  = way{"cross-node-IPv6", "far", true}
)

// fullVariable, if set, has each case run in all ways.
const fullVariable = "UNDERLANE_TEST_FULL"

// waysOf returns the ways of a case, of which two run at a time. They go to different
// servers, because the cases of one server change what it holds. The mesh does the
// same for a program whatever the ways are, and test/wire plays its rows in all of
// them. So a case runs to both servers and over both families, but not in all four
// ways, unless that is asked for. Which two those are depends on its name alone.
func waysOf(name string, c *testCase) [][2]way {
	if c.v4only {
		return [][2]way{{near4, far4}}
	}
	both := [][2]way{{near4, far6}, {near6, far4}}
	if os.Getenv(fullVariable) != "" {
		return both
	}
	sum := fnv.New32a()
	sum.Write([]byte(name))
	return both[sum.Sum32()%2:][:1]
}
