/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Structs and maps of the programs that observe: see observe.c. */
#pragma once

#include "base.h"
#include "sockets.h"

/* Bytes of a segment that are copied into one record. Of HTTP/1 many, if it may begin with
 * the head of a message; few, if it is the middle of a body, where the size of a chunk may
 * stand. */
#define OBSERVE_SMALL 64
#define OBSERVE_MEDIUM 256
#define OBSERVE_LARGE 1024
#define OBSERVE_TAIL 8

/* A pod has a share of the ring: so many records at once, and then one in each period.
 * Concurrent packets may lose an update, so that a few more are admitted. */
#define OBSERVE_PERIOD_NS 10000ULL
#define OBSERVE_BURST 4096

#define OBSERVE_SHED_NS 1000000000ULL /* how long a flow of which something was missed is left alone */
#define OBSERVE_PAUSE_NS (300 * 1000000000ULL) /* the agent forgets a flow after twice this */

enum observe_counter {
	OBSERVE_RECORD, /* given to the agent */
	OBSERVE_SKIPPED, /* segments that the agent does not need */
	OBSERVE_LIMITED, /* the pod got more than its share of the ring buffer */
	OBSERVE_LOST, /* ring buffer full */
	OBSERVE_SHED, /* segments of flows that are left alone after that */
	OBSERVE_JOINED, /* connections that were open before their pods were observed */
	OBSERVE_FLOW_FAILED, /* no memory for a flow: the connection is not seen */
	OBSERVE_READ_FAILED, /* a packet without the headers of IP and TCP */
	NUM_OBSERVE_COUNTERS,
};

struct observed_pod {
	__u64 next_ns; /* CLOCK_MONOTONIC: when the next record is due at the pod's rate */
	__u8 paths_only; /* of its connections only those on the kernel path: see path.c */
	__u8 pad[7];
};

/* A connection of an observed pod. Index 0 of an array is what the pod receives, 1 what
 * it sends. */
struct observed_flow {
	__u64 netns_cookie;
	__u64 id; /* socket cookie */
	__u64 last_ns; /* of the last record; 0: there was none */
	__u64 shed_until_ns;
	struct address local, remote, name; /* name: what the client has connected to */
	__u16 local_port, remote_port, name_port;
	__u8 server; /* accepted, not connected */
	__u8 joined; /* it was open already */
	__u8 path; /* on the kernel path */
	__u8 off; /* nobody wants to see more of it */
	__u8 http2;
	__u8 pad;
	__u32 first[2]; /* sequence number of the first byte */
	__u32 next[2]; /* sequence number after the last byte so far */
	/* HTTP/2: sequence number of the byte that begins the next frame, or goes on with its
	 * header, of which head has some bytes. Before it, skip says whether bytes are not needed. */
	__u32 frame[2];
	__u8 skip[2];
	__u8 have[2];
	__u8 head[2][16];
};

/* What the agent wants of a flow. */
struct observe_wish {
	__u32 skip_to[2]; /* sequence number; segments that end at it or before are not needed */
	__u32 frame[2]; /* sequence number where a frame of HTTP/2 begins; what is before is not needed */
	__u8 skip[2]; /* skip_to is set */
	__u8 framed[2]; /* frame is set */
	__u8 off; /* nothing more */
	__u8 pad[3];
};

enum observe_kind { OBSERVE_SEGMENT = 1, OBSERVE_OPENING = 2 };

#define OBSERVE_UNWALKED 0x80 /* in observation.flags: the kernel does not know where frames begin */

/* A part of a segment. The bytes follow. */
struct observation {
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u64 flow; /* observed_flow.id */
	__u8 kind; /* OBSERVE_SEGMENT */
	__u8 sent; /* by the pod, not received */
	__u8 flags; /* TCP_FIN, TCP_RST, OBSERVE_UNWALKED */
	__u8 tail_length;
	__u32 seq; /* of the first byte */
	__u32 length; /* of the part */
	__u32 skipped; /* bytes of it before those that are copied */
	__u32 copied; /* bytes */
	__u32 pad;
	__u8 tail[OBSERVE_TAIL]; /* the segment's last bytes, if the part is its end */
};

/* Whose flow it is of which segments follow. */
struct observed_opening {
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u64 flow; /* observed_flow.id */
	__u8 kind; /* OBSERVE_OPENING */
	__u8 server; /* the pod has accepted the connection */
	__u8 joined; /* its beginning was not seen */
	__u8 path; /* it is on the kernel path */
	__u16 local_port, remote_port;
	__u64 netns_cookie;
	struct address local, remote, name;
	__u16 name_port;
	__u16 pad;
	__u32 first[2]; /* sequence numbers of the first bytes: received, sent */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
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

/* Takes one record from the pod's share. */
static __always_inline int admit(struct observed_pod *pod, __u64 now)
{
	__u64 next = pod->next_ns > now ? pod->next_ns : now;
	if (next - now > (OBSERVE_BURST - 1) * OBSERVE_PERIOD_NS)
		return 0;
	pod->next_ns = next + OBSERVE_PERIOD_NS;
	return 1;
}
