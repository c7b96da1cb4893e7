//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What pods that are observed send and receive over TCP, for an agent that reads requests
 * and responses from it. Nothing is redirected, changed or held up: every packet passes.
 *
 * This is an object of its own. It is loaded and attached while some pod is observed, and
 * a kernel that refuses it has all of the rest.
 *
 * A flow is kept with the socket of each connection, from its start (sockops) or, if the
 * agent asks for that, from a packet of it. Each packet of the cgroup then costs one look at
 * its socket. include/observe.h has the structs, include/segment.h reads a packet, and
 * include/frames.h finds what of HTTP/2 is copied. */

#include "include/observe.h"
#include "include/addresses.h"
#include "include/events.h"
#include "include/process.h"
#include "include/segment.h"
#include "include/frames.h"

#include <bpf/bpf_core_read.h>

/* Connections that are already open are joined: set by the agent. */
volatile __u8 joining;

static __always_inline void begin_flow(struct bpf_sock_ops *ctx, __u8 server)
{
	struct bpf_sock *sk = ctx->sk;
	if (!sk)
		return;
	__u64 cookie = bpf_get_netns_cookie(ctx);
	struct observed_pod *pod = bpf_map_lookup_elem(&observed_pods, &cookie);
	if (!pod)
		return;
	struct address local;
	local_addr(ctx, &local);
	if (is_loopback(&local))
		return;
	struct socket_info *info = bpf_sk_storage_get(&sockets, sk, 0, 0);
	__u8 path = info && info->captured == KERNEL_PATH;
	if (pod->paths_only && !path)
		return;
	struct observed_flow *f = bpf_sk_storage_get(&observed_flows, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!f) {
		tally(OBSERVE_FLOW_FAILED);
		return;
	}
	f->netns_cookie = cookie;
	f->id = bpf_get_socket_cookie(ctx);
	f->local = local;
	remote_addr(ctx, &f->remote);
	f->local_port = ctx->local_port;
	f->remote_port = remote_port(ctx);
	f->name = f->remote;
	f->name_port = f->remote_port;
	if (path && info) {
		f->name = info->remote;
		f->name_port = info->remote_port;
		f->path = 1;
	}
	f->server = server;
	f->first[0] = f->next[0] = ctx->rcv_nxt;
	f->first[1] = f->next[1] = ctx->snd_nxt;
}

/* Keeps with a socket what the mesh keeps with those of enrolled pods that no proxy carries.
 * sockops.c then reports that the connection was made, has failed or has ended. Returns 0 if
 * the pod is in the mesh, or is not observed. */
static __always_inline struct socket_info *follow(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	__u64 cookie = bpf_get_netns_cookie(ctx);
	struct observed_pod *pod = bpf_map_lookup_elem(&observed_pods, &cookie);
	if (!pod || pod->paths_only)
		return 0;
	struct address local, remote;
	local_addr(ctx, &local);
	remote_addr(ctx, &remote);
	if (is_loopback(&remote) || same_addr(&local, &remote))
		return 0;
	struct socket_info *info = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!info) {
		count(COUNT_STORAGE_FAILED);
		return 0;
	}
	if (info->captured)
		return 0;
	info->netns_cookie = cookie;
	info->opened_ns = bpf_ktime_get_ns();
	info->remote = remote;
	info->remote_port = remote_port(ctx);
	bpf_sock_ops_cb_flags_set(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
	return info;
}

SEC("sockops")
int observe_opened(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct socket_info *info;
	struct event *e;
	if (!sk)
		return 1;
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		info = follow(ctx, sk);
		if (info)
			set_process(info->process, &info->pid);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		begin_flow(ctx, 0);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		begin_flow(ctx, 1);
		info = follow(ctx, sk); /* it has the process of the listener */
		if (!info)
			break;
		info->server = SERVER;
		e = event_begin(EVENT_ACCEPT, info->netns_cookie);
		if (e) {
			fill(e, ctx, info);
			event_end(e);
		}
		break;
	}
	return 1;
}

/* Joins a connection that was opened before its pod was observed. The pod is known by the
 * socket's network namespace, as always. */
static __always_inline struct observed_flow *join_flow(struct __sk_buff *skb, struct bpf_sock *sk, const struct segment *s,
						       __u8 sent)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	struct sock *kernel_sk = (void *)tp;
	__u64 cookie = BPF_CORE_READ(kernel_sk, __sk_common.skc_net.net, net_cookie);
	struct observed_pod *pod = bpf_map_lookup_elem(&observed_pods, &cookie);
	if (!pod || pod->paths_only)
		return 0;
	struct address local, remote;
	if (sk->family == AF_INET) {
		set_addr4(&local, sk->src_ip4);
		set_addr4(&remote, sk->dst_ip4);
	} else {
		SET_CTX_ADDR6(&local, sk, struct bpf_sock, src_ip6);
		SET_CTX_ADDR6(&remote, sk, struct bpf_sock, dst_ip6);
	}
	if (is_loopback(&local))
		return 0;
	struct observed_flow *f = bpf_sk_storage_get(&observed_flows, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!f) {
		tally(OBSERVE_FLOW_FAILED);
		return 0;
	}
	f->netns_cookie = cookie;
	f->id = bpf_get_socket_cookie(skb);
	f->local = f->name = local;
	f->remote = f->name = remote;
	f->local_port = sk->src_port;
	f->remote_port = f->name_port = bpf_ntohs((__be16)sk->dst_port);
	/* Ephemeral ports are high. The agent corrects it by what it reads. */
	f->server = f->local_port < f->remote_port;
	f->joined = 1;
	f->first[sent] = f->next[sent] = s->seq;
	f->first[!sent] = f->next[!sent] = s->ack;
	tally(OBSERVE_JOINED);
	return f;
}

/* Says whose flow it is, before its first segment, and again after a pause in which the
 * agent may have forgotten it. */
static __always_inline int announce(struct observed_flow *f, __u64 now)
{
	struct observed_opening *o = bpf_ringbuf_reserve(&observations, sizeof(*o), 0);
	if (!o)
		return 0;
	o->time_ns = now;
	o->flow = f->id;
	o->kind = OBSERVE_OPENING;
	o->server = f->server;
	o->joined = f->joined || f->last_ns;
	o->path = f->path;
	o->netns_cookie = f->netns_cookie;
	o->local = f->local;
	o->remote = f->remote;
	o->name = f->name;
	o->local_port = f->local_port;
	o->remote_port = f->remote_port;
	o->name_port = f->name_port;
	o->pad = 0;
	o->first[0] = f->first[0];
	o->first[1] = f->first[1];
	bpf_ringbuf_submit(o, BPF_RB_NO_WAKEUP);
	return 1;
}

/* Runs for each packet that a socket below the cgroup root sends or receives. It always
 * lets the packet pass. */
static __always_inline int observe(struct __sk_buff *skb, __u8 sent)
{
	struct bpf_sock *sk = skb->sk;
	if (!sk)
		return PASS;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return PASS;
	struct observed_flow *f = bpf_sk_storage_get(&observed_flows, sk, 0, 0);
	if (!f && !(joining && sk->protocol == IPPROTO_TCP))
		return PASS;
	if (f && f->off)
		return PASS;
	struct segment s = {};
	if (!read_segment(skb, &s)) {
		if (f)
			tally(OBSERVE_READ_FAILED);
		return PASS;
	}
	if (!s.length && !s.flags)
		return PASS;
	if (!f) {
		if (!s.length)
			return PASS;
		f = join_flow(skb, sk, &s, sent);
		if (!f)
			return PASS;
	}
	__u64 now = bpf_ktime_get_ns();
	if (now < f->shed_until_ns) {
		tally(OBSERVE_SHED);
		return PASS;
	}
	struct observe_wish *wish = bpf_map_lookup_elem(&observe_wishes, &f->id);
	struct observed_pod *pod = bpf_map_lookup_elem(&observed_pods, &f->netns_cookie);
	if (!pod || (wish && wish->off)) {
		f->off = 1; /* its pod is not observed any more, or the agent does not need it */
		return PASS;
	}
	if ((!f->last_ns || now - f->last_ns > OBSERVE_PAUSE_NS) && !announce(f, now)) {
		f->shed_until_ns = now + OBSERVE_SHED_NS;
		tally(OBSERVE_LOST);
		return PASS;
	}
	f->last_ns = now;
	if (!f->http2 && is_preface(skb, f, &s, sent)) {
		f->http2 = 1;
		f->frame[sent] = s.seq + PREFACE;
		f->frame[!sent] = f->next[!sent];
	}
	if (!f->http2 && wish && (wish->framed[0] || wish->framed[1])) {
		f->http2 = 1; /* the agent has found out; begin_frames takes up where frames begin */
		f->frame[0] = f->next[0] - 1;
		f->frame[1] = f->next[1] - 1;
	}
	struct walk w = {
		.now = now, .flow = f->id, .netns_cookie = f->netns_cookie,
		.at = s.at, .seq = s.seq, .length = s.length, .flags = s.flags, .sent = sent,
	};
	int needed;
	if (f->http2) {
		needed = begin_frames(f, wish, sent, &w);
	} else {
		if ((__s32)(s.seq + s.length - f->next[sent]) > 0)
			f->next[sent] = s.seq + s.length;
		needed = begin_text(skb, wish, sent, &w);
	}
	if (!needed) {
		tally(OBSERVE_SKIPPED);
		return PASS;
	}
#pragma clang loop unroll(disable)
	for (int i = 0; i < MAX_STEPS; i++) {
		if (!observe_step(skb, &w))
			break;
	}
	if (w.flags && !w.told && !w.shed_until_ns) {
		w.start = w.stop = w.through = w.length;
		observe_report(skb, &w);
	}
	if (f->http2)
		end_frames(f, &w, sent);
	if (w.shed_until_ns)
		f->shed_until_ns = w.shed_until_ns;
	return PASS;
}

SEC("cgroup_skb/ingress")
int observe_received(struct __sk_buff *skb)
{
	return observe(skb, 0);
}

SEC("cgroup_skb/egress")
int observe_sent(struct __sk_buff *skb)
{
	return observe(skb, 1);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* These put types into BTF that only the agent uses. */
const enum observe_counter unused_observe_counter __attribute__((unused));
const enum observe_kind unused_observe_kind __attribute__((unused));
const struct observation unused_observation __attribute__((unused));
const struct observed_opening unused_observed_opening __attribute__((unused));
