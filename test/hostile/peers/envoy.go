package peers

import (
	"encoding/json"
	"path/filepath"
)

// object is a JSON object.
type object = map[string]any

const envoyTypes = "type.googleapis.com/envoy."

// envoyConfig follows "Configuring Envoy as an edge proxy"
// (https://www.envoyproxy.io/docs/envoy/latest/configuration/best_practices/edge), whose
// values these are, but for the limits of connections, which fit the descriptors here.
// Further it has a timeout for heads ("How do I configure timeouts?" in the FAQ), and
// one request of a connection at a time (http.max_requests_per_io_cycle, which the
// advisory on HTTP/2 Rapid Reset, GHSA-jhv4-f7mr-xx76, brought for abusive clients).
// Its limits for floods of HTTP/2 frames are on by default.
func envoyConfig(s Setup) (map[string]string, []string) {
	var listeners, clusters []any
	limits := object{}
	for _, h := range s.Hops {
		listeners = append(listeners, envoyListener(s, h))
		clusters = append(clusters, envoyCluster(h))
		limits[h.Name] = object{"connection_limit": connsListener}
	}
	heap := func(action string, value float64) object {
		return object{"name": "envoy.overload_actions." + action, "triggers": []any{
			object{"name": "envoy.resource_monitors.fixed_heap", "threshold": object{"value": value}},
		}}
	}
	config := object{
		"overload_manager": object{
			"refresh_interval": "0.25s",
			"resource_monitors": []any{
				object{"name": "envoy.resource_monitors.fixed_heap", "typed_config": object{
					"@type": envoyTypes + "extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig", "max_heap_size_bytes": memory,
				}},
				object{"name": "envoy.resource_monitors.global_downstream_max_connections", "typed_config": object{
					"@type":                             envoyTypes + "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
					"max_active_downstream_connections": conns,
				}},
			},
			"actions": []any{heap("shrink_heap", 0.95), heap("stop_accepting_requests", 0.98)},
		},
		"layered_runtime": object{"layers": []any{object{"name": "limits", "static_layer": object{
			"envoy": object{"resource_limits": object{"listener": limits}},
			"http":  object{"max_requests_per_io_cycle": 1},
		}}}},
		"static_resources": object{"listeners": listeners, "clusters": clusters},
	}
	text, _ := json.MarshalIndent(config, "", " ") // maps, strings and numbers: cannot fail
	// Its default is a worker for each processor.
	return map[string]string{"envoy.json": string(text)},
		[]string{"-c", filepath.Join(s.Dir, "envoy.json"), "--disable-hot-restart", "--log-level", "error"}
}

func envoyListener(s Setup, h Hop) object {
	chain := object{"filters": []any{envoyFilter(h)}}
	if h.Kind.tls() {
		file := func(path string) object { return object{"filename": path} }
		common := object{
			"tls_params":         object{"tls_minimum_protocol_version": "TLSv1_3"},
			"tls_certificates":   []any{object{"certificate_chain": file(s.PKI.Cert), "private_key": file(s.PKI.Key)}},
			"validation_context": object{"trusted_ca": file(s.PKI.Anchors)},
		}
		if h.Kind == MutualTLS {
			common["alpn_protocols"] = []string{"h2", "http/1.1"}
		}
		chain["transport_socket"] = object{"name": "envoy.transport_sockets.tls", "typed_config": object{
			"@type":                      envoyTypes + "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
			"require_client_certificate": true, "common_tls_context": common,
		}}
		chain["transport_socket_connect_timeout"] = "10s" // for a handshake
	}
	return object{
		"name": h.Name, "address": envoyAddress(h.Listen.Addr().String(), h.Listen.Port()),
		"per_connection_buffer_limit_bytes": 32 << 10, "filter_chains": []any{chain},
	}
}

func envoyAddress(addr string, port uint16) object {
	return object{"socket_address": object{"address": addr, "port_value": port}}
}

func envoyFilter(h Hop) object {
	if h.Kind == OpaqueTLS {
		return object{"name": "envoy.filters.network.tcp_proxy", "typed_config": object{
			"@type":       envoyTypes + "extensions.filters.network.tcp_proxy.v3.TcpProxy",
			"stat_prefix": h.Name, "cluster": h.Name,
		}}
	}
	return object{"name": "envoy.filters.network.http_connection_manager", "typed_config": object{
		"@type":       envoyTypes + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
		"stat_prefix": h.Name, "use_remote_address": true,
		"normalize_path": true, "merge_slashes": true, "path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT",
		"common_http_protocol_options": object{"idle_timeout": "3600s", "headers_with_underscores_action": "REJECT_REQUEST"},
		"http2_protocol_options":       envoyHTTP2(),
		"request_headers_timeout":      "5s",
		"stream_idle_timeout":          "300s",
		"request_timeout":              "300s",
		"route_config": object{"virtual_hosts": []any{object{"name": "all", "domains": []any{"*"}, "routes": []any{
			object{"match": object{"prefix": "/"}, "route": object{"cluster": h.Name, "timeout": "15s", "idle_timeout": "15s"}},
		}}}},
		"http_filters": []any{object{"name": "envoy.filters.http.router", "typed_config": object{
			"@type": envoyTypes + "extensions.filters.http.router.v3.Router",
		}}},
	}}
}

func envoyHTTP2() object {
	return object{"max_concurrent_streams": streams, "initial_stream_window_size": 64 << 10, "initial_connection_window_size": 1 << 20}
}

func envoyCluster(h Hop) object {
	cluster := object{
		"name": h.Name, "type": "STATIC", "per_connection_buffer_limit_bytes": 32 << 10,
		"load_assignment": object{"cluster_name": h.Name, "endpoints": []any{object{"lb_endpoints": []any{
			object{"endpoint": object{"address": envoyAddress(h.Server.Addr().String(), h.Server.Port())}},
		}}}},
	}
	if h.Kind == OpaqueTLS {
		// By default a cluster has 1,024 connections, which would lose most of the storm.
		cluster["circuit_breakers"] = object{"thresholds": []any{object{"max_connections": connsListener, "max_pending_requests": connsListener}}}
		return cluster
	}
	// A request keeps its protocol, as it does in the mesh.
	cluster["typed_extension_protocol_options"] = object{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": object{
		"@type":                          envoyTypes + "extensions.upstreams.http.v3.HttpProtocolOptions",
		"use_downstream_protocol_config": object{"http_protocol_options": object{}, "http2_protocol_options": envoyHTTP2()},
	}}
	return cluster
}
