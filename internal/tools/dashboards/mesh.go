package main

// The dashboards of the mesh's own programs. job names them wherever they run: the
// Prometheus operator writes NAMESPACE/PODMONITOR.
const (
	agentJob      = `job=~".*underlane-agent"`
	controllerJob = `job=~".*underlane-controller"`
)

// process are the panels of a program's process, by a label.
func process(selector, label string) []tile {
	one := func(title, unit, expr string) tile { return plot(title, unit, 6, query{expr, legend(label)}) }
	return []tile{
		one("Processor", "short", rate("process_cpu_seconds_total", selector, label)).about("Processors' worth of time."),
		one("Memory", "bytes", gauge("process_resident_memory_bytes", selector, label)),
		one("Descriptors", "percentunit", "max by ("+label+") (process_open_fds{"+selector+"} / process_max_fds{"+selector+"})").share(),
		one("Goroutines", "short", gauge("go_goroutines", selector, label)),
	}
}

func agents() board {
	own := and(agentJob, `node=~"$node"`)
	count := func(title, metric string) tile {
		return plot(title, "cps", 6, by("node", func(by string) string { return rate(metric, own, by) }))
	}
	label := func(title, unit, metric, label string) tile {
		return plot(title, unit, 8, by("node, "+label, func(by string) string { return rate(metric, own, by) }))
	}
	left := `min by (node) ((identity_cert_expiration_timestamp_seconds{` + own + `} - time()) / (identity_cert_expiration_timestamp_seconds{` + own + `} - underlane_cert_start_timestamp_seconds{` + own + `}))`
	return board{
		name: "agents", title: "Nodes and agents", description: "The agents: whether they are well, what they spend and for whom, what they refused, and what they lost.",
		variables: []variable{choices("node", "Node", "label_values(underlane_ready, node)")},
		rows: []row{
			{"", []tile{
				stat("Agents ready", "short", 4, "sum(underlane_ready{"+own+"})"),
				stat("Agents not ready", "short", 4, "count(underlane_ready{"+own+"}) - sum(underlane_ready{"+own+"})").red(1),
				stat("Pods enrolled", "short", 4, gauge("underlane_pods", and(own, `state="enrolled"`), "")),
				stat("Pods failed", "short", 4, gauge("underlane_pods", and(own, `state="failed"`), "")).red(1),
				stat("Least of a certificate's life left", "percentunit", 4, "min("+left+")").share().green(0.2),
				stat("Events lost", "cps", 4, rate("underlane_ringbuf_lost_total", own, "")+" + "+rate("underlane_tap_lost_total", own, "")).red(0.001).
					about("Kernel events that found the ring buffer full, and events that slow readers of tap missed."),
			}},
			{"Processes", process(own, "node")},
			{"Pods", []tile{
				plot("Pods by state", "short", 6, by("node, state", func(by string) string { return gauge("underlane_pods", own, by) })),
				plot("Certificates: least of the life left", "percentunit", 6, query{left, legend("node")}).share(),
				plot("Processor time by pod", "short", 6, query{
					"topk(10, " + rate("underlane_pod_processor_seconds_total", own, "namespace, pod") + ")", legend("namespace, pod"),
				}).about("The ten pods that the agents spend most for."),
				plot("Waiting for a turn, by pod", "s", 6, query{
					"topk(10, " + rate("underlane_pod_wait_seconds_total", own, "namespace, pod") + ")", legend("namespace, pod"),
				}),
			}},
			{"Limits and endpoints", []tile{
				label("Refused by a limit", "cps", "underlane_limit_hits_total", "limit").about("docs/reference/limits.md says what each limit is for."),
				label("Endpoints ejected", "cps", "underlane_ejections_total", "reason"),
				plot("Endpoints now ejected", "short", 8, by("dst_namespace, dst_service", func(by string) string {
					return "max by (" + by + ") (underlane_endpoints{" + and(own, `state="ejected"`) + "})"
				})),
				plot("Requests that wait for an HTTP/2 stream", "short", 8, by("node", func(by string) string {
					return gauge("underlane_http2_waiting_requests", own, by)
				})),
				label("New pods, told by the container runtime", "cps", "underlane_sandboxes_total", "outcome"),
				label("Series over the limit", "cps", "underlane_metrics_overflow_total", "outcome"),
			}},
			{"What should not happen", []tile{
				count("Kernel events lost", "underlane_ringbuf_lost_total"),
				count("Repairs", "underlane_repairs_total").about("Programs and map entries that another program had changed."),
				count("Accepts without descriptors", "underlane_accept_exhausted_total"),
				count("Connections cut by a panic", "underlane_connection_panics_total"),
				count("Plaintext fallbacks", "underlane_plaintext_fallback_total"),
				count("Listeners revived", "underlane_listeners_revived_total"),
				count("Tap events lost", "underlane_tap_lost_total"),
				plot("Lines of access logs dropped", "cps", 6, by("node, cause", func(by string) string {
					return rate("underlane_access_log_dropped_total", own, by)
				})),
				plot("Spans and log lines for the OTLP receiver", "cps", 6, by("signal, result", func(by string) string {
					return rate("underlane_otlp_items_total", own, by)
				})).about("Where agents have one."),
				plot("Pods without metrics of their own", "short", 6, by("node", func(by string) string {
					return gauge("underlane_pods_without_metrics", own, by)
				})),
			}},
		},
	}
}

func controlPlane() board {
	total := func(title, metric, labels string) tile {
		return plot(title, "cps", 8, by(labels, func(by string) string { return rate("underlane_controller_"+metric, "", by) }))
	}
	return board{
		name: "control-plane", title: "Control plane", description: "The controllers: the agents that they serve, what they publish and sign, and what they cannot use.",
		rows: []row{
			{"", []tile{
				stat("Agents connected", "short", 4, "sum(underlane_controller_connected_agents)"),
				stat("Agents without a controller", "short", 4, `sum(up{`+agentJob+`}) - sum(underlane_controller_connected_agents)`).red(1),
				stat("Leaders", "short", 4, "sum(underlane_controller_leading)").green(1),
				stat("Pods known", "short", 4, "max(underlane_controller_workloads)"),
				stat("Problems", "short", 4, "sum(underlane_controller_problems)").red(1).about("underlane check names them."),
				stat("Issuer expires in", "s", 4, "min(underlane_controller_issuer_expiry_timestamp_seconds) - time()").green(86400),
			}},
			{"Processes", process(controllerJob, "instance")},
			{"State", []tile{
				plot("Agents connected", "short", 8, by("instance", func(by string) string { return gauge("underlane_controller_connected_agents", "", by) })).stack(),
				plot("Version of the state", "short", 8, by("instance", func(by string) string { return gauge("underlane_controller_snapshot_version", "", by) })),
				plot("Pods known", "short", 8, by("instance", func(by string) string { return gauge("underlane_controller_workloads", "", by) })),
				total("Deltas sent", "deltas_sent_total", "instance"),
				total("Resources sent", "resources_sent_total", "instance"),
				total("Deltas refused by agents", "deltas_refused_total", "instance"),
			}},
			{"Certificates, statuses and problems", []tile{
				total("Certificates", "certificates_total", "kind, result"),
				total("Statuses of pods", "pod_statuses_total", "result"),
				total("Statuses of routes", "route_statuses_total", "result"),
				plot("Problems now", "short", 8, by("kind", func(by string) string { return "max by (" + by + ") (underlane_controller_problems)" })),
				total("Problems that appeared", "problems_total", "kind"),
				total("Connections of strangers closed", "strangers_evicted_total", "instance"),
				total("Accepts without descriptors", "accept_exhausted_total", "instance"),
				plot("Taps that run", "short", 8, by("instance", func(by string) string { return gauge("underlane_controller_taps", "", by) })),
				total("Calls of the tap API refused", "tap_calls_refused_total", "why"),
			}},
		},
	}
}
