/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The name of the running process, read with CO-RE: these program types may not call
 * the helper for it before Linux 6.10. Only the fields that are used are declared. */
#pragma once

#include <bpf/bpf_core_read.h>

struct css_set;

struct task_struct {
	int tgid;
	char comm[16];
	struct css_set *cgroups;
} __attribute__((preserve_access_index));

static __always_inline void set_process(char name[16], __u32 *pid)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	*pid = BPF_CORE_READ(task, tgid);
	BPF_CORE_READ_STR_INTO((char(*)[16])name, task, comm);
}
