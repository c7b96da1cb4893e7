package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/spf13/cobra"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// authorizer is an external authorizer made of Envoy's own definitions.
func authorizer() *cobra.Command {
	var addr string
	cmd := &cobra.Command{
		Use: "authorizer", Args: cobra.NoArgs,
		Short: "gRPC: envoy.service.auth.v3.Authorization; x-token says what it answers: good, slow, huge, gone, anything else is refused",
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := net.Listen("tcp", addr)
			if err != nil {
				return err
			}
			s := grpc.NewServer()
			authv3.RegisterAuthorizationServer(s, checker{})
			fmt.Println("authorizer listening on", l.Addr())
			defer context.AfterFunc(cmd.Context(), s.Stop)()
			return s.Serve(l)
		},
	}
	cmd.Flags().StringVar(&addr, "listen", ":8080", "address")
	return cmd
}

type checker struct {
	authv3.UnimplementedAuthorizationServer
}

func header(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: name, Value: value}}
}

// Check implements authv3.AuthorizationServer.
func (checker) Check(ctx context.Context, in *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	a := in.GetAttributes()
	h := a.GetRequest().GetHttp()
	switch token := h.GetHeaders()["x-token"]; token {
	case "good":
		body := h.GetRawBody()
		if len(body) == 0 {
			body = []byte(h.GetBody())
		}
		seen := fmt.Sprintf("%s %s %s from %s %s to %s size %d body %d %x", h.GetMethod(), h.GetPath(), h.GetProtocol(), a.GetSource().GetPrincipal(),
			a.GetSource().GetAddress().GetSocketAddress().GetAddress(), a.GetDestination().GetPrincipal(), h.GetSize(), len(body), sha256.Sum256(body))
		return &authv3.CheckResponse{Status: &rpcstatus.Status{}, HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
			Headers:              []*corev3.HeaderValueOption{header("X-User", "alice"), header("x-seen", seen)},
			HeadersToRemove:      []string{"x-token"},
			ResponseHeadersToAdd: []*corev3.HeaderValueOption{header("x-checked", "yes")},
		}}}, nil
	case "gone":
		return nil, fmt.Errorf("the authorizer has lost its database")
	case "slow":
		select {
		case <-ctx.Done():
		case <-time.After(time.Hour):
		}
		return nil, ctx.Err()
	case "huge":
		return &authv3.CheckResponse{Status: &rpcstatus.Status{}, HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
			Headers: []*corev3.HeaderValueOption{header("x-user", strings.Repeat("x", 100<<10))},
		}}}, nil
	default:
		return &authv3.CheckResponse{Status: &rpcstatus.Status{Code: int32(codes.PermissionDenied)}, HttpResponse: &authv3.CheckResponse_DeniedResponse{
			DeniedResponse: &authv3.DeniedHttpResponse{
				Status: &typev3.HttpStatus{Code: typev3.StatusCode_Unauthorized}, Body: "who are you?", Headers: []*corev3.HeaderValueOption{header("X-Why", token)},
			},
		}}, nil
	}
}
