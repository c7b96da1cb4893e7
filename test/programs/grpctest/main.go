// Command grpctest is a gRPC server and clients of it, on grpc-go. Messages are
// plain bytes, so that the programs of other languages need no generated code.
//
//	grpctest serve
//	grpctest client HOST:PORT CASE
//
// and an application behind an ingress, with a client of the ingress:
//
//	grpctest app NAME
//	grpctest ask [-kind KIND] [-n REQUESTS] [-host AUTHORITY] HOST:PORT
package main

import (
	"fmt"
	"os"
)

func main() {
	err := fmt.Errorf("usage: grpctest serve | client HOST:PORT CASE | app NAME | ask [flags] HOST:PORT")
	switch {
	case len(os.Args) == 2 && os.Args[1] == "serve":
		err = serve()
	case len(os.Args) == 4 && os.Args[1] == "client":
		err = client(os.Args[2], os.Args[3])
	case len(os.Args) == 3 && os.Args[1] == "app":
		err = app(os.Args[2])
	case len(os.Args) > 2 && os.Args[1] == "ask":
		err = ask(os.Args[2:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "grpctest:", err)
		os.Exit(1)
	}
}

// raw is a codec of messages that are *[]byte already.
type raw struct{}

func (raw) Name() string { return "proto" } // as the others say it in content-type

func (raw) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }

func (raw) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte{}, data...) // data is used again
	return nil
}
