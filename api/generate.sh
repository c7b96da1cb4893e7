#!/bin/sh
# generate.sh PROTO…: regenerates the Go code of .proto files, named relative
# to api/. The plugins' versions are pinned by the tool lines of go.mod; protoc
# itself is Debian's protobuf-compiler, whose version the generated code names.
set -eu
cd "$(dirname "$0")"
protoc --proto_path=. \
	--plugin="protoc-gen-go=$(go tool -n protoc-gen-go)" \
	--plugin="protoc-gen-go-grpc=$(go tool -n protoc-gen-go-grpc)" \
	--go_out=. --go_opt=paths=source_relative \
	--go-grpc_out=. --go-grpc_opt=paths=source_relative \
	"$@"
