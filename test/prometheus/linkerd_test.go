package prometheus

import (
	"fmt"
	"strings"
)

// linkerd returns the queries of Linkerd's dashboards for Grafana (grafana/dashboards of
// linkerd2: top-line, namespace, deployment, pod and service) and of `linkerd viz stat`,
// `edges` and `routes` (viz/metrics-api: stat_summary.go, edges.go, top_routes.go), with its
// labels.
func linkerd() (all []wanted) {
	add := func(b *board, exprs ...string) {
		for _, expr := range exprs {
			all = append(all, wanted{"Linkerd's " + b.name, expr, b})
		}
	}
	namespace := variable{name: "namespace", query: `label_values(process_start_time_seconds{deployment!=""}, namespace)`}
	deployment := variable{name: "deployment", query: `label_values(process_start_time_seconds{namespace="$namespace"}, deployment)`}

	add(&board{name: "top line", variables: []variable{{name: "namespace", options: []string{".*"}}, {name: "deployment", options: []string{".*"}}}},
		goldenOf(`namespace=~"$namespace", direction="inbound"`, "namespace", "irate")...)
	add(&board{name: "top line", variables: []variable{{name: "deployment", options: []string{".*"}}}},
		`sum(irate(response_total{classification="success", deployment=~"$deployment"}[$__rate_interval])) / sum(irate(response_total{deployment=~"$deployment"}[$__rate_interval]))`,
		`sum(irate(request_total{deployment=~"$deployment"}[$__rate_interval]))`,
		`count(count(request_total{namespace=~".*"}) by (namespace, deployment))`)
	add(&board{name: "namespace", variables: []variable{namespace, deployment}},
		goldenOf(`namespace="$namespace", deployment="$deployment", direction="inbound"`, "deployment", "irate")...)

	ofDeployment := &board{name: "deployment", variables: []variable{
		namespace, deployment,
		{name: "inbound", query: `label_values(request_total{dst_namespace="$namespace", dst_deployment="$deployment"}, deployment)`},
	}}
	add(ofDeployment, append(goldenOf(`deployment!="", deployment="$inbound", dst_namespace="$namespace", dst_deployment="$deployment", direction="outbound"`, "deployment", "rate"),
		`count(count(request_total{dst_namespace="$namespace", deployment!="", dst_deployment!="", dst_deployment="$deployment", direction="outbound"}) by (namespace, deployment))`)...)
	toDeployment := &board{name: "deployment", variables: []variable{
		namespace, deployment,
		{name: "outbound", query: `label_values(request_total{namespace="$namespace", deployment="$deployment"}, dst_deployment)`},
	}}
	add(toDeployment, append(goldenOf(`namespace="$namespace", deployment="$deployment", dst_deployment="$outbound", direction="outbound"`, "dst_deployment", "rate"),
		`count(count(request_total{namespace="$namespace", deployment="$deployment", direction="outbound"}) by (namespace, dst_deployment))`)...)
	add(&board{name: "deployment", variables: []variable{namespace, deployment}}, append(
		tcpOf(`namespace="$namespace", deployment="$deployment", direction="inbound"`),
		tcpOf(`namespace="$namespace", deployment="$deployment", direction="outbound"`)...)...)

	pod := variable{name: "pod", query: `label_values(process_start_time_seconds{namespace="$namespace"}, pod)`}
	ofPod := &board{name: "pod", variables: []variable{namespace, deployment, pod}}
	add(ofPod, append(goldenOf(`namespace="$namespace", pod="$pod", direction="inbound"`, "pod", "irate"),
		tcpOf(`namespace="$namespace", pod="$pod", deployment="$deployment", direction="inbound"`)...)...)
	add(&board{name: "service", variables: []variable{
		{name: "namespace", query: `label_values(request_total, namespace)`},
		{name: "service", query: `label_values(request_total{namespace="$namespace"}, dst_service)`},
	}}, goldenOf(`namespace="$namespace", dst_service="$service", direction="outbound"`, "dst_service, deployment", "irate")...)

	// viz stat asks with a window, by the labels of the kind; --from and --to with peer=dst.
	add(&board{name: "viz stat", variables: []variable{{name: "window", options: []string{"1m"}}}},
		`sum(increase(response_total{direction="inbound", namespace="emojivote"}[$window])) by (namespace, deployment, classification, tls)`,
		`sum(increase(response_total{direction="inbound", namespace="emojivote"}[$window])) by (namespace, pod, classification, tls)`,
		`sum(increase(response_total{deployment="web", direction="outbound", dst_deployment="voting", dst_namespace="emojivote"}[$window])) by (dst_namespace, dst_deployment, classification, tls)`,
		`sum(increase(response_total{authority=~"^voting.emojivote.svc.cluster.local.*", direction="outbound"}[$window])) by (dst_namespace, dst_service, classification, tls)`,
		`histogram_quantile(0.99, sum(irate(response_latency_ms_bucket{direction="inbound", namespace="emojivote"}[$window])) by (le, namespace, deployment))`,
		`sum(tcp_open_connections{direction="inbound", namespace="emojivote"}) by (namespace, deployment)`,
		`sum(increase(tcp_read_bytes_total{direction="inbound", namespace="emojivote", peer="src"}[$window])) by (namespace, deployment)`,
		`sum(increase(tcp_write_bytes_total{direction="inbound", namespace="emojivote", peer="src"}[$window])) by (namespace, deployment)`,
		`sum(increase(tcp_read_bytes_total{deployment="web", direction="outbound", dst_deployment="voting", dst_namespace="emojivote", peer="dst"}[$window])) by (namespace, deployment)`,
		`sum(tcp_open_connections{authority=~"^banner.emojivote.svc.cluster.local.*", direction="outbound", peer="dst"}) by (dst_namespace, dst_service)`)
	add(&board{name: "viz edges"},
		`sum(tcp_open_connections{direction="outbound", deployment!="", dst_deployment!=""}) by (deployment, dst_deployment, pod, server_id, namespace, dst_namespace, no_tls_reason)`,
		`sum(tcp_open_connections{direction="outbound", dst_pod!="", pod!=""}) by (pod, dst_pod, server_id, namespace, dst_namespace, no_tls_reason)`)
	add(&board{name: "viz routes", variables: []variable{{name: "window", options: []string{"1m"}}}},
		`sum(increase(route_response_total{direction="outbound", namespace="emojivote"}[$window])) by (rt_route, dst, classification)`,
		`sum(increase(route_actual_response_total{direction="outbound", namespace="emojivote"}[$window])) by (rt_route, dst, classification)`,
		`histogram_quantile(0.95, sum(irate(route_response_latency_ms_bucket{direction="outbound", namespace="emojivote"}[$window])) by (le, dst, rt_route))`)
	return all
}

// goldenOf are success, rate and latency as Linkerd's dashboards ask for them. f is the
// function for latencies.
func goldenOf(selector, by, f string) (all []string) {
	with := func(more string) string { return more + ", " + selector }
	all = append(all,
		fmt.Sprintf(`sum(irate(response_total{%s}[$__rate_interval])) by (%s) / sum(irate(response_total{%s}[$__rate_interval])) by (%s)`, with(`classification="success"`), by, selector, by),
		fmt.Sprintf(`sum(irate(request_total{%s}[$__rate_interval])) by (%s)`, with(`tls="true"`), by),
		fmt.Sprintf(`sum(irate(request_total{%s}[$__rate_interval])) by (%s)`, with(`tls!="true"`), by))
	for _, q := range []string{"0.5", "0.95", "0.99"} {
		all = append(all, fmt.Sprintf(`histogram_quantile(%s, sum(%s(response_latency_ms_bucket{%s}[$__rate_interval])) by (le, %s))`, q, f, selector, strings.TrimSpace(by)))
	}
	return all
}

// tcpOf are Linkerd's panels of connections.
func tcpOf(selector string) []string {
	return []string{
		`tcp_close_total{` + selector + `,errno!=""}`,
		`tcp_open_connections{` + selector + `}`,
		`tcp_connection_duration_ms_bucket{` + selector + `}`,
	}
}
