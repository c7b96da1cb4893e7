//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A program may bind sockets to one address and port and connect them to several
 * destinations. If all of these connections were rewritten to the listener's own
 * address, they would have the same address and port at both ends, and connect()
 * would fail with EADDRNOTAVAIL. So a socket that has a port before it connects is
 * rewritten to another loopback name of the listener, which is a hash of the
 * destination: an address in 127.0.0.0/8 for IPv4, a port of ::1 for IPv6, which has
 * only one loopback address. sk_lookup assigns these SYNs to the listener, if they are
 * in the map of captured connections. Two destinations have the same name in one case
 * of eight million, or of 64,000 for IPv6; then only one of them can be reached from a
 * port at a time. */

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

/* Returns an address of 127.128.0.0/9, which few programs use. */
static __always_inline __u32 via_addr4(const struct address *dst, __u16 port)
{
	return bpf_htonl(0x7f800000 | (hash_dst(dst, port) & 0x7fffff));
}

/* Returns a port that is neither the listener's nor the client's. With the client's own
 * port the socket would connect to itself. */
static __always_inline __u16 via_port6(const struct address *dst, __u16 port, __u16 listener, struct bpf_sock *client)
{
	__u16 via = 1024 + hash_dst(dst, port) % 64000;
	if (via == listener || via == client->src_port)
		via++;
	if (via == listener || via == client->src_port)
		via++;
	return via;
}

/* Sets the part of the key that stands for the loopback name of a connection. */
static __always_inline void set_via(struct client_key *key, const struct address *name, __u16 port)
{
	key->via_port = port;
	if (is_v4(name))
		__builtin_memcpy(key->via, &name->bytes[12], 4);
}

/* Runs in the pod's sk_lookup program. Returns whether this is a captured connection to
 * a loopback name of the listener. */
static __always_inline int is_captured_via(__u64 cookie, const struct address *client, __u16 client_port,
					   const struct address *name, __u16 port)
{
	struct client_key key = { .netns_cookie = cookie, .addr = *client, .port = client_port };
	set_via(&key, name, port);
	return bpf_map_lookup_elem(&original_dsts, &key) != 0;
}
