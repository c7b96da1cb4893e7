/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Structs and maps that all programs and the agent share (the Go types are generated
 * from these). The fields are meant to be read in `bpftool map dump pinned`: addresses
 * are byte arrays in network order (IPv4 as ::ffff:a.b.c.d), ports are in host order. */
#pragma once

#include "agent.h"
#include "base.h"
#include "events.h"
#include "sockets.h"

#define MAX_PORT_RANGES 8
#define LOOPBACK_IFINDEX 1
#define DNS_PORT 53
#define DNS_SERVERS 4 /* a power of two; a resolver asks up to three at once (MAXNS of resolv.conf) */

struct port_range {
	__u16 first, last; /* inclusive; first == 0 ends the list */
};

/* An enrolled pod, keyed by its network namespace's cookie. */
struct pod {
	char name[64]; /* namespace/name, cut to fit */
	struct address addr4, addr6;
	__u16 outbound_port4; /* of the agent's listener on 127.0.0.1; 0: none */
	__u16 outbound_port6; /* of the agent's listener on ::1; 0: none */
	__u8 fail_closed; /* refuse connections from the pod while the agent is away */
	__u8 inbound_fail_closed; /* refuse connections to the pod while the agent is away; also set for every strict pod */
	__u8 steered; /* sk_lookup is attached: the listeners have other loopback names too */
	__u8 pad;
	struct port_range skip_outbound[MAX_PORT_RANGES];
	struct port_range skip_inbound[MAX_PORT_RANGES];
};

enum listener_kind {
	LISTENER_OUTBOUND4 = 1,
	LISTENER_OUTBOUND6 = 2,
	LISTENER_INBOUND4 = 3,
	LISTENER_INBOUND6 = 4,
};

struct listener_key {
	__u64 netns_cookie;
	__u32 kind; /* enum listener_kind */
	__u32 pad;
};

/* A client's socket in its namespace. The agent makes the key from the addresses that
 * accept() returns. via_port and via are zero if the connection goes to the listener's
 * own address. */
struct client_key {
	__u64 netns_cookie;
	struct address addr;
	__u16 port;
	__u16 via_port; /* port that was connected to instead of the listener's */
	__u8 via[4]; /* IPv4 address that was connected to; zero for IPv6 */
};

struct original_dst {
	struct address addr;
	__u16 port;
	__u16 pad;
	__u32 pid;
	char process[16];
};

/* A connection of the agent to an application. The value is the client that it stands
 * for. */
struct peer_key {
	__u64 netns_cookie;
	__u16 agent_port;
	__u16 app_port;
	__u32 family; /* AF_INET or AF_INET6 */
};

struct peer_name {
	struct address addr;
	__u16 port;
	__u16 pad;
};

/* A connection that one of the node's own processes makes to a pod of the node, such as
 * a kubelet probe. */
struct flow_key {
	struct address client, server;
	__u16 client_port, server_port;
};

struct host_flow {
	__u64 opened_ns;
	__u32 pid;
	__u32 pad;
	char process[16];
};

/* A connection within the namespace of an enrolled pod, from one of its addresses to
 * another one. */
struct inner_flow_key {
	__u64 netns_cookie;
	struct flow_key flow;
	__u32 pad;
};

/* A UDP socket of an enrolled pod that has asked a DNS server, and which. */
struct dns_socket {
	__u64 netns_cookie;
	struct address servers[DNS_SERVERS]; /* the last ones */
	__u32 next; /* in servers */
	__u32 pad;
};

/* The share of a pod in dns_answers, keyed by its cookie. */
struct dns_rate {
	struct bpf_spin_lock lock;
	__u32 pad;
	__u64 next_ns; /* CLOCK_MONOTONIC: when the next answer is due at the pod's rate */
};

/* Bytes of a DNS message that are copied. */
enum dns_room {
	DNS_SMALL = 512, /* RFC 1035 */
	DNS_LARGE = 1232, /* what resolvers ask for by EDNS since 2020 */
};

/* A DNS answer that a pod got. The message follows in a room of DNS_SMALL bytes, or of
 * DNS_LARGE, after which it is cut. */
struct dns_answer {
	__u32 layout; /* LAYOUT_DNS_ANSWER */
	__u16 length; /* of the message here */
	__u16 pad;
	__u64 netns_cookie;
	struct address server;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64); /* netns cookie */
	__type(value, struct pod);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} pods SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 16384);
	__type(key, struct listener_key);
	__type(value, __u64); /* a socket */
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} listeners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct client_key);
	__type(value, struct original_dst);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} original_dsts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct peer_key);
	__type(value, struct peer_name);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} peer_names SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct flow_key);
	__type(value, struct host_flow);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} host_flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct inner_flow_key);
	__type(value, __u64); /* CLOCK_MONOTONIC when it was opened */
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} inner_flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct dns_socket);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} dns_sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64); /* netns cookie */
	__type(value, struct dns_rate);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} dns_rates SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1024 * 1024);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} dns_answers SEC(".maps");

/* 0.0.0.0 and ::, which mean loopback in connect(). */
static __always_inline int is_unspecified(const struct address *a)
{
	return addr_word(a, 0) == 0 && addr_word(a, 1) == 0 && addr_word(a, 3) == 0 &&
	       (addr_word(a, 2) == 0 || addr_word(a, 2) == bpf_htonl(0xffff));
}

/* fe80::/10. Such an address is valid only together with an interface. */
static __always_inline int is_link_local6(const struct address *a)
{
	return a->bytes[0] == 0xfe && (a->bytes[1] & 0xc0) == 0x80;
}

static __always_inline int in_ranges(const struct port_range *ranges, __u16 port)
{
	for (int i = 0; i < MAX_PORT_RANGES; i++) {
		if (ranges[i].first == 0)
			return 0;
		if (ranges[i].first <= port && port <= ranges[i].last)
			return 1;
	}
	return 0;
}
