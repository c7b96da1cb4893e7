//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A program may bind one address and port and connect it to several destinations.
 * All of these connections are captured, and with one listener's address at the other
 * end the kernel would take them for one connection: EADDRNOTAVAIL. So a socket that
 * has a port before it connects goes to another loopback name of the listener, made
 * of the destination: an address in 127.0.0.0/8 for IPv4, a port of ::1 for IPv6,
 * which has no other loopback address. sk_lookup, which sees these SYNs as well,
 * gives them to the listener: those that are filed as captured, and no others. Two
 * destinations have the same name, and only one of them is reached from a port at a
 * time, in one case of eight million, or of 64,000 for IPv6. */

static __always_inline __u32 hash_dst(const struct address *dst, __u16 port)
{
	__u32 h = 0x811c9dc5 ^ port;
	for (int i = 0; i < 4; i++) {
		h ^= addr_word(dst, i);
		h *= 0x9e3779b1;
		h ^= h >> 16;
	}
	h *= 0x85ebca6b;
	h ^= h >> 13;
	h *= 0xc2b2ae35;
	return h ^ h >> 16;
}

/* An address of 127.128.0.0/9, which programs hardly use. */
static __always_inline __u32 via_addr4(const struct address *dst, __u16 port)
{
	return bpf_htonl(0x7f800000 | (hash_dst(dst, port) & 0x7fffff));
}

/* Neither the listener's own port nor the client's, with which the connection would be
 * one of the socket with itself. */
static __always_inline __u16 via_port6(const struct address *dst, __u16 port, __u16 listener, struct bpf_sock *client)
{
	__u16 via = 1024 + hash_dst(dst, port) % 64000;
	if (via == listener || via == client->src_port)
		via++;
	if (via == listener || via == client->src_port)
		via++;
	return via;
}

/* The key of a captured connection to a loopback name. */
static __always_inline void set_via(struct client_key *key, const struct address *name, __u16 port)
{
	key->via_port = port;
	if (is_v4(name))
		__builtin_memcpy(key->via, &name->bytes[12], 4);
}

/* At the pod: is this a captured connection to another loopback name? */
static __always_inline int is_captured_via(__u64 cookie, const struct address *client, __u16 client_port,
					   const struct address *name, __u16 port)
{
	struct client_key key = { .netns_cookie = cookie, .addr = *client, .port = client_port };
	set_via(&key, name, port);
	return bpf_map_lookup_elem(&original_dsts, &key) != 0;
}
