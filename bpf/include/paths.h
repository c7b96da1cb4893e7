/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Counters of the kernel path: see path.c. */
#pragma once

enum path_counter {
	PATH_TAKEN, /* connections that the hook has sent on the kernel path */
	PATH_ADMITTED, /* SYNs of them that sk_lookup has left to the application */
	PATH_FLOW_FAILED, /* no room in local_flows: the SYN goes to the agent, as an outsider's */
	PATH_REDIRECTED, /* connections whose packets go past the host: see redirect.c */
	PATH_REDIRECT_LEFT, /* of these, those that take the host's way again */
	NUM_PATH_COUNTERS,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NUM_PATH_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} path_counters SEC(".maps");

static __always_inline void count_path(__u32 what)
{
	__u64 *n = bpf_map_lookup_elem(&path_counters, &what);
	if (n)
		(*n)++;
}
