//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* All programs are one object, so that they share one set of maps and one set of
 * generated Go types. Each capability has its own file. */

#include "include/underlane.h"
#include "include/process.h"
#include "include/events.h"
#include "include/addresses.h"
#include "include/paths.h"
#include "include/veths.h"

#include "host.c"
#include "inner.c"
#include "via.c"
#include "path.c"
#include "dns.c"
#include "connect.c"
#include "names.c"
#include "sockops.c"
#include "sk_lookup.c"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* These put types into BTF that only the ring buffer or only the agent uses. */
const enum event_kind unused_event_kind __attribute__((unused));
const enum server unused_server __attribute__((unused));
const enum counter unused_counter __attribute__((unused));
const enum layout unused_layout __attribute__((unused));
const enum dns_room unused_dns_room __attribute__((unused));
const enum listener_kind unused_listener_kind __attribute__((unused));
const enum path_counter unused_path_counter __attribute__((unused));
const struct event unused_event __attribute__((unused));
const struct dns_answer unused_dns_answer __attribute__((unused));
