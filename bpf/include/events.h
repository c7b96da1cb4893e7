/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* Events never wake the reader, because a wake-up costs 100 times as much as an event.
 * The agent polls. */
static __always_inline struct event *event_begin(__u8 kind, __u64 netns_cookie)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		count(COUNT_EVENT_LOST);
		return 0;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->layout = LAYOUT_EVENT;
	e->time_ns = bpf_ktime_get_ns();
	e->netns_cookie = netns_cookie;
	e->kind = kind;
	return e;
}

static __always_inline void event_end(struct event *e)
{
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
}
