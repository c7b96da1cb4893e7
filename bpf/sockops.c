//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* This program follows the connections of pods. It writes the original destination of
 * a captured connection into a map before the SYN leaves, gives an accepted connection
 * the address of its client, and reports connections that no proxy carries. */

#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_FIN_WAIT2 5
#define TCP_TIME_WAIT 6
#define TCP_CLOSE 7
#define TCP_CLOSE_WAIT 8
#define TCP_LAST_ACK 9
#define ECONNRESET 104
#define SOCK_DONE 1 /* bit of skc_flags: the peer's FIN was received */
#define SOL_SOCKET 1
#define SO_SNDBUF 7
#define SOCK_SNDBUF_LOCK 1	  /* bit of sk_userlocks: the program has set SO_SNDBUF */
#define SMALL_SEGMENT 7500	  /* pkg/redirect/segment.go */
#define CROWDED_SNDBUF (64 << 10) /* the kernel doubles it */

static __always_inline int agents_own(struct bpf_sock *sk)
{
	struct agent_state *st = agent_state();
	return st && st->mark && sk->mark == st->mark;
}

static __always_inline void on_connect(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	__u64 cookie = bpf_get_netns_cookie(ctx);
	struct socket_info *info = bpf_sk_storage_get(&sockets, sk, 0, 0);
	/* A captured connection goes to the agent also if the pod has left the mesh
	 * meanwhile. */
	if (!info || !info->captured) {
		file_host_flow(ctx, cookie);
		if (!bpf_map_lookup_elem(&pods, &cookie))
			return;
		file_inner_flow(ctx, sk, cookie);
		if (agents_own(sk))
			return;
		info = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
		if (!info) {
			count(COUNT_STORAGE_FAILED);
			return;
		}
	}
	info->netns_cookie = cookie;
	info->opened_ns = bpf_ktime_get_ns();
	set_process(info->process, &info->pid);
	if (!info->captured) {
		remote_addr(ctx, &info->remote);
		info->remote_port = remote_port(ctx);
		if (!is_loopback(&info->remote))
			bpf_sock_ops_cb_flags_set(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
		return;
	}
	if (info->captured == KERNEL_PATH) {
		file_local_flow(ctx, sk);
		bpf_sock_ops_cb_flags_set(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
		return;
	}
	struct client_key key = { .netns_cookie = cookie, .port = ctx->local_port };
	struct original_dst dst = { .addr = info->remote, .port = info->remote_port, .pid = info->pid };
	local_addr(ctx, &key.addr);
	if (info->captured == CAPTURED_VIA) {
		struct address name;
		remote_addr(ctx, &name);
		set_via(&key, &name, remote_port(ctx));
	}
	__builtin_memcpy(dst.process, info->process, sizeof(dst.process));
	if (bpf_map_update_elem(&original_dsts, &key, &dst, BPF_ANY))
		count(COUNT_ORIGINAL_DST_FAILED);
}

/* Connections are accepted outside of any process, so they get the process name of the
 * listener. It is recorded in every namespace, because a pod may be enrolled later. */
static __always_inline void on_listen(struct bpf_sock *sk)
{
	if (agents_own(sk))
		return;
	struct socket_info *info = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (info)
		set_process(info->process, &info->pid);
	else
		count(COUNT_STORAGE_FAILED);
}

static __always_inline void on_established(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct socket_info *info = bpf_sk_storage_get(&sockets, sk, 0, 0);
	if (!info || !info->netns_cookie || is_loopback(&info->remote))
		return;
	if (info->captured && info->captured != KERNEL_PATH)
		return;
	struct event *e = event_begin(EVENT_CONNECT, info->netns_cookie);
	if (!e)
		return;
	fill(e, ctx, info);
	event_end(e);
}

/* The agent asks for small segments where the pod has many connections (pkg/redirect/segment.go).
 * There a program's socket takes a few of them, and not what the kernel finds best for bulk. */
static __always_inline void bound_sndbuf(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	if (ctx->mss_cache > SMALL_SEGMENT)
		return;
	struct sock *kernel_sk = (void *)bpf_skc_to_tcp_sock(sk);
	if (!kernel_sk || BPF_CORE_READ_BITFIELD_PROBED(kernel_sk, sk_userlocks) & SOCK_SNDBUF_LOCK)
		return;
	int size = CROWDED_SNDBUF;
	bpf_setsockopt(ctx, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

/* If this is the agent's connection to an application, the application will see the
 * client that the connection stands for. The pod may have left the mesh meanwhile: its
 * open connections are served to their end. */
static __always_inline void adopt_client(struct bpf_sock_ops *ctx, struct bpf_sock *sk, __u64 cookie,
					const struct address *local)
{
	struct peer_key key = {
		.netns_cookie = cookie,
		.agent_port = remote_port(ctx),
		.app_port = ctx->local_port,
		.family = is_v4(local) ? AF_INET : AF_INET6,
	};
	struct peer_name *peer = bpf_map_lookup_elem(&peer_names, &key);
	if (!peer)
		return; /* the pod connects to itself */
	struct socket_info *info = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!info) {
		count(COUNT_STORAGE_FAILED);
		return;
	}
	info->netns_cookie = cookie;
	info->remote = peer->addr;
	info->remote_port = peer->port;
	info->server = SERVER;
	info->captured = CAPTURED;
	bpf_map_delete_elem(&peer_names, &key);
	bound_sndbuf(ctx, sk);
}

static __always_inline void on_accept(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	if (agents_own(sk))
		return;
	__u64 cookie = bpf_get_netns_cookie(ctx);
	struct address local, remote;
	local_addr(ctx, &local);
	remote_addr(ctx, &remote);
	if (is_loopback(&local))
		return;
	if (same_addr(&local, &remote)) {
		adopt_client(ctx, sk, cookie, &local);
		return;
	}
	if (!bpf_map_lookup_elem(&pods, &cookie))
		return;
	struct socket_info *info = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!info) {
		count(COUNT_STORAGE_FAILED);
		return;
	}
	info->netns_cookie = cookie;
	info->opened_ns = bpf_ktime_get_ns();
	info->server = SERVER;
	if (is_host_flow(&remote, remote_port(ctx), &local, ctx->local_port))
		info->server = SERVER_OF_HOST;
	else if (is_local_flow(cookie, &remote, remote_port(ctx), &local, ctx->local_port))
		info->server = SERVER_OF_PATH;
	info->captured = NOT_CAPTURED;
	info->remote = remote;
	info->remote_port = remote_port(ctx);
	bpf_sock_ops_cb_flags_set(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
	struct event *e = event_begin(EVENT_ACCEPT, cookie);
	if (!e)
		return;
	fill(e, ctx, info);
	event_end(e);
}

static __always_inline void on_close(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	delete_host_flow(ctx);
	struct socket_info *info = bpf_sk_storage_get(&sockets, sk, 0, 0);
	if (!info)
		return;
	if (info->captured == KERNEL_PATH)
		delete_local_flow(ctx, sk);
	struct event *e = event_begin(ctx->args[0] == TCP_SYN_SENT ? EVENT_FAILED : EVENT_CLOSE, info->netns_cookie);
	if (!e)
		return;
	fill(e, ctx, info);
	/* bytes_acked includes our SYN and our FIN once they are acknowledged.
	 * bytes_received includes the peer's FIN. */
	__u32 state = ctx->args[0];
	__u64 ours = 1 + (state == TCP_FIN_WAIT2 || state == TCP_TIME_WAIT || state == TCP_LAST_ACK);
	__u64 theirs = 0;
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	if (tp) {
		struct sock *kernel_sk = (void *)tp;
		__u32 min_rtt = BPF_CORE_READ(tp, rtt_min.s[0].v);
		e->min_rtt_us = min_rtt == ~0U ? 0 : min_rtt; /* before the first sample */
		e->error = BPF_CORE_READ(kernel_sk, sk_err);
		/* This side has reset it: it closed with bytes unread, or with SO_LINGER 0. */
		if (!e->error && (state == TCP_ESTABLISHED || state == TCP_CLOSE_WAIT))
			e->error = ECONNRESET;
		theirs = (BPF_CORE_READ(kernel_sk, __sk_common.skc_flags) >> SOCK_DONE) & 1;
	}
	__u64 acked = ctx->bytes_acked, received = ctx->bytes_received;
	e->bytes_sent = acked > ours ? acked - ours : 0;
	e->bytes_received = received > theirs ? received - theirs : 0;
	event_end(e);
}

SEC("sockops")
int sock_ops(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	if (!sk)
		return 1;
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		on_connect(ctx, sk);
		break;
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		on_listen(sk);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		on_established(ctx, sk);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		on_accept(ctx, sk);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (ctx->args[1] == TCP_CLOSE)
			on_close(ctx, sk);
		break;
	}
	return 1;
}
