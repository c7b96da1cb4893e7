//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What pods that are observed send and receive over TCP, for an agent that reads requests
 * and responses from it. Nothing is redirected, changed or held up: every packet passes.
 *
 * This is an object of its own. It is loaded and attached while some pod is observed, and
 * a kernel that refuses it has all of the rest.
 *
 * A connection is known from its start: sockops keeps a flow with its socket. Each packet
 * of the cgroup then costs one look at its socket. Of a segment with payload, the first
 * bytes are copied; the agent says which bytes it does not need (the rest of a body whose
 * length it knows), and whether a flow is none of its protocols. */

#include "include/base.h"
#include "include/addresses.h"

#include <linux/if_ether.h>

#define TCP_FIN 0x01
#define TCP_RST 0x04
#define IP6_HEADER 40

/* Bytes of a segment that are copied: many, if it may begin with the head of a message;
 * few, if it is the middle of a body, where the size of a chunk may stand. */
#define OBSERVE_SMALL 64
#define OBSERVE_MEDIUM 256
#define OBSERVE_LARGE 1024
#define OBSERVE_TAIL 8

/* A pod has a share of the ring: so many records at once, and then one in each period.
 * Concurrent packets may lose an update, so that a few more are admitted. */
#define OBSERVE_PERIOD_NS 10000ULL
#define OBSERVE_BURST 4096

enum observe_counter {
	OBSERVE_RECORD, /* given to the agent */
	OBSERVE_SKIPPED, /* segments that the agent does not need */
	OBSERVE_LIMITED, /* the pod got more than its share of the ring buffer */
	OBSERVE_LOST, /* ring buffer full */
	OBSERVE_FLOW_FAILED, /* no memory for a flow: the connection is not seen */
	OBSERVE_READ_FAILED, /* a packet without the headers of IP and TCP */
	NUM_OBSERVE_COUNTERS,
};

struct observed_pod {
	__u64 next_ns; /* CLOCK_MONOTONIC: when the next record is due at the pod's rate */
};

/* A connection of an observed pod. Index 0 of an array is what the pod receives, 1 what
 * it sends. */
struct observed_flow {
	__u64 netns_cookie;
	__u64 id; /* socket cookie */
	struct address local, remote;
	__u16 local_port, remote_port;
	__u8 server; /* accepted, not connected */
	__u8 off; /* nobody wants to see more of it */
	__u16 pad;
	__u32 first[2]; /* sequence number of the first byte */
};

/* What the agent wants of a flow. */
struct observe_wish {
	__u32 skip_to[2]; /* sequence number; segments that end at it or before are not needed */
	__u8 skip[2]; /* skip_to is set */
	__u8 off; /* nothing more */
	__u8 pad;
};

/* A segment. The bytes follow. */
struct observation {
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u64 netns_cookie;
	__u64 flow; /* observed_flow.id */
	struct address local, remote;
	__u16 local_port, remote_port;
	__u32 first; /* sequence number of the direction's first byte */
	__u32 seq; /* of the payload's first byte */
	__u32 length; /* of the payload */
	__u32 skipped; /* bytes of the payload before those that are copied */
	__u32 copied; /* bytes */
	__u8 sent; /* by the pod, not received */
	__u8 server; /* the pod has accepted the connection */
	__u8 flags; /* TCP_FIN, TCP_RST */
	__u8 tail_length;
	__u8 tail[OBSERVE_TAIL]; /* the payload's last bytes */
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64); /* netns cookie */
	__type(value, struct observed_pod);
} observed_pods SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct observed_flow);
} observed_flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* observed_flow.id */
	__type(value, struct observe_wish);
} observe_wishes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 * 1024 * 1024);
} observations SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NUM_OBSERVE_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} observe_counters SEC(".maps");

static __always_inline void tally(__u32 what)
{
	__u64 *n = bpf_map_lookup_elem(&observe_counters, &what);
	if (n)
		(*n)++;
}

static __always_inline void begin_flow(struct bpf_sock_ops *ctx, __u8 server)
{
	struct bpf_sock *sk = ctx->sk;
	if (!sk)
		return;
	__u64 cookie = bpf_get_netns_cookie(ctx);
	if (!bpf_map_lookup_elem(&observed_pods, &cookie))
		return;
	struct address local;
	local_addr(ctx, &local);
	if (is_loopback(&local))
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
	f->server = server;
	f->first[0] = ctx->rcv_nxt;
	f->first[1] = ctx->snd_nxt;
}

SEC("sockops")
int observe_opened(struct bpf_sock_ops *ctx)
{
	if (ctx->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
		begin_flow(ctx, 0);
	else if (ctx->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		begin_flow(ctx, 1);
	return 1;
}

struct segment {
	__u32 at; /* of the payload in the packet */
	__u32 seq, length;
	__u32 skipped; /* bytes of the payload that the agent does not need */
	__u8 flags;
};

static __always_inline int read_segment(struct __sk_buff *skb, struct segment *s)
{
	__u8 ip[IP6_HEADER], tcp[20];
	if (bpf_skb_load_bytes(skb, 0, ip, 20))
		return 0;
	__u32 at = IP6_HEADER;
	if (ip[0] >> 4 == 4)
		at = (ip[0] & 0xf) * 4;
	if (bpf_skb_load_bytes(skb, at, tcp, sizeof(tcp)))
		return 0;
	__be32 seq;
	__builtin_memcpy(&seq, tcp + 4, 4);
	s->seq = bpf_ntohl(seq);
	s->flags = tcp[13] & (TCP_FIN | TCP_RST);
	s->at = at + (tcp[12] >> 4) * 4;
	s->length = skb->len > s->at ? skb->len - s->at : 0;
	return 1;
}

/* Takes one record from the pod's share. */
static __always_inline int admit(struct observed_pod *pod, __u64 now)
{
	__u64 next = pod->next_ns > now ? pod->next_ns : now;
	if (next - now > (OBSERVE_BURST - 1) * OBSERVE_PERIOD_NS)
		return 0;
	pod->next_ns = next + OBSERVE_PERIOD_NS;
	return 1;
}

/* Copies up to room bytes. room is a constant. */
static __always_inline void report(struct __sk_buff *skb, const struct observed_flow *f, const struct segment *s,
				   __u32 length, __u32 room, __u8 sent, __u64 now)
{
	struct observation *o = bpf_ringbuf_reserve(&observations, sizeof(*o) + room, 0);
	if (!o) {
		tally(OBSERVE_LOST);
		return;
	}
	o->time_ns = now;
	o->netns_cookie = f->netns_cookie;
	o->flow = f->id;
	o->local = f->local;
	o->remote = f->remote;
	o->local_port = f->local_port;
	o->remote_port = f->remote_port;
	o->first = f->first[sent];
	o->seq = s->seq;
	o->length = s->length;
	o->skipped = s->skipped;
	o->sent = sent;
	o->server = f->server;
	o->flags = s->flags;
	o->pad = 0;
	o->tail_length = 0;
	o->copied = copy_packet(skb, s->at + s->skipped, o + 1, length, room);
	if (s->length >= OBSERVE_TAIL && !bpf_skb_load_bytes(skb, s->at + s->length - OBSERVE_TAIL, o->tail, OBSERVE_TAIL))
		o->tail_length = OBSERVE_TAIL;
	tally(OBSERVE_RECORD);
	bpf_ringbuf_submit(o, BPF_RB_NO_WAKEUP);
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
	if (!f || f->off)
		return PASS;
	struct segment s = {};
	if (!read_segment(skb, &s)) {
		tally(OBSERVE_READ_FAILED);
		return PASS;
	}
	if (!s.length && !s.flags)
		return PASS;
	struct observe_wish *wish = bpf_map_lookup_elem(&observe_wishes, &f->id);
	if (wish) {
		if (wish->off) {
			f->off = 1;
			return PASS;
		}
		__s32 unneeded = (__s32)(wish->skip_to[sent] - s.seq);
		if (wish->skip[sent] && unneeded > 0) {
			if ((__u32)unneeded >= s.length && !s.flags) {
				tally(OBSERVE_SKIPPED);
				return PASS;
			}
			s.skipped = (__u32)unneeded < s.length ? (__u32)unneeded : s.length;
		}
	}
	struct observed_pod *pod = bpf_map_lookup_elem(&observed_pods, &f->netns_cookie);
	if (!pod) {
		f->off = 1; /* it is not observed any more */
		return PASS;
	}
	__u64 now = bpf_ktime_get_ns();
	if (!admit(pod, now)) {
		tally(OBSERVE_LIMITED);
		return PASS;
	}
	__u32 length = s.length - s.skipped;
	if (length > OBSERVE_LARGE) {
		/* A method and HTTP/1.1 begin with a capital letter. */
		__u8 begins = 0;
		bpf_skb_load_bytes(skb, s.at + s.skipped, &begins, 1);
		length = begins >= 'A' && begins <= 'Z' ? OBSERVE_LARGE : OBSERVE_SMALL;
	}
	if (length <= OBSERVE_SMALL)
		report(skb, f, &s, length, OBSERVE_SMALL, sent, now);
	else if (length <= OBSERVE_MEDIUM)
		report(skb, f, &s, length, OBSERVE_MEDIUM, sent, now);
	else
		report(skb, f, &s, length, OBSERVE_LARGE, sent, now);
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
const struct observation unused_observation __attribute__((unused));
