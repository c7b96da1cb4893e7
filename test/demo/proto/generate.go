// Package emojivotev1 is the generated code of the demo's gRPC services. The proto
// itself is generated too. VotingService has one method per emoji, so that the
// failing one has its own path in tap and top.
package emojivotev1

//go:generate go run ./gen emojivote.proto
//go:generate sh -c "protoc --plugin=protoc-gen-go=$(go tool -n protoc-gen-go) --plugin=protoc-gen-go-grpc=$(go tool -n protoc-gen-go-grpc) --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative emojivote.proto"
