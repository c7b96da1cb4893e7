"""Envoy as Contour, Gloo and Ambassador configure it: pods as static endpoints.

Usage: envoy.py ADDR1 ADDR2 SHARED. Prints the configuration as JSON, which is YAML.
"""
import json
import sys

addr1, addr2, shared = sys.argv[1:]
ADDED = [{"header": {"key": "l5d-dst-override", "value": "web.default.svc.cluster.local:80"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]
ADDED_GRPC = [{"header": {"key": "l5d-dst-override", "value": "web.default.svc.cluster.local:9000"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]
TYPES = "type.googleapis.com/envoy.extensions."


def address(host, port):
    return {"socket_address": {"address": host, "port_value": port}}


def listener(port, route, listener_filters=(), tls=False, added=ADDED):
    chain = {"filters": [{"name": "http", "typed_config": {
        "@type": TYPES + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in%d" % port,
        "use_remote_address": True,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "route_config": {"virtual_hosts": [{
            "name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}],
            **({"request_headers_to_add": added} if added else {}),
        }]},
        "http_filters": [{"name": "router", "typed_config": {"@type": TYPES + "filters.http.router.v3.Router"}}],
    }}]}
    if tls:
        chain["transport_socket"] = {"name": "tls", "typed_config": {
            "@type": TYPES + "transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {"tls_certificates": [{
                "certificate_chain": {"filename": shared + "/cert.pem"}, "private_key": {"filename": shared + "/key.pem"}}]},
        }}
    return {"name": "in%d" % port, "address": address("0.0.0.0", port), "listener_filters": list(listener_filters), "filter_chains": [chain]}


def cluster(name, port, http2=False):
    out = {
        "name": name, "type": "STATIC", "lb_policy": "ROUND_ROBIN", "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": address(host, port)}} for host in (addr1, addr2)]}]},
    }
    if http2:
        out["typed_extension_protocol_options"] = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": TYPES + "upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": {"http2_protocol_options": {}}}}
    return out


proxy = {"name": "proxy", "typed_config": {"@type": TYPES + "filters.listener.proxy_protocol.v3.ProxyProtocol"}}
print(json.dumps({"static_resources": {
    "listeners": [
        listener(8301, {"cluster": "web"}),
        listener(8302, {"cluster": "web"}, tls=True),
        listener(8303, {"cluster": "web"}, [proxy]),
        listener(8304, {"cluster": "calls"}, added=ADDED_GRPC),
        listener(8305, {"cluster": "web", "host_rewrite_literal": "web.default.svc.cluster.local"}, added=None),  # Ambassador's host_rewrite
    ],
    "clusters": [cluster("web", 8080), cluster("calls", 9000, http2=True)],
}}))
