//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Inbound capture: a SYN to any address of an enrolled pod goes to the agent's inbound
 * listener rather than to the application's. A pod may have addresses that the cluster
 * does not know, such as IPv6 link-local ones. getsockname() of the accepted socket
 * returns the address that the client connected to.
 *
 * An sk_lookup program cannot read the cookie of its namespace. So each enrolled pod
 * has a copy of the program, with the cookie as a constant, attached to its namespace. */

const volatile __u64 own_netns_cookie = 0;

/* The kernel's own struct of the context. Both have the field since Linux 5.17. */
struct bpf_sk_lookup_kern {
	int ingress_ifindex;
} __attribute__((preserve_access_index));

/* Whether the SYN came over lo. An older kernel does not say it. Nothing depends on it
 * there: connections from one address of the pod to another are in inner_flows. */
static __always_inline int came_over_loopback(struct bpf_sk_lookup *ctx)
{
	struct bpf_sk_lookup_kern *kernel_ctx = 0;
	if (!bpf_core_field_exists(kernel_ctx->ingress_ifindex))
		return 0;
	return CTX_WORD(ctx, struct bpf_sk_lookup, ingress_ifindex, 0) == LOOPBACK_IFINDEX;
}

static __always_inline void both_addrs(struct bpf_sk_lookup *ctx, struct address *local, struct address *remote)
{
	if (ctx->family == AF_INET) {
		set_addr4(local, CTX_WORD(ctx, struct bpf_sk_lookup, local_ip4, 0));
		set_addr4(remote, CTX_WORD(ctx, struct bpf_sk_lookup, remote_ip4, 0));
	} else {
		SET_CTX_ADDR6(local, ctx, struct bpf_sk_lookup, local_ip6);
		SET_CTX_ADDR6(remote, ctx, struct bpf_sk_lookup, remote_ip6);
	}
}

/* A connection to a loopback address is the pod's own and passes, unless it is a
 * captured one. */
static __always_inline int steer_via(struct bpf_sk_lookup *ctx, const struct address *local, const struct address *remote)
{
	__u64 netns_cookie = own_netns_cookie;
	if (!is_captured_via(netns_cookie, remote, bpf_ntohs(ctx->remote_port), local, ctx->local_port))
		return SK_PASS;
	struct listener_key key = {
		.netns_cookie = netns_cookie,
		.kind = is_v4(local) ? LISTENER_OUTBOUND4 : LISTENER_OUTBOUND6,
	};
	struct bpf_sock *listener = bpf_map_lookup_elem(&listeners, &key);
	if (!listener)
		return SK_PASS; /* without a listener the kernel refuses the connection */
	long err = bpf_sk_assign(ctx, listener, 0);
	bpf_sk_release(listener);
	if (err)
		count(COUNT_ASSIGN_FAILED);
	return SK_PASS;
}

SEC("sk_lookup")
int steer_inbound(struct bpf_sk_lookup *ctx)
{
	struct address local, remote;
	if (ctx->protocol != IPPROTO_TCP)
		return SK_PASS;
	both_addrs(ctx, &local, &remote);
	if (is_loopback(&local))
		return steer_via(ctx, &local, &remote);
	/* A connection of the agent to the application, or of the pod to itself, has the
	 * same address at both ends. A forged packet from outside with such addresses
	 * cannot open a connection, because the answer does not leave the pod. */
	if (came_over_loopback(ctx) || same_addr(&local, &remote))
		return SK_PASS;

	__u64 netns_cookie = own_netns_cookie;
	struct pod *pod = bpf_map_lookup_elem(&pods, &netns_cookie);
	if (!pod)
		return SK_PASS;
	if (is_host_flow(&remote, bpf_ntohs(ctx->remote_port), &local, ctx->local_port)) {
		count(COUNT_PASSED_HOST_PROCESS);
		return SK_PASS;
	}
	if (is_inner_flow(netns_cookie, &remote, bpf_ntohs(ctx->remote_port), &local, ctx->local_port))
		return SK_PASS;
	if (is_local_flow(netns_cookie, &remote, bpf_ntohs(ctx->remote_port), &local, ctx->local_port)) {
		count_path(PATH_ADMITTED);
		return SK_PASS;
	}
	if (in_ranges(pod->skip_inbound, ctx->local_port)) {
		count(COUNT_PASSED_SKIPPED_PORT);
		return SK_PASS;
	}
	struct listener_key key = {
		.netns_cookie = netns_cookie,
		.kind = is_v4(&local) ? LISTENER_INBOUND4 : LISTENER_INBOUND6,
	};
	struct bpf_sock *listener = bpf_map_lookup_elem(&listeners, &key);
	int stale = listener && !agent_alive(agent_state());
	if (!listener || stale) {
		if (listener)
			bpf_sk_release(listener);
		if (pod->inbound_fail_closed) {
			count(stale ? COUNT_REFUSED_STALE_AGENT : COUNT_REFUSED_NO_LISTENER);
			return SK_DROP;
		}
		count(stale ? COUNT_PASSED_STALE_AGENT : COUNT_PASSED_NO_LISTENER);
		return SK_PASS;
	}
	long err = bpf_sk_assign(ctx, listener, 0);
	bpf_sk_release(listener);
	if (err) {
		count(COUNT_ASSIGN_FAILED);
		return pod->inbound_fail_closed ? SK_DROP : SK_PASS;
	}
	count(COUNT_CAPTURED_INBOUND);
	return SK_PASS;
}
