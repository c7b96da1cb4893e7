//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The kernel path: a connection between two pods of this node about which no proxy has to
 * decide anything goes from one to the other. The agent has decided before: for each such
 * destination of a pod it keeps an entry in the map paths, and takes it out when the policy,
 * the pods or the endpoints change.
 *
 * The hook rewrites the destination to the endpoint. Before the SYN leaves, sockops.c
 * writes the connection into the map local_flows, where sk_lookup.c of the other pod finds
 * it and leaves the SYN to the application. A pod cannot forge that: an entry is for the
 * addresses and ports of one connection that the hook has seen, and who sends from an
 * address that is not his gets no answer. */

struct path_key {
	__u64 netns_cookie; /* of the client */
	struct address addr;
	__u16 port;
	__u16 pad[3];
};

struct path {
	__u64 netns_cookie; /* of the server */
	struct address addr; /* of the server's family, which is that of the key */
	__u16 port;
	__u16 pad[3];
};

struct local_flow_key {
	__u64 netns_cookie; /* of the server */
	struct flow_key flow;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct path_key);
	__type(value, struct path);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} paths SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct local_flow_key);
	__type(value, __u64); /* CLOCK_MONOTONIC when it was opened */
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} local_flows SEC(".maps");

/* The path that a client's socket has taken. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct path);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} taken_paths SEC(".maps");

/* Returns the path of a connection that a socket is about to make, or null. A socket that
 * has its port already may have another connection to the endpoint, by another name. */
static __always_inline struct path *take_path(struct bpf_sock *sk, __u64 cookie, const struct address *dst, __u16 port)
{
	struct path_key key = { .netns_cookie = cookie, .addr = *dst, .port = port };
	struct path *path = bpf_map_lookup_elem(&paths, &key);
	if (!path || (sk->src_port && !(path->port == port && same_addr(&path->addr, dst))))
		return 0;
	struct path *taken = bpf_sk_storage_get(&taken_paths, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!taken)
		return 0;
	*taken = *path;
	count_path(PATH_TAKEN);
	return taken;
}

static __always_inline void local_flow_key(struct bpf_sock_ops *ctx, const struct path *path, struct local_flow_key *key)
{
	key->netns_cookie = path->netns_cookie;
	local_addr(ctx, &key->flow.client);
	remote_addr(ctx, &key->flow.server);
	key->flow.client_port = ctx->local_port;
	key->flow.server_port = remote_port(ctx);
}

/* Has packets of a connection redirected in both directions, if its pods have veths for it. */
static __always_inline void file_redirect(__u64 client_cookie, const struct local_flow_key *key)
{
	const struct flow_key *flow = &key->flow;
	__u64 server_cookie = key->netns_cookie;
	if (!bpf_map_lookup_elem(&veths, &client_cookie) || !bpf_map_lookup_elem(&veths, &server_cookie))
		return;
	int low = is_low(&flow->client, flow->client_port, &flow->server, flow->server_port);
	struct ends ends = {};
	set_ends(&ends, low, &flow->client, flow->client_port, &flow->server, flow->server_port);
	struct redirected r = {
		.low_cookie = low ? client_cookie : server_cookie,
		.high_cookie = low ? server_cookie : client_cookie,
		.filed_ns = bpf_ktime_get_ns(),
	};
	if (!bpf_map_update_elem(&redirects, &ends, &r, BPF_ANY))
		count_path(PATH_REDIRECTED);
}

/* Runs in the process that connects, before its SYN leaves. */
static __always_inline void file_local_flow(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct path *path = bpf_sk_storage_get(&taken_paths, sk, 0, 0);
	if (!path)
		return;
	struct local_flow_key key = {};
	local_flow_key(ctx, path, &key);
	__u64 now = bpf_ktime_get_ns();
	if (bpf_map_update_elem(&local_flows, &key, &now, BPF_ANY)) {
		count_path(PATH_FLOW_FAILED);
		return;
	}
	file_redirect(bpf_get_netns_cookie(ctx), &key);
}

/* Runs when the connection ends. */
static __always_inline void delete_local_flow(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct path *path = bpf_sk_storage_get(&taken_paths, sk, 0, 0);
	if (!path)
		return;
	struct local_flow_key key = {};
	local_flow_key(ctx, path, &key);
	bpf_map_delete_elem(&local_flows, &key);
}

/* Runs in the server's sk_lookup program, and when the server accepts the connection. */
static __always_inline int is_local_flow(__u64 cookie, const struct address *client, __u16 client_port,
					 const struct address *server, __u16 server_port)
{
	struct local_flow_key key = {
		.netns_cookie = cookie,
		.flow = { .client = *client, .server = *server, .client_port = client_port, .server_port = server_port },
	};
	__u64 *opened = bpf_map_lookup_elem(&local_flows, &key);
	return opened && bpf_ktime_get_ns() - *opened < FLOW_LIFETIME_NS;
}
