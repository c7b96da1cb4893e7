package main

// The dashboards of services, their routes, and connections.

func service() board {
	to := and(`dst_namespace="$namespace", dst_service="$service"`, outbound)
	return board{
		name: "service", title: "Service", description: "A Service as its clients see it: by client and by endpoint.",
		variables: []variable{
			choice("namespace", "Namespace", `label_values(request_total{dst_service!=""}, dst_namespace)`),
			choice("service", "Service", `label_values(request_total{dst_namespace="$namespace"}, dst_service)`),
		},
		rows: []row{
			{"", append(goldenStats(to), stat("Endpoints", "short", 4,
				`max(sum by (node) (underlane_endpoints{dst_namespace="$namespace", dst_service="$service", state="in"}))`).
				about("That the agent which knows most of them sends requests to."))},
			{"All clients", golden(to)},
			{"By client", goldenBy(to, "namespace, deployment, statefulset, daemonset")},
			{"By endpoint", goldenBy(to, "dst_pod")},
			{"Endpoints and connections", []tile{
				plot("Endpoints, by node of the clients", "short", 8, by("node, state", func(by string) string {
					return gauge("underlane_endpoints", `dst_namespace="$namespace", dst_service="$service"`, by)
				})).about("ejected: gets no requests for now."),
				plot("Connections of the clients' programs", "short", 8, by("namespace, deployment", func(by string) string {
					return gauge("tcp_open_connections", and(to, `peer="src"`), by)
				})),
				plot("Connections to the endpoints", "short", 8, by("dst_pod, tls", func(by string) string {
					return sum(by, `tcp_open_connections{direction="outbound", peer="dst"} * on (dst_pod, dst_namespace) group_left () group by (dst_pod, dst_namespace) (`+series("request_total", to)+`)`)
				})).about("Requests to several Services of one pod share them."),
			}},
		},
	}
}

func route() board {
	of := `rt_route_ns="$namespace", rt_kind="$route_kind", rt_route="$route"`
	return board{
		name: "route", title: "Route", description: "An HTTPRoute, a GRPCRoute or a TrafficSplit: what clients see (effective), and what it took (actual).",
		variables: []variable{
			choice("namespace", "Namespace", "label_values(route_response_total, rt_route_ns)"),
			choice("route_kind", "Kind", `label_values(route_response_total{rt_route_ns="$namespace"}, rt_kind)`),
			choice("route", "Route", `label_values(route_response_total{rt_route_ns="$namespace", rt_kind="$route_kind"}, rt_route)`),
		},
		rows: []row{
			{"", []tile{
				stat("Effective success", "percentunit", 6, share("route_response_total", of, `classification="success"`, "")).share().green(0.95),
				stat("Actual success", "percentunit", 6, share("route_actual_response_total", of, `classification="success"`, "")).share().green(0.95),
				stat("Effective requests", "reqps", 4, rate("route_response_total", of, "")),
				stat("Actual requests", "reqps", 4, rate("route_actual_response_total", of, "")),
				stat("Retries", "reqps", 4, rate("route_retry_total", of, "")),
			}},
			{"By rule", []tile{
				plot("Effective success", "percentunit", 8, by("rt_rule", func(by string) string {
					return share("route_response_total", of, `classification="success"`, by)
				})).share(),
				plot("Actual success", "percentunit", 8, by("rt_rule", func(by string) string {
					return share("route_actual_response_total", of, `classification="success"`, by)
				})).share(),
				plot("Latency p95", "ms", 8, by("rt_rule", func(by string) string { return latency("route_response_latency_ms", 0.95, of, by) })).
					about("Retries included."),
				plot("Effective requests", "reqps", 8, by("rt_rule", func(by string) string { return rate("route_response_total", of, by) })),
				plot("Actual requests", "reqps", 8, by("rt_rule", func(by string) string { return rate("route_actual_response_total", of, by) })),
				plot("Retries", "reqps", 8, by("rt_rule", func(by string) string { return rate("route_retry_total", of, by) })),
			}},
			{"By client and service", []tile{
				plot("Effective requests by client", "reqps", 8, by("namespace, deployment, statefulset", func(by string) string {
					return rate("route_response_total", of, by)
				})),
				plot("Effective requests by service", "reqps", 8, by("dst_namespace, dst_service", func(by string) string {
					return rate("route_response_total", of, by)
				})),
				plot("Latency", "ms", 8, quantiles("route_response_latency_ms", of)...),
			}},
			{"Retries and mirrors of all routes", []tile{
				plot("Retries that the budget refused", "cps", 12, by("node", func(by string) string { return rate("underlane_retries_refused_total", "", by) })),
				plot("Mirrored requests dropped", "cps", 12, by("node", func(by string) string { return rate("underlane_mirrors_dropped_total", "", by) })),
			}},
		},
	}
}

func connections() board {
	own := `namespace=~"$namespace"`
	in, out := and(own, inbound, `peer="src"`), and(own, outbound, `peer="dst"`)
	return board{
		name: "connections", title: "Connections", description: "TCP connections between pods: how many, how they end, what is not secured, and what the kernel counted.",
		variables: []variable{choices("namespace", "Namespace", "label_values(tcp_open_total, namespace)")},
		rows: []row{
			{"", []tile{
				stat("Open, inbound", "short", 4, gauge("tcp_open_connections", in, "")),
				stat("Open, outbound", "short", 4, gauge("tcp_open_connections", out, "")),
				stat("Opened", "cps", 4, rate("tcp_open_total", in, "")),
				stat("Failed", "cps", 4, rate("tcp_close_total", and(own, `classification="failure", peer="src"`), "")),
				stat("Secured", "percentunit", 4, gauge("tcp_open_connections", and(in, secured), "")+" / "+gauge("tcp_open_connections", in, "")).share().green(1),
				stat("Plaintext fallbacks", "cps", 4, rate("underlane_plaintext_fallback_total", "", "")).red(0.001).about("Connections without TLS because the peer's agent did not answer."),
			}},
			{"Inbound", []tile{
				plot("Open by tls", "short", 8, by("tls", func(by string) string { return gauge("tcp_open_connections", in, by) })).stack(),
				plot("Open by client", "short", 8, by("client_id", func(by string) string { return gauge("tcp_open_connections", in, by) })),
				plot("How long connections were open", "ms", 8, quantiles("tcp_connection_duration_ms", in)...),
				plot("Bytes read", "Bps", 8, by("namespace", func(by string) string { return rate("tcp_read_bytes_total", in, by) })),
				plot("Bytes written", "Bps", 8, by("namespace", func(by string) string { return rate("tcp_write_bytes_total", in, by) })),
				plot("Ends by reason", "cps", 8, by("classification, reason, errno", func(by string) string { return rate("tcp_close_total", in, by) })),
			}},
			{"Outbound", []tile{
				plot("Open by tls", "short", 8, by("tls", func(by string) string { return gauge("tcp_open_connections", out, by) })).stack(),
				plot("Open by server", "short", 8, by("dst_namespace, dst_deployment, dst_statefulset", func(by string) string {
					return gauge("tcp_open_connections", out, by)
				})),
				plot("How long connections were open", "ms", 8, quantiles("tcp_connection_duration_ms", out)...),
				plot("Bytes read", "Bps", 8, by("namespace", func(by string) string { return rate("tcp_read_bytes_total", out, by) })),
				plot("Bytes written", "Bps", 8, by("namespace", func(by string) string { return rate("tcp_write_bytes_total", out, by) })),
				plot("Ends by reason", "cps", 8, by("classification, reason, errno", func(by string) string { return rate("tcp_close_total", out, by) })),
			}},
			{"In the kernel", []tile{
				plot("Captured", "cps", 8, by("reason", func(by string) string {
					return rate("underlane_kernel_events_total", `reason=~"captured-.*"`, by)
				})),
				plot("Passed by the mesh", "cps", 8, by("reason", func(by string) string {
					return rate("underlane_kernel_events_total", `reason=~"passed-.*"`, by)
				})).about("docs/reference/metrics.md says what each means."),
				plot("Refused, or not captured", "cps", 8, by("reason", func(by string) string {
					return rate("underlane_kernel_events_total", `reason=~"refused-.*|.*-failed"`, by)
				})),
			}},
		},
	}
}
