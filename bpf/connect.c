//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Outbound capture: these programs rewrite a connect() of an enrolled pod to the
 * agent's listener in the pod's own namespace, or to the endpoint itself (path.c). They
 * keep the original destination with the socket, and sockops.c writes it into a map for
 * the agent. */

enum liveness { ALIVE, NO_LISTENER, STALE };

static __always_inline enum liveness outbound_liveness(__u64 cookie, __u32 kind)
{
	struct listener_key key = { .netns_cookie = cookie, .kind = kind };
	struct bpf_sock *listener = bpf_map_lookup_elem(&listeners, &key);
	if (!listener)
		return NO_LISTENER;
	bpf_sk_release(listener);
	return agent_alive(agent_state()) ? ALIVE : STALE;
}

static __always_inline void report_refused(const struct address *dst, __u16 port, __u64 cookie)
{
	struct event *e = event_begin(EVENT_REFUSED, cookie);
	if (!e)
		return;
	e->remote = *dst;
	e->remote_port = port;
	set_process(e->process, &e->pid);
	event_end(e);
}

/* Where a connection goes instead of its destination. */
struct way {
	enum captured how;
	__u16 port; /* of the agent's listener on the loopback address of dst's family, or of the endpoint */
	struct address endpoint; /* of the kernel path */
};

/* Returns 1 if the caller has to rewrite the connection to *way. Otherwise *verdict is the
 * result. */
static __always_inline int capture(struct bpf_sock_addr *ctx, const struct address *dst, enum verdict *verdict,
				   struct way *way)
{
	*verdict = PASS;
	if (ctx->type != SOCK_STREAM) {
		dns_asks(ctx, dst);
		return 0;
	}
	if (!ctx->sk)
		return 0;
	/* A socket may connect again after a failure: its stored data is then old. */
	struct socket_info *info = bpf_sk_storage_get(&sockets, ctx->sk, 0, 0);
	if (info)
		info->captured = NOT_CAPTURED;
	__u64 cookie = bpf_get_netns_cookie(ctx);
	struct pod *pod = bpf_map_lookup_elem(&pods, &cookie);
	if (!pod)
		return 0;
	struct agent_state *st = agent_state();
	if (st && st->mark && ctx->sk->mark == st->mark)
		return 0; /* the agent's own socket */
	if (is_loopback(dst) || is_unspecified(dst) || same_addr(dst, &pod->addr4) || same_addr(dst, &pod->addr6))
		return 0; /* the destination is the pod itself */
	if (is_link_local6(dst)) {
		count(COUNT_PASSED_LINK_LOCAL);
		return 0;
	}
	int v4 = is_v4(dst);
	way->port = v4 ? pod->outbound_port4 : pod->outbound_port6;
	if (!way->port)
		return 0;
	if (ctx->protocol != IPPROTO_TCP) {
		count(COUNT_PASSED_MPTCP);
		return 0;
	}
	if (ctx->sk->bound_dev_if) {
		count(COUNT_PASSED_BOUND_DEVICE);
		return 0;
	}
	__u16 port = bpf_ntohs(ctx->user_port);
	if (in_ranges(pod->skip_outbound, port)) {
		count(COUNT_PASSED_SKIPPED_PORT);
		return 0;
	}

	info = bpf_sk_storage_get(&sockets, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!info) {
		count(COUNT_STORAGE_FAILED);
		return 0;
	}

	enum liveness live = outbound_liveness(cookie, v4 ? LISTENER_OUTBOUND4 : LISTENER_OUTBOUND6);
	if (live != ALIVE) {
		if (!pod->fail_closed) {
			count(live == STALE ? COUNT_PASSED_STALE_AGENT : COUNT_PASSED_NO_LISTENER);
			return 0;
		}
		count(live == STALE ? COUNT_REFUSED_STALE_AGENT : COUNT_REFUSED_NO_LISTENER);
		report_refused(dst, port, cookie);
		*verdict = REFUSE;
		return 0;
	}
	/* Read the port again after the listener. The agent writes the port before it
	 * publishes the listener, and the port above may be older than both. */
	pod = bpf_map_lookup_elem(&pods, &cookie);
	way->port = !pod ? 0 : v4 ? pod->outbound_port4 : pod->outbound_port6;
	if (!way->port)
		return 0;

	info->netns_cookie = cookie;
	info->remote = *dst;
	info->local = v4 ? pod->addr4 : pod->addr6;
	info->remote_port = port;
	info->server = 0;
	struct path *path = take_path(ctx->sk, cookie, dst, port);
	if (path) {
		way->endpoint = path->addr;
		way->port = path->port;
		way->how = info->captured = KERNEL_PATH;
		return 1;
	}
	way->how = info->captured = pod->steered && ctx->sk->src_port ? CAPTURED_VIA : CAPTURED;
	count(COUNT_CAPTURED_OUTBOUND);
	return 1;
}

/* The IPv4 address to connect to, in network order. */
static __always_inline __u32 way_addr4(const struct way *way, const struct address *dst, __u16 port)
{
	switch (way->how) {
	case KERNEL_PATH:
		return addr_word(&way->endpoint, 3);
	case CAPTURED_VIA:
		return via_addr4(dst, port);
	default:
		return bpf_htonl(0x7f000001);
	}
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	struct address dst;
	enum verdict verdict;
	struct way way = {};
	set_addr4(&dst, ctx->user_ip4);
	__u16 dst_port = bpf_ntohs(ctx->user_port);
	if (capture(ctx, &dst, &verdict, &way)) {
		ctx->user_ip4 = way_addr4(&way, &dst, dst_port);
		ctx->user_port = bpf_htons(way.port);
	}
	return verdict;
}

/* For a v4-mapped destination the kernel calls only this hook. The rewritten
 * destination is v4-mapped too. */
SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	struct address dst;
	enum verdict verdict;
	struct way way = {};
	set_addr6(&dst, ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]);
	__u16 dst_port = bpf_ntohs(ctx->user_port);
	if (!capture(ctx, &dst, &verdict, &way))
		return verdict;
	struct address to = {};
	if (way.how == KERNEL_PATH) {
		to = way.endpoint;
	} else if (is_v4(&dst)) {
		set_addr4(&to, way_addr4(&way, &dst, dst_port));
	} else {
		to.bytes[15] = 1;
		if (way.how == CAPTURED_VIA)
			way.port = via_port6(&dst, dst_port, way.port, ctx->sk);
	}
	ctx->user_ip6[0] = addr_word(&to, 0);
	ctx->user_ip6[1] = addr_word(&to, 1);
	ctx->user_ip6[2] = addr_word(&to, 2);
	ctx->user_ip6[3] = addr_word(&to, 3);
	ctx->user_port = bpf_htons(way.port);
	return verdict;
}
