package main

// The dashboards of the traffic, from the whole mesh to a pod.

const inbound, outbound = `direction="inbound"`, `direction="outbound"`

func namespaces() variable {
	return choice("namespace", "Namespace", "label_values(tcp_open_total, namespace)")
}

func topLine() board {
	in := and(`namespace=~"$namespace"`, inbound)
	return board{
		name: "top-line", title: "Top line", description: "The whole mesh: success, load and latency by namespace, and whether the mesh itself is well.",
		variables: []variable{choices("namespace", "Namespace", "label_values(tcp_open_total, namespace)")},
		rows: []row{
			{"", append(goldenStats(in),
				stat("Namespaces", "short", 4, `count(count by (namespace) (tcp_open_total{namespace=~"$namespace"}))`),
				stat("Pods enrolled", "short", 4, `sum(underlane_pods{state="enrolled"})`),
				stat("Pods failed", "short", 4, `sum(underlane_pods{state="failed"})`).red(1),
				stat("Agents ready", "short", 4, "sum(underlane_ready)"),
				stat("Agents not ready", "short", 4, "count(underlane_ready) - sum(underlane_ready)").red(1),
				stat("Agents connected", "short", 4, "sum(underlane_controller_connected_agents)").about("Agents that have a stream from a controller."),
				stat("TCP connections", "short", 4, gauge("tcp_open_connections", and(in, `peer="src"`), "")),
			)},
			{"By namespace", goldenBy(in, "namespace")},
			{"By workload", goldenBy(in, "namespace, deployment, statefulset, daemonset")},
			{"What the mesh refused or could not do", []tile{
				plot("Responses by reason", "reqps", 12, by("namespace, reason", func(by string) string {
					return rate("response_total", and(in, `classification="failure"`), by)
				})).about("Without a reason, the application answered so."),
				plot("Connections that failed, by reason", "cps", 12, by("namespace, reason", func(by string) string {
					return rate("tcp_close_total", and(in, `peer="src", classification="failure"`), by)
				})),
			}},
		},
	}
}

func namespace() board {
	own := `namespace="$namespace"`
	in, out := and(own, inbound), and(own, outbound)
	return board{
		name: "namespace", title: "Namespace", description: "The workloads of a namespace, whom they call, and who calls them.",
		variables: []variable{namespaces(), kinds()},
		rows: []row{
			{"", append(goldenStats(in), stat("TCP connections", "short", 4, gauge("tcp_open_connections", and(in, `peer="src"`), "")))},
			{"Inbound, by workload", goldenBy(and(in, `$kind!=""`), "$kind")},
			{"Outbound, by service", goldenBy(and(out, `dst_service!=""`), "dst_namespace, dst_service")},
			{"Inbound connections", tcp(in, "src")},
			{"Outbound connections", tcp(out, "dst")},
		},
	}
}

func workload() board {
	own := `namespace="$namespace", $kind="$workload"`
	in, out := and(own, inbound), and(own, outbound)
	return board{
		name: "workload", title: "Workload", description: "A workload of any kind: what it is asked, what it asks of others, and its connections.",
		variables: []variable{namespaces(), kinds(), choice("workload", "Workload", `label_values(tcp_open_total{namespace="$namespace", $kind!=""}, $kind)`)},
		rows: []row{
			{"", append(goldenStats(in), stat("TCP connections", "short", 4, gauge("tcp_open_connections", and(in, `peer="src"`), "")))},
			{"Inbound", golden(in)},
			{"Inbound, by client", goldenBy(in, "client_id")},
			{"Inbound, by pod", goldenBy(in, "pod")},
			{"Outbound, by service", goldenBy(and(out, `dst_service!=""`), "dst_namespace, dst_service")},
			{"Outbound, by workload", goldenBy(out, "dst_namespace, dst_deployment, dst_statefulset, dst_daemonset")},
			{"Inbound connections", tcp(in, "src")},
			{"Outbound connections", tcp(out, "dst")},
		},
	}
}

func pod() board {
	own := `namespace="$namespace", pod="$pod"`
	in, out := and(own, inbound), and(own, outbound)
	cost := func(metric string) query {
		return by("direction", func(by string) string { return rate(metric, own, by) })
	}
	now := func(metric string) query {
		return by("direction", func(by string) string { return gauge(metric, own, by) })
	}
	return board{
		name: "pod", title: "Pod", description: "A pod: its requests, its connections, and what they cost the agent of its node.",
		variables: []variable{namespaces(), choice("pod", "Pod", `label_values(tcp_open_total{namespace="$namespace"}, pod)`)},
		rows: []row{
			{"", append(goldenStats(in), stat("TCP connections", "short", 4, gauge("tcp_open_connections", and(in, `peer="src"`), "")))},
			{"Inbound", golden(in)},
			{"Outbound, by service", goldenBy(and(out, `dst_service!=""`), "dst_namespace, dst_service")},
			{"Outbound, by endpoint", goldenBy(out, "dst_pod")},
			{"Inbound connections", tcp(in, "src")},
			{"Outbound connections", tcp(out, "dst")},
			{"What the pod costs the agent", []tile{
				plot("Processor time", "short", 8, cost("underlane_pod_processor_seconds_total")).about("Processors' worth of the agent's time."),
				plot("Waiting for a turn", "s", 8, cost("underlane_pod_wait_seconds_total")).about("Seconds in each second, of all goroutines together."),
				plot("Connections", "short", 8, now("underlane_pod_connections")),
				plot("Descriptors", "short", 8, now("underlane_pod_descriptors")),
				plot("Bytes that wait in the agent", "bytes", 8, now("underlane_pod_buffered_bytes")),
				plot("Share of the processors", "short", 8, query{gauge("underlane_pod_weight", own, ""), "weight"}),
			}},
		},
	}
}
