//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Packets of the kernel path go from the host's end of one pod's veth into the other pod,
 * past the host's bridge, routes and netfilter, and past the second trip through a backlog
 * queue. This program runs at tcx ingress of the host's ends, for what their pods send.
 *
 * It touches only connections that sockops.c has filed, and of these only packets that come
 * out of the veth of the pod whose address they have: a pod that sends with the address of
 * another pod gets nothing from it. Nor does it decide who may connect: in the other pod,
 * sk_lookup.c judges the SYN as it judges any other.
 *
 * A connection of which one pod is not in the map veths any more, or was not for a while, or
 * whose agent does not live, leaves for good, in both directions at once, and its packets take
 * the host's way. Connection tracking of the host that had missed some packets in between
 * would take the next ones for invalid.
 *
 * This is an object of its own: a kernel that refuses it has all of the rest. */

#include "include/agent.h"
#include "include/paths.h"
#include "include/veths.h"

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>

#define TCX_NEXT -1
#define IP_FRAGMENT 0x3fff /* IP_MF and IP_OFFSET */

/* Reads the ends of a TCP packet; 0 if it is none, or has extension headers or fragments. */
static __always_inline int read_ends(struct __sk_buff *skb, struct address *from, __u16 *from_port, struct address *to,
				     __u16 *to_port)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct tcphdr *tcp;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = data + sizeof(struct ethhdr);
		if ((void *)(ip + 1) > end || ip->protocol != IPPROTO_TCP || ip->ihl != 5 ||
		    (ip->frag_off & bpf_htons(IP_FRAGMENT)))
			return 0;
		set_addr4(from, ip->saddr);
		set_addr4(to, ip->daddr);
		tcp = (void *)(ip + 1);
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = data + sizeof(struct ethhdr);
		if ((void *)(ip + 1) > end || ip->nexthdr != IPPROTO_TCP)
			return 0;
		__builtin_memcpy(from, &ip->saddr, sizeof(*from));
		__builtin_memcpy(to, &ip->daddr, sizeof(*to));
		tcp = (void *)(ip + 1);
	} else {
		return 0;
	}
	if ((void *)(tcp + 1) > end)
		return 0;
	*from_port = bpf_ntohs(tcp->source);
	*to_port = bpf_ntohs(tcp->dest);
	return 1;
}

/* Returns whether a pod is redirected, and has been since the connection was filed. */
static __always_inline int is_since(const struct veth *veth, const struct redirected *r)
{
	return veth && veth->since_ns <= r->filed_ns;
}

SEC("tcx/ingress")
int underlane_peer(struct __sk_buff *skb)
{
	struct address from, to;
	__u16 from_port, to_port;
	if (!read_ends(skb, &from, &from_port, &to, &to_port))
		return TCX_NEXT;
	int low = is_low(&from, from_port, &to, to_port);
	struct ends ends = {};
	set_ends(&ends, low, &from, from_port, &to, to_port);
	struct redirected *r = bpf_map_lookup_elem(&redirects, &ends);
	if (!r)
		return TCX_NEXT;
	__u64 own_cookie = low ? r->low_cookie : r->high_cookie, other_cookie = low ? r->high_cookie : r->low_cookie;
	struct veth *own = bpf_map_lookup_elem(&veths, &own_cookie);
	if (own && own->ifindex != skb->ifindex)
		return TCX_NEXT; /* not of that pod */
	struct veth *other = bpf_map_lookup_elem(&veths, &other_cookie);
	if (!is_since(own, r) || !is_since(other, r) || !agent_alive(agent_state())) {
		bpf_map_delete_elem(&redirects, &ends);
		count_path(PATH_REDIRECT_LEFT);
		return TCX_NEXT;
	}
	/* On a bridge the packet is for another host than the one that this veth belongs to. */
	if (skb->pkt_type != PACKET_HOST)
		bpf_skb_change_type(skb, PACKET_HOST);
	return bpf_redirect_peer(other->ifindex, 0);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
