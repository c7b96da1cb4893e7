//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The answers of DNS servers to enrolled pods. The agent learns from them by which name
 * a pod knows an address, and shows the name. Only answers count that a socket of the pod
 * receives from a server that this socket has asked: another pod that sends datagrams
 * from port 53 says nothing. The answer is copied before the application gets it, so that
 * the agent has it before the application connects.
 *
 * Only datagrams of port 53 are looked at. The agent reads answers over TCP in its proxy. */

#include <linux/if_ether.h>

#define SOCK_DGRAM 2
#define IPPROTO_UDP 17
#define IP4_HEADER 20
#define IP6_HEADER 40
#define UDP_HEADER 8
#define CONNECTED 1 /* state of a UDP socket (TCP_ESTABLISHED): the kernel compares the sender */

/* A pod has a share of the ring: so many answers at once, and then one in each period.
 * The time of the answer after the last one is kept (GCRA). */
#define DNS_PERIOD_NS 20000000ULL
#define DNS_BURST 64

/* Runs when a UDP socket is connected, or when one that is not sends. */
static __always_inline void dns_asks(struct bpf_sock_addr *ctx, const struct address *server)
{
	if (ctx->user_port != bpf_htons(DNS_PORT) || ctx->type != SOCK_DGRAM || ctx->protocol != IPPROTO_UDP || !ctx->sk)
		return;
	__u64 cookie = bpf_get_netns_cookie(ctx);
	if (!bpf_map_lookup_elem(&pods, &cookie))
		return;
	struct dns_socket *s = bpf_sk_storage_get(&dns_sockets, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!s) {
		count(COUNT_STORAGE_FAILED);
		return;
	}
	s->netns_cookie = cookie;
	for (int i = 0; i < DNS_SERVERS; i++)
		if (same_addr(&s->servers[i], server))
			return;
	s->servers[s->next & (DNS_SERVERS - 1)] = *server;
	s->next++;
}

SEC("cgroup/sendmsg4")
int sendmsg4(struct bpf_sock_addr *ctx)
{
	struct address server;
	set_addr4(&server, ctx->user_ip4);
	dns_asks(ctx, &server);
	return PASS;
}

SEC("cgroup/sendmsg6")
int sendmsg6(struct bpf_sock_addr *ctx)
{
	struct address server;
	set_addr6(&server, ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]);
	dns_asks(ctx, &server);
	return PASS;
}

/* Whether the socket has asked the server, or is connected to it. */
static __always_inline int dns_asked(const struct dns_socket *s, const struct bpf_sock *sk, const struct address *server)
{
	if (sk->state == CONNECTED)
		return 1;
	for (int i = 0; i < DNS_SERVERS; i++)
		if (same_addr(&s->servers[i], server))
			return 1;
	return 0;
}

/* Takes one answer from the pod's share. */
static __always_inline int dns_admit(__u64 cookie)
{
	__u64 now = bpf_ktime_get_ns();
	struct dns_rate *rate = bpf_map_lookup_elem(&dns_rates, &cookie);
	if (!rate) {
		struct dns_rate first = { .next_ns = now };
		bpf_map_update_elem(&dns_rates, &cookie, &first, BPF_NOEXIST);
		rate = bpf_map_lookup_elem(&dns_rates, &cookie);
		if (!rate)
			return 0;
	}
	int admitted = 0;
	bpf_spin_lock(&rate->lock);
	__u64 next = rate->next_ns > now ? rate->next_ns : now;
	if (next - now <= (DNS_BURST - 1) * DNS_PERIOD_NS) {
		rate->next_ns = next + DNS_PERIOD_NS;
		admitted = 1;
	}
	bpf_spin_unlock(&rate->lock);
	return admitted;
}

/* Copies a message of up to room bytes. room is a constant. */
static __always_inline void dns_report(struct __sk_buff *skb, __u32 at, __u32 length, __u32 room, __u64 cookie, const struct address *server)
{
	struct dns_answer *a = bpf_ringbuf_reserve(&dns_answers, sizeof(*a) + room, 0);
	if (!a) {
		count(COUNT_DNS_LOST);
		return;
	}
	length = copy_packet(skb, at, a + 1, length, room);
	if (length == 0) {
		bpf_ringbuf_discard(a, BPF_RB_NO_WAKEUP);
		return;
	}
	a->layout = LAYOUT_DNS_ANSWER;
	a->length = length;
	a->pad = 0;
	a->netns_cookie = cookie;
	a->server = *server;
	count(COUNT_DNS_ANSWER);
	bpf_ringbuf_submit(a, BPF_RB_NO_WAKEUP);
}

/* What is no answer with addresses in it is left out here: a question, a failure. */
static __always_inline int dns_is_answer(struct __sk_buff *skb, __u32 at)
{
	struct {
		__u16 id, flags, questions, answers;
	} head;
	if (bpf_skb_load_bytes(skb, at, &head, sizeof(head)))
		return 0;
	/* QR set, opcode and RCODE zero (RFC 1035, section 4.1.1). */
	return (head.flags & bpf_htons(0xf80f)) == bpf_htons(0x8000) && head.questions == bpf_htons(1) && head.answers;
}

/* Runs for each packet that a socket below the cgroup root receives: what is no datagram
 * of port 53 has to leave soon. It always lets the packet pass. */
SEC("cgroup_skb/ingress")
int dns_received(struct __sk_buff *skb)
{
	__u8 *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u32 at;
	if (data + IP4_HEADER + UDP_HEADER > end)
		return PASS;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (data[9] != IPPROTO_UDP)
			return PASS;
		at = (data[0] & 0xf) * 4;
	} else {
		if (skb->protocol != bpf_htons(ETH_P_IPV6) || data[6] != IPPROTO_UDP)
			return PASS;
		at = IP6_HEADER;
	}
	__u8 *udp = data + at;
	if (udp + UDP_HEADER > end || udp[0] != 0 || udp[1] != DNS_PORT)
		return PASS;

	struct bpf_sock *sk = skb->sk;
	if (!sk)
		return PASS;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return PASS;
	struct dns_socket *s = bpf_sk_storage_get(&dns_sockets, sk, 0, 0);
	if (!s)
		return PASS; /* it has asked nobody, or is not a pod's */
	struct address server;
	if (at == IP6_HEADER) {
		if (data + IP6_HEADER > end)
			return PASS;
		__builtin_memcpy(server.bytes, data + 8, 16);
	} else {
		__u32 ip4;
		__builtin_memcpy(&ip4, data + 12, 4);
		set_addr4(&server, ip4);
	}
	if (!dns_asked(s, sk, &server)) {
		count(COUNT_DNS_UNASKED);
		return PASS;
	}
	at += UDP_HEADER;
	if (skb->len <= at || !dns_is_answer(skb, at))
		return PASS;
	__u64 cookie = s->netns_cookie;
	if (!dns_admit(cookie)) {
		count(COUNT_DNS_LIMITED);
		return PASS;
	}
	__u32 length = skb->len - at;
	if (length <= DNS_SMALL)
		dns_report(skb, at, length, DNS_SMALL, cookie, &server);
	else
		dns_report(skb, at, length, DNS_LARGE, cookie, &server);
	return PASS;
}
