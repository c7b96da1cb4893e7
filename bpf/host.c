//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Connections of the node's own processes, above all of the kubelet, do not go
 * through the agent: a kubelet probe tests the application and needs no identity.
 * The node's address does not identify these processes, because connections through
 * a NodePort and pods on the host's network have it too. So the connection is written
 * into a map when a process makes it, and sk_lookup recognises its SYN at the pod by
 * the map. */

#define MAX_CGROUP_DEPTH 16
#define FLOW_LIFETIME_NS 10000000000ULL /* time for a SYN and its retransmissions */

/* A flow is deleted when its connection ends: another client may then have the same
 * address and port, such as a pod behind the node's SNAT. */

struct kernfs_node {
	struct kernfs_node *__parent; /* since Linux 6.15 */
	const char *name;
	__u64 id;
} __attribute__((preserve_access_index));

struct kernfs_node___before {
	struct kernfs_node *parent;
} __attribute__((preserve_access_index));

struct cgroup {
	struct kernfs_node *kn;
} __attribute__((preserve_access_index));

struct css_set {
	struct cgroup *dfl_cgrp; /* in the v2 hierarchy */
} __attribute__((preserve_access_index));

static __always_inline struct kernfs_node *parent_of(struct kernfs_node *kn)
{
	if (bpf_core_field_exists(kn->__parent))
		return BPF_CORE_READ(kn, __parent);
	return BPF_CORE_READ((struct kernfs_node___before *)kn, parent);
}

/* The kubelet puts every pod below a cgroup kubepods, kubepods.slice, or
 * kubelet-kubepods.slice. A cgroup deeper than MAX_CGROUP_DEPTH counts as a pod's. */
static __always_inline int in_pod_cgroup(const struct agent_state *st)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct kernfs_node *kn = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn);
	for (int i = 0; i < MAX_CGROUP_DEPTH; i++) {
		if (!kn || BPF_CORE_READ(kn, id) == st->cgroup_root_id)
			return 0;
		char name[24] = {};
		bpf_probe_read_kernel_str(name, sizeof(name), BPF_CORE_READ(kn, name));
		if (!__builtin_memcmp(name, "kubepods", 8) || !__builtin_memcmp(name, "kubelet-kubepods", 16))
			return 1;
		kn = parent_of(kn);
	}
	return 1;
}

static __always_inline void host_flow_key(struct bpf_sock_ops *ctx, struct flow_key *key)
{
	local_addr(ctx, &key->client);
	remote_addr(ctx, &key->server);
	key->client_port = ctx->local_port;
	key->server_port = remote_port(ctx);
}

/* Runs in the process that connects, before its SYN leaves. */
static __always_inline void file_host_flow(struct bpf_sock_ops *ctx, __u64 cookie)
{
	struct agent_state *st = agent_state();
	if (!st || st->host_netns_cookie != cookie)
		return;
	struct flow_key key = {};
	host_flow_key(ctx, &key);
	/* Any destination may be a pod's: a pod can have addresses that the cluster does
	 * not know. */
	if (is_loopback(&key.server) || in_pod_cgroup(st))
		return;
	struct host_flow flow = { .opened_ns = bpf_ktime_get_ns() };
	set_process(flow.process, &flow.pid);
	if (bpf_map_update_elem(&host_flows, &key, &flow, BPF_ANY)) {
		count(COUNT_HOST_FLOW_FAILED);
		return;
	}
	bpf_sock_ops_cb_flags_set(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
}

/* Runs when a connection ends. That is also when it begins to wait in TIME_WAIT. */
static __always_inline void delete_host_flow(struct bpf_sock_ops *ctx)
{
	struct agent_state *st = agent_state();
	if (!st || st->host_netns_cookie != bpf_get_netns_cookie(ctx))
		return;
	struct flow_key key = {};
	host_flow_key(ctx, &key);
	bpf_map_delete_elem(&host_flows, &key);
}

/* Runs in the pod's sk_lookup program, and when the pod accepts the connection. */
static __always_inline int is_host_flow(const struct address *client, __u16 client_port, const struct address *server,
					__u16 server_port)
{
	struct flow_key key = {
		.client = *client, .server = *server, .client_port = client_port, .server_port = server_port
	};
	struct host_flow *flow = bpf_map_lookup_elem(&host_flows, &key);
	return flow && bpf_ktime_get_ns() - flow->opened_ns < FLOW_LIFETIME_NS;
}
