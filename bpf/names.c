//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The addresses that an application sees of its own connections. A client sees the
 * destination that it connected to, and the pod's address rather than loopback. A
 * server sees the client's address rather than the agent's. accept() calls the
 * getpeername hook too. */

static __always_inline struct socket_info *captured_socket(struct bpf_sock_addr *ctx)
{
	if (!ctx->sk)
		return 0;
	struct socket_info *info = bpf_sk_storage_get(&sockets, ctx->sk, 0, 0);
	return info && info->captured ? info : 0;
}

SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *ctx)
{
	struct socket_info *info = captured_socket(ctx);
	if (info) {
		ctx->user_ip4 = addr_word(&info->remote, 3);
		ctx->user_port = bpf_htons(info->remote_port);
	}
	return 1;
}

SEC("cgroup/getpeername6")
int getpeername6(struct bpf_sock_addr *ctx)
{
	struct socket_info *info = captured_socket(ctx);
	if (info) {
		ctx->user_ip6[0] = addr_word(&info->remote, 0);
		ctx->user_ip6[1] = addr_word(&info->remote, 1);
		ctx->user_ip6[2] = addr_word(&info->remote, 2);
		ctx->user_ip6[3] = addr_word(&info->remote, 3);
		ctx->user_port = bpf_htons(info->remote_port);
	}
	return 1;
}

SEC("cgroup/getsockname4")
int getsockname4(struct bpf_sock_addr *ctx)
{
	struct socket_info *info = captured_socket(ctx);
	if (!info || info->server || ctx->user_ip4 != bpf_htonl(0x7f000001))
		return 1;
	ctx->user_ip4 = addr_word(&info->local, 3);
	return 1;
}

SEC("cgroup/getsockname6")
int getsockname6(struct bpf_sock_addr *ctx)
{
	struct socket_info *info = captured_socket(ctx);
	struct address local;
	if (!info || info->server)
		return 1;
	set_addr6(&local, ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]);
	if (!is_loopback(&local))
		return 1;
	ctx->user_ip6[0] = addr_word(&info->local, 0);
	ctx->user_ip6[1] = addr_word(&info->local, 1);
	ctx->user_ip6[2] = addr_word(&info->local, 2);
	ctx->user_ip6[3] = addr_word(&info->local, 3);
	return 1;
}
