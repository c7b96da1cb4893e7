package interop

import (
	"regexp"
	"slices"
	"testing"
)

// grpcElsewhere are the cases that test a cloud's credentials rather than gRPC's
// traffic: they need that cloud's TLS and its metadata servers.
var grpcElsewhere = []string{
	"compute_engine_creds", "service_account_creds", "jwt_token_creds", "per_rpc_creds",
	"oauth2_auth_token", "google_default_credentials", "compute_engine_channel_credentials",
}

// grpcUnanswered are cases that this server cannot answer, mesh or no mesh;
// grpc-go's own script leaves them out too.
var grpcUnanswered = []string{
	"pick_first_unary", // the server never says its id
}

// orcaBalancer is the client's balancer that hands load reports to the orca_…
// cases.
const orcaBalancer = `{"loadBalancingConfig": [{"test_backend_metrics_load_balancer": {}}]}`

// soakLimits are of the soak cases: longer than a busy machine takes.
var soakLimits = []string{"--soak_per_iteration_max_acceptable_latency_ms", "10000", "--soak_overall_timeout_seconds", "50"}

// grpcUnlisted are cases that the client has and its help does not list.
var grpcUnlisted = []string{"rpc_soak", "channel_soak"}

// TestGRPCInterop runs every case of grpc-go's interop client against its
// interop server. The cases are those that the client lists, so that a new one
// is not forgotten.
func TestGRPCInterop(t *testing.T) {
	l := upPods(t, 10000, "grpc-interop-server", "--port", "10000")
	help := l.TryExec("client", "grpc-interop-client", "-help").Stderr
	cases := grpcUnlisted
	for _, m := range regexp.MustCompile(`(?m)^\s+([a-z0-9_]+) ?: `).FindAllStringSubmatch(help, -1) {
		cases = append(cases, m[1])
	}
	if len(cases) < 24 {
		t.Fatalf("only %d cases found, %v, in:\n%s", len(cases), cases, help)
	}
	for _, name := range slices.Concat(grpcElsewhere, grpcUnanswered) {
		if !slices.Contains(cases, name) {
			t.Errorf("%s is no case any more", name)
		}
	}
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			host := l.Pod(w.server).IP().String()
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
						t.Error(r)
					}
				})
			}
			throughMesh(t, l, w.server)
		})
	}
}
