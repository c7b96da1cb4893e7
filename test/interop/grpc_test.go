package interop

import (
	"regexp"
	"slices"
	"testing"
)

// grpcElsewhere has the cases that test a cloud's credentials and not the traffic
// of gRPC. They need that cloud's TLS and its metadata servers.
var grpcElsewhere = []string{
	"compute_engine_creds", "service_account_creds", "jwt_token_creds", "per_rpc_creds",
	"oauth2_auth_token", "google_default_credentials", "compute_engine_channel_credentials",
}

// grpcUnanswered has the cases that this server cannot answer, with or without the
// mesh. grpc-go's own script leaves them out too.
var grpcUnanswered = []string{
	"pick_first_unary", // the server never sends its id
}

// orcaBalancer is the client's balancer that passes load reports to the orca_…
// cases.
const orcaBalancer = `{"loadBalancingConfig": [{"test_backend_metrics_load_balancer": {}}]}`

// soakLimits are the limits of the soak cases, long enough for a busy machine.
var soakLimits = []string{"--soak_per_iteration_max_acceptable_latency_ms", "10000", "--soak_overall_timeout_seconds", "50"}

// grpcUnlisted has the cases that the client's help does not list.
var grpcUnlisted = []string{"rpc_soak", "channel_soak"}

// TestGRPCInterop runs all cases of grpc-go's interop client against its interop
// server. It takes the cases from the client's help, so that new ones are included.
func TestGRPCInterop(t *testing.T) {
	l := upPods(t, 10000, "grpc-interop-server", "--port", "10000")
	help := l.TryExec("client", "grpc-interop-client", "-help").Stderr
	cases := grpcUnlisted
	for _, m := range regexp.MustCompile(`(?m)^\s+([a-z0-9_]+) ?: `).FindAllStringSubmatch(help, -1) {
		cases = append(cases, m[1])
	}
	if len(cases) < 24 {
		t.Fatalf("found %d cases, want 24 or more: %v in:\n%s", len(cases), cases, help)
	}
	for _, name := range slices.Concat(grpcElsewhere, grpcUnanswered) {
		if !slices.Contains(cases, name) {
			t.Errorf("the client has no case %s, want only names of its cases in the list", name)
		}
	}
	for _, p := range paths {
		t.Run(p.name, func(t *testing.T) {
			host := l.Pod(p.server).IP().String()
			for _, name := range cases {
				if slices.Contains(grpcElsewhere, name) || slices.Contains(grpcUnanswered, name) {
					continue
				}
				t.Run(name, func(t *testing.T) {
					r := l.TryExec("client", append([]string{
						"timeout", "60", "grpc-interop-client", "--server_host", host, "--server_port", "10000",
						"--service_config_json", orcaBalancer, "--test_case", name,
					}, soakLimits...)...)
					if r.Code != 0 {
						t.Errorf("got %s, want exit code 0", r)
					}
				})
			}
			throughMesh(t, l, p.server)
		})
	}
}
