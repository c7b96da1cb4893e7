/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the agent tells the programs of itself. */
#pragma once

#include "base.h"

struct agent_state {
	__u64 heartbeat_ns; /* CLOCK_MONOTONIC of the agent's last heartbeat */
	__u64 heartbeat_timeout_ns;
	__u64 host_netns_cookie; /* of the namespace of the node's own processes */
	__u64 cgroup_root_id; /* of the cgroup that the programs are attached to */
	__u32 mark; /* SO_MARK of the agent's own sockets */
	__u32 pid;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct agent_state);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} agent SEC(".maps");

static __always_inline struct agent_state *agent_state(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&agent, &zero);
}

/* Returns whether the agent's heartbeat is recent. The listeners do not say it: a hung
 * agent still has them. */
static __always_inline int agent_alive(const struct agent_state *st)
{
	return st && bpf_ktime_get_ns() - st->heartbeat_ns < st->heartbeat_timeout_ns;
}
