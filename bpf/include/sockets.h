/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is known of the socket of a pod's connection. */
#pragma once

#include "base.h"

enum captured {
	NOT_CAPTURED,
	CAPTURED, /* rewritten to the listener's own address */
	CAPTURED_VIA, /* rewritten to another loopback name of the listener: see via.c */
	KERNEL_PATH, /* rewritten to the endpoint: see path.c */
};

enum server {
	NOT_SERVER, /* connected */
	SERVER, /* accepted */
	SERVER_OF_HOST, /* accepted, from one of the node's own processes: see host.c */
	SERVER_OF_PATH, /* accepted, by the kernel path: see path.c */
};

/* The data that is kept with a socket. */
struct socket_info {
	__u64 netns_cookie;
	__u64 opened_ns;
	struct address remote; /* the peer that the application sees */
	struct address local; /* of a captured client: the pod's address, not loopback */
	__u16 remote_port;
	__u8 captured; /* enum captured: the hook has rewritten the connection */
	__u8 server; /* enum server: accepted, not connected */
	__u32 pid;
	char process[16];
};

/* BPF_F_CLONE: accepted sockets inherit the data of their listener. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct socket_info);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} sockets SEC(".maps");
