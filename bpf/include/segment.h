/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The TCP segment in a packet, which begins with the header of IP. */
#pragma once

#include "base.h"

#define TCP_FIN 0x01
#define TCP_RST 0x04
#define IP6_HEADER 40

struct segment {
	__u32 at; /* of the payload in the packet */
	__u32 seq, ack, length;
	__u32 skipped; /* bytes of the payload that the agent does not need */
	__u8 flags;
};

static __always_inline int read_segment(struct __sk_buff *skb, struct segment *s)
{
	__u8 ip[20], tcp[20];
	if (bpf_skb_load_bytes(skb, 0, ip, sizeof(ip)))
		return 0;
	__u32 at = IP6_HEADER;
	if (ip[0] >> 4 == 4)
		at = (ip[0] & 0xf) * 4;
	if (bpf_skb_load_bytes(skb, at, tcp, sizeof(tcp)))
		return 0;
	__be32 seq, ack;
	__builtin_memcpy(&seq, tcp + 4, 4);
	__builtin_memcpy(&ack, tcp + 8, 4);
	s->seq = bpf_ntohl(seq);
	s->ack = bpf_ntohl(ack);
	s->flags = tcp[13] & (TCP_FIN | TCP_RST);
	s->at = at + (tcp[12] >> 4) * 4;
	s->length = skb->len > s->at ? skb->len - s->at : 0;
	return 1;
}
