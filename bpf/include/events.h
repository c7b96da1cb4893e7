/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the agent is told of connections that no proxy carries, and counters of failures. */
#pragma once

#include "addresses.h"
#include "base.h"
#include "sockets.h"

/* The first word of each record of a ring buffer, by which the agent knows what it reads: the
 * ring buffer outlives the agent and its programs, and may have records of another version. A
 * number is the checksum of the struct's fields and of the enums in it: TestLayouts says which
 * one is right after a change. */
enum layout {
	LAYOUT_EVENT = 0x35c74f66,
	LAYOUT_DNS_ANSWER = 0x7def67db,
};

enum event_kind {
	EVENT_CONNECT = 1, /* established by connect() */
	EVENT_ACCEPT = 2, /* established by accept() */
	EVENT_CLOSE = 3,
	EVENT_FAILED = 4, /* connect() failed; error says why */
	EVENT_REFUSED = 5, /* refused by a hook: the agent is away and the pod fails closed */
};

struct event {
	__u32 layout; /* LAYOUT_EVENT */
	__u32 pid;
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u64 netns_cookie;
	__u64 duration_ns; /* since connect() or accept() */
	__u64 bytes_sent, bytes_received;
	struct address local, remote;
	__u16 local_port, remote_port;
	__u8 kind; /* enum event_kind */
	__u8 server; /* enum server */
	__u16 error; /* errno of a failed or reset connection */
	__u32 srtt_us;
	__u32 retransmits;
	char process[16];
	__u32 min_rtt_us; /* of the last minutes (net.ipv4.tcp_min_rtt_wlen); zero: not known */
	struct address endpoint; /* of a client's connection on the kernel path; zero: it is none */
	__u16 endpoint_port;
	__u16 pad;
};

/* Counters of the reasons for which a program passes or refuses a connection of an
 * enrolled pod, and of failures. */
enum counter {
	COUNT_CAPTURED_OUTBOUND,
	COUNT_CAPTURED_INBOUND,
	COUNT_PASSED_BOUND_DEVICE, /* SO_BINDTODEVICE cannot reach loopback */
	COUNT_PASSED_MPTCP,
	COUNT_PASSED_LINK_LOCAL, /* the address needs an interface, which the agent does not know */
	COUNT_PASSED_SKIPPED_PORT,
	COUNT_PASSED_NO_LISTENER, /* the agent is away, the pod fails open */
	COUNT_PASSED_STALE_AGENT, /* the agent hangs, the pod fails open */
	COUNT_REFUSED_NO_LISTENER, /* the agent is away; the pod fails closed, or is strict (inbound) */
	COUNT_REFUSED_STALE_AGENT, /* the agent hangs; the pod fails closed, or is strict (inbound) */
	COUNT_EVENT_LOST, /* ring buffer full */
	COUNT_STORAGE_FAILED, /* no memory for socket_info */
	COUNT_ORIGINAL_DST_FAILED, /* map update failed */
	COUNT_ASSIGN_FAILED, /* bpf_sk_assign refused the listener */
	COUNT_PASSED_HOST_PROCESS, /* inbound from one of the node's own processes */
	COUNT_HOST_FLOW_FAILED, /* map update failed */
	COUNT_INNER_FLOW_FAILED, /* map update failed */
	COUNT_DNS_ANSWER, /* given to the agent */
	COUNT_DNS_LIMITED, /* the pod got more answers than its share of the ring buffer */
	COUNT_DNS_LOST, /* ring buffer full */
	COUNT_DNS_UNASKED, /* from an address that the socket has not asked */
	NUM_COUNTERS,
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 * 1024 * 1024);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NUM_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} counters SEC(".maps");

static __always_inline void count(__u32 what)
{
	__u64 *n = bpf_map_lookup_elem(&counters, &what);
	if (n)
		(*n)++;
}

/* Events never wake the reader, because a wake-up costs 100 times as much as an event.
 * The agent polls. */
static __always_inline struct event *event_begin(__u8 kind, __u64 netns_cookie)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		count(COUNT_EVENT_LOST);
		return 0;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->layout = LAYOUT_EVENT;
	e->time_ns = bpf_ktime_get_ns();
	e->netns_cookie = netns_cookie;
	e->kind = kind;
	return e;
}

static __always_inline void event_end(struct event *e)
{
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
}

static __always_inline void fill(struct event *e, struct bpf_sock_ops *ctx, const struct socket_info *info)
{
	local_addr(ctx, &e->local);
	e->local_port = ctx->local_port;
	e->remote = info->remote;
	e->remote_port = info->remote_port;
	e->server = info->server;
	e->duration_ns = e->time_ns - info->opened_ns;
	e->srtt_us = ctx->srtt_us >> 3; /* the kernel keeps it times eight */
	e->retransmits = ctx->total_retrans;
	e->pid = info->pid;
	__builtin_memcpy(e->process, info->process, sizeof(e->process));
	if (info->captured == KERNEL_PATH) {
		remote_addr(ctx, &e->endpoint);
		e->endpoint_port = remote_port(ctx);
	}
}
