package mesh

import "testing"

func TestIsGRPC(t *testing.T) {
	for contentType, want := range map[string]bool{
		"application/grpc": true, "application/grpc+proto": true, "application/grpc;charset=utf-8": true,
		"Application/GRPC": true, "application/grpc ; charset=utf-8": true, "application/grpc\t;x=y": true,
		"application/grpc-web": false, "application/grpc-web+proto": false, "application/grpcx": false,
		"application/grp": false, "application/json": false, "": false,
	} {
		if got := IsGRPC(contentType); got != want {
			t.Errorf("IsGRPC(%q) = %v, want %v", contentType, got, want)
		}
		if got := IsGRPC([]byte(contentType)); got != want {
			t.Errorf("IsGRPC(%q as bytes) = %v, want %v", contentType, got, want)
		}
	}
}
