package main

// What several dashboards show: success, rate, latency, and connections.

// goldenStats are the numbers at the top: of the requests that selector selects.
func goldenStats(selector string) []tile {
	return []tile{
		stat("Success rate", "percentunit", 4, success(selector, "")).share().green(0.95),
		stat("Requests", "reqps", 4, rate("request_total", selector, "")),
		stat("Latency p50", "ms", 4, latency("response_latency_ms", 0.5, selector, "")),
		stat("Latency p99", "ms", 4, latency("response_latency_ms", 0.99, selector, "")),
		stat("Secured", "percentunit", 4, share("request_total", selector, secured, "")).share().green(1).
			about("Share of the requests with mutual TLS, or between two pods of one node."),
	}
}

// goldenBy are success, rate and latency by labels.
func goldenBy(selector, labels string) []tile {
	return []tile{
		plot("Success rate", "percentunit", 8, by(labels, func(by string) string { return success(selector, by) })).share(),
		plot("Requests", "reqps", 8, by(labels, func(by string) string { return rate("request_total", selector, by) })),
		plot("Latency p95", "ms", 8, by(labels, func(by string) string { return latency("response_latency_ms", 0.95, selector, by) })).
			about("From a request's head to its response's head."),
	}
}

// golden are success, rate and latency of one thing, and what fails.
func golden(selector string) []tile {
	return []tile{
		plot("Success rate", "percentunit", 6, query{success(selector, ""), "success"}).share(),
		plot("Requests by tls", "reqps", 6, by("tls", func(by string) string { return rate("request_total", selector, by) })).stack(),
		plot("Latency", "ms", 6, quantiles("response_latency_ms", selector)...),
		plot("Responses by status", "reqps", 6, by("status_code, grpc_status_code, reason", func(by string) string {
			return rate("response_total", selector, by)
		})).stack().about("A response with a reason was made by the mesh: docs/reference/reasons.md says what to do."),
	}
}

// tcp are the connections that selector selects. peer is the side that leads to the other
// pod: src of inbound connections, dst of outbound ones.
func tcp(selector, peer string) []tile {
	wire := and(selector, `peer="`+peer+`"`)
	return []tile{
		plot("TCP connections open", "short", 6, by("peer, tls", func(by string) string { return gauge("tcp_open_connections", selector, by) })).
			about("src: to the client, dst: to the server. The connection between the agent and its own pod has no tls."),
		plot("TCP connections opened and closed", "cps", 6,
			query{rate("tcp_open_total", wire, ""), "opened"}, query{rate("tcp_close_total", wire, ""), "closed"}),
		plot("TCP bytes", "Bps", 6, query{rate("tcp_read_bytes_total", wire, ""), "read"}, query{rate("tcp_write_bytes_total", wire, ""), "written"}).
			about("Read from the other pod and written to it."),
		plot("TCP failures by reason", "cps", 6, by("reason", func(by string) string {
			return rate("tcp_close_total", and(wire, `classification="failure"`), by)
		})),
	}
}
