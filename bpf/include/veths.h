/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Connections of the kernel path whose packets go from one pod's veth into the other pod:
 * see redirect.c. sockops.c files them. */
#pragma once

/* The host's end of a pod's veth, where redirect.c is attached, keyed by the cookie of the
 * pod's namespace. The agent deletes it before it detaches the program. */
struct veth {
	__u32 ifindex;
	__u32 pad;
	__u64 since_ns; /* CLOCK_MONOTONIC when the entry was made */
};

/* The two ends of a connection. The lower one is first, whichever has connected, so that one
 * entry is for both directions: a host that sees only one of them takes its packets for
 * invalid. */
struct ends {
	struct address low, high;
	__u16 low_port, high_port;
};

/* The pods of a redirected connection, in the order of its ends. */
struct redirected {
	__u64 low_cookie, high_cookie;
	__u64 filed_ns; /* CLOCK_MONOTONIC */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64); /* netns cookie */
	__type(value, struct veth);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} veths SEC(".maps");

/* Entries are not deleted when a connection ends: its last packets are sent after that. One
 * that is evicted goes on by way of the host. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct ends);
	__type(value, struct redirected);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} redirects SEC(".maps");

/* Returns whether the end a, port is the lower one. The order has no meaning. */
static __always_inline int is_low(const struct address *a, __u16 port, const struct address *b, __u16 other)
{
	__u64 x[2], y[2];
	__builtin_memcpy(x, a, sizeof(x));
	__builtin_memcpy(y, b, sizeof(y));
	if (x[1] != y[1])
		return x[1] < y[1];
	if (x[0] != y[0])
		return x[0] < y[0];
	return port < other;
}

static __always_inline void set_ends(struct ends *e, int low, const struct address *a, __u16 port, const struct address *b,
				     __u16 other)
{
	e->low = low ? *a : *b;
	e->high = low ? *b : *a;
	e->low_port = low ? port : other;
	e->high_port = low ? other : port;
}
