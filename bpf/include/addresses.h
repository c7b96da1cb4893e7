/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The socket that a sockops program is called for: the addresses of its two ends, and
 * the kernel's struct for fields that the context does not have. */
#pragma once

struct net {
	__u64 net_cookie;
} __attribute__((preserve_access_index));

typedef struct {
	struct net *net;
} __attribute__((preserve_access_index)) possible_net_t;

struct sock_common {
	unsigned long skc_flags;
	possible_net_t skc_net;
} __attribute__((preserve_access_index));

struct dst_entry;

struct sock {
	struct sock_common __sk_common;
	int sk_err;
	__u8 sk_userlocks : 4;
	struct dst_entry *sk_dst_cache;
} __attribute__((preserve_access_index));

struct minmax_sample {
	__u32 v;
} __attribute__((preserve_access_index));

struct minmax {
	struct minmax_sample s[3];
} __attribute__((preserve_access_index));

struct tcp_sock {
	struct minmax rtt_min;
} __attribute__((preserve_access_index));

static __always_inline void local_addr(struct bpf_sock_ops *ctx, struct address *a)
{
	if (ctx->family == AF_INET)
		set_addr4(a, ctx->local_ip4);
	else
		SET_CTX_ADDR6(a, ctx, struct bpf_sock_ops, local_ip6);
}

static __always_inline void remote_addr(struct bpf_sock_ops *ctx, struct address *a)
{
	if (ctx->family == AF_INET)
		set_addr4(a, ctx->remote_ip4);
	else
		SET_CTX_ADDR6(a, ctx, struct bpf_sock_ops, remote_ip6);
}

static __always_inline __u16 remote_port(struct bpf_sock_ops *ctx)
{
	return bpf_ntohl(ctx->remote_port); /* a big-endian word, the port in its low half */
}
