/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the programs of every object need: addresses, and how to read a context. There are
 * no maps here. */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1
#define IPPROTO_TCP 6

enum verdict { REFUSE = 0, PASS = 1 }; /* of a cgroup program */

struct address {
	__u8 bytes[16];
};

/* One word of a context's array. The verifier allows only loads of a single word at a
 * constant offset from the context's own pointer. Plain C does not ensure that: the
 * compiler merges loads and moves the pointer. */
#define CTX_WORD(ctx, type, field, i)                                                       \
	({                                                                                  \
		__u32 word_;                                                                \
		asm volatile("%0 = *(u32 *)(%1 + %2)"                                       \
			     : "=r"(word_)                                                  \
			     : "r"(ctx), "i"(__builtin_offsetof(type, field) + 4 * (i)));   \
		word_;                                                                      \
	})

/* Sets a to ::ffff:a.b.c.d. ip4 is in network order. */
static __always_inline void set_addr4(struct address *a, __u32 ip4)
{
	__builtin_memset(a, 0, sizeof(*a));
	a->bytes[10] = 0xff;
	a->bytes[11] = 0xff;
	__builtin_memcpy(&a->bytes[12], &ip4, 4);
}

static __always_inline void set_addr6(struct address *a, __u32 w0, __u32 w1, __u32 w2, __u32 w3)
{
	__u32 words[4] = { w0, w1, w2, w3 };
	__builtin_memcpy(a->bytes, words, 16);
}

#define SET_CTX_ADDR6(a, ctx, type, field)                                                 \
	set_addr6(a, CTX_WORD(ctx, type, field, 0), CTX_WORD(ctx, type, field, 1),          \
		  CTX_WORD(ctx, type, field, 2), CTX_WORD(ctx, type, field, 3))

static __always_inline __u32 addr_word(const struct address *a, int i)
{
	__u32 w;
	__builtin_memcpy(&w, &a->bytes[i * 4], 4);
	return w;
}

static __always_inline int is_v4(const struct address *a)
{
	return addr_word(a, 0) == 0 && addr_word(a, 1) == 0 && addr_word(a, 2) == bpf_htonl(0xffff);
}

static __always_inline int is_loopback(const struct address *a)
{
	if (is_v4(a))
		return a->bytes[12] == 127;
	return addr_word(a, 0) == 0 && addr_word(a, 1) == 0 && addr_word(a, 2) == 0 &&
	       addr_word(a, 3) == bpf_htonl(1);
}

static __always_inline int same_addr(const struct address *a, const struct address *b)
{
	return addr_word(a, 0) == addr_word(b, 0) && addr_word(a, 1) == addr_word(b, 1) &&
	       addr_word(a, 2) == addr_word(b, 2) && addr_word(a, 3) == addr_word(b, 3);
}

/* Copies length bytes of a packet, or room if there are more. room is a constant. Returns
 * how many were copied: none if length is zero.
 *
 * The verifier has to see that the helper's length is neither zero nor more than room.
 * Before Linux 6.8 it learns nothing from a comparison with zero. So length - 1 is compared,
 * which is large for zero, and the compiler must not know that the two belong together. */
static __always_inline __u32 copy_packet(struct __sk_buff *skb, __u32 at, void *to, __u32 length, __u32 room)
{
	__u32 last = (length > room ? room : length) - 1;
	asm volatile("" : "+r"(last));
	if (last >= room)
		return 0;
	__u32 size = last + 1;
	return bpf_skb_load_bytes(skb, at, to, size) ? 0 : size;
}
