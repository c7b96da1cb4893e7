//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A pod can connect from one of its own addresses to another one. The loopback device
 * delivers the SYN of such a connection, but for the kernel it has arrived at the
 * interface that has the address. So sk_lookup cannot distinguish it from a SYN from
 * outside, and the client's side writes the connection into a map here. */

struct net_device {
	int ifindex;
} __attribute__((preserve_access_index));

struct dst_entry {
	struct net_device *dev;
} __attribute__((preserve_access_index));

/* Runs before the SYN of a connection leaves that a socket in an enrolled pod makes.
 * The route is known then, and to an address of the namespace it goes over lo. */
static __always_inline void file_inner_flow(struct bpf_sock_ops *ctx, struct bpf_sock *sk, __u64 cookie)
{
	struct inner_flow_key key = { .netns_cookie = cookie };
	struct sock *kernel_sk = (void *)bpf_skc_to_tcp_sock(sk);
	if (!kernel_sk || BPF_CORE_READ(kernel_sk, sk_dst_cache, dev, ifindex) != LOOPBACK_IFINDEX)
		return;
	local_addr(ctx, &key.flow.client);
	remote_addr(ctx, &key.flow.server);
	if (is_loopback(&key.flow.server) || same_addr(&key.flow.client, &key.flow.server))
		return; /* sk_lookup recognises these by their addresses */
	key.flow.client_port = ctx->local_port;
	key.flow.server_port = remote_port(ctx);
	__u64 now = bpf_ktime_get_ns();
	if (bpf_map_update_elem(&inner_flows, &key, &now, BPF_ANY))
		count(COUNT_INNER_FLOW_FAILED);
}

/* Runs in the pod's sk_lookup program. */
static __always_inline int is_inner_flow(__u64 cookie, const struct address *client, __u16 client_port,
					 const struct address *server, __u16 server_port)
{
	struct inner_flow_key key = {
		.netns_cookie = cookie,
		.flow = { .client = *client, .server = *server, .client_port = client_port, .server_port = server_port },
	};
	__u64 *opened = bpf_map_lookup_elem(&inner_flows, &key);
	return opened && bpf_ktime_get_ns() - *opened < FLOW_LIFETIME_NS;
}
