package programs

import (
	"fmt"
	"regexp"
)

var grpcRows = []row{
	{
		name:   "grpc-go",
		server: `exec grpctest serve`,
		ports:  []uint16{9000, 9001, 9002, 9003},
		cases: []testCase{
			grpcGo("unary", 9000),
			grpcGo("metadata", 9000),
			grpcGo("statuses", 9000),
			grpcGo("streams", 9000),
			grpcGo("parallel", 9000),
			grpcGo("parallel-1", 9001),  // a server that allows one stream at once
			grpcGo("parallel-20", 9002), // and one that allows 20
			grpcGo("aged", 9003),
			grpcGo("deadlines", 9000),
			grpcGo("cancelled", 9000),
			grpcGo("open-streams", 9000),
			{name: "python", client: python + ` $DATA/grpc_client.py $URLHOST:9000`},
			{name: "node", client: `node $DATA/grpc_client.js $URLHOST:9000`},
			grpcGo("stalled-uploads", 9000),
			grpcGo("stalled-downloads", 9000),
		},
	},
	{
		name:   "grpc-python",
		server: `exec ` + python + ` $DATA/grpc_server.py`,
		ports:  []uint16{9010},
		cases: []testCase{
			grpcGo("unary", 9010),
			grpcGo("metadata", 9010),
			grpcGo("streams", 9010),
			grpcGo("parallel", 9010),
			{name: "python", client: python + ` $DATA/grpc_client.py $URLHOST:9010`},
		},
	},
}

// grpcGo is a case of the client of grpctest; what follows a number in the name is
// the server's.
func grpcGo(name string, port uint16) testCase {
	program := regexp.MustCompile(`-\d+$`).ReplaceAllString(name, "")
	return testCase{name: name, client: fmt.Sprintf(`grpctest client $URLHOST:%d %s`, port, program)}
}
