/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What of a segment is copied. Of HTTP/2 the frames are walked (RFC 9113 section 4.1): all
 * bytes are copied but the payload of DATA frames that are large. The walk needs the segments
 * in order. If one is missing, the next ones are copied as they are, and the agent says where
 * a frame begins (observe_wish.frame).
 *
 * The steps are functions that the verifier checks for themselves, with all state in struct
 * walk: it has to look at each once, and not for each turn of the loop. */
#pragma once

#define PREFACE 24
#define FRAME_HEADER 9
#define FRAME_DATA 0
#define DATA_LEAST 128 /* bytes of a DATA frame's payload that are worth a record less copied */
#define MAX_FRAMES 32 /* that are walked in a segment */
#define MAX_STEPS 128 /* two for each frame, and one for each further record */

struct walk {
	__u64 now, flow, netns_cookie;
	__u64 shed_until_ns; /* as observed_flow, and so are frame, have, skip and head */
	__u32 at, seq, length, skipped; /* as struct segment, and so is flags */
	/* What is not reported yet is from start on. While stop is more, the bytes up to it are
	 * to be copied, and those up to through are known not to matter. */
	__u32 start, stop, through;
	__u32 cur; /* where the next frame, or the rest of its header, begins */
	__u32 frames; /* that were walked */
	__u32 frame;
	__u8 flags, sent, unwalked;
	__u8 told; /* the end of the segment was reported */
	__u8 have, skip, pad[2];
	__u8 head[16];
};

/* Copies up to room bytes. room is a constant. */
static __always_inline int copy(struct __sk_buff *skb, const struct walk *w, __u32 length, __u32 through, __u32 room)
{
	struct observation *o = bpf_ringbuf_reserve(&observations, sizeof(*o) + room, 0);
	if (!o)
		return 0;
	__u8 last = through >= w->length;
	o->time_ns = w->now;
	o->flow = w->flow;
	o->kind = OBSERVE_SEGMENT;
	o->sent = w->sent;
	o->flags = (last ? w->flags : 0) | (w->unwalked ? OBSERVE_UNWALKED : 0);
	o->tail_length = 0;
	o->seq = w->seq + w->start - w->skipped;
	o->length = through - w->start + w->skipped;
	o->skipped = w->skipped;
	o->pad = 0;
	o->copied = copy_packet(skb, w->at + w->start, o + 1, length, room);
	if (last && w->length >= OBSERVE_TAIL && !bpf_skb_load_bytes(skb, w->at + w->length - OBSERVE_TAIL, o->tail, OBSERVE_TAIL))
		o->tail_length = OBSERVE_TAIL;
	tally(OBSERVE_RECORD);
	bpf_ringbuf_submit(o, BPF_RB_NO_WAKEUP);
	return 1;
}

/* A flow of which something was missed is left alone for a while, so that what is seen of a
 * pod with more than its share is seen whole. */
static __always_inline int shed(struct walk *w, __u32 why)
{
	w->shed_until_ns = w->now + OBSERVE_SHED_NS;
	tally(why);
	return 0;
}

/* Makes a record of the bytes from start on. Returns 0 if that fails: the flow has missed
 * something. */
__attribute__((noinline)) int observe_report(struct __sk_buff *skb, struct walk *w)
{
	if (!w)
		return 0;
	__u64 cookie = w->netns_cookie;
	struct observed_pod *pod = bpf_map_lookup_elem(&observed_pods, &cookie);
	if (!pod)
		return 0;
	if (!admit(pod, w->now))
		return shed(w, OBSERVE_LIMITED);
	__u32 length = w->stop - w->start, through = w->through;
	if (length > OBSERVE_LARGE) {
		length = OBSERVE_LARGE;
		through = w->start + OBSERVE_LARGE;
	}
	int ok;
	if (length <= OBSERVE_SMALL)
		ok = copy(skb, w, length, through, OBSERVE_SMALL);
	else if (length <= OBSERVE_MEDIUM)
		ok = copy(skb, w, length, through, OBSERVE_MEDIUM);
	else
		ok = copy(skb, w, length, through, OBSERVE_LARGE);
	if (!ok)
		return shed(w, OBSERVE_LOST);
	w->told = through >= w->length;
	w->skipped = 0;
	w->start = through;
	if (through >= w->through)
		w->stop = 0;
	return 1;
}

/* Reads a byte of a header that is in two segments. */
static __always_inline int read_head_byte(struct __sk_buff *skb, struct walk *w)
{
	__u8 byte = 0;
	if (w->cur >= w->length || bpf_skb_load_bytes(skb, w->at + w->cur, &byte, 1))
		return 0;
	w->head[w->have & 15] = byte;
	w->have++;
	w->cur++;
	return 1;
}

/* Reads the header of the frame at cur, or as much of it as there is: then have is not 0.
 * Returns 0 if it cannot. */
__attribute__((noinline)) int observe_frame(struct __sk_buff *skb, struct walk *w)
{
	if (!w)
		return 0;
	__u8 head[FRAME_HEADER] = {};
	if (!w->have && w->cur + FRAME_HEADER <= w->length) {
		if (bpf_skb_load_bytes(skb, w->at + w->cur, head, FRAME_HEADER))
			return 0;
		w->cur += FRAME_HEADER;
	} else {
#pragma clang loop unroll(disable)
		for (int i = 0; i < FRAME_HEADER; i++) {
			if (w->have >= FRAME_HEADER || !read_head_byte(skb, w))
				break;
		}
		if (w->have < FRAME_HEADER) { /* the segment ends within it, or cannot be read */
			w->frame = w->seq + w->cur;
			w->skip = 0;
			return w->cur >= w->length;
		}
		__builtin_memcpy(head, w->head, FRAME_HEADER);
		w->have = 0;
	}
	__u32 length = (__u32)head[0] << 16 | (__u32)head[1] << 8 | head[2];
	w->skip = head[3] == FRAME_DATA && length > DATA_LEAST;
	if (w->skip) {
		w->stop = w->cur;
		w->through = w->cur + length < w->length ? w->cur + length : w->length;
	}
	w->cur += length;
	w->frame = w->seq + w->cur;
	return 1;
}

/* Does the next thing about a segment. Returns 0 if nothing is left. */
__attribute__((noinline)) int observe_step(struct __sk_buff *skb, struct walk *w)
{
	if (!w)
		return 0;
	if (w->stop > w->start)
		return observe_report(skb, w);
	if (w->cur >= w->length) { /* what is left belongs to the last frame */
		if (w->start >= w->length)
			return 0;
		w->stop = w->through = w->length;
		return 1;
	}
	if (w->frames++ < MAX_FRAMES) {
		if (observe_frame(skb, w))
			return 1;
		tally(OBSERVE_READ_FAILED);
		return 0;
	}
	w->stop = w->through = w->length; /* too many: the rest is copied as it is */
	w->unwalked = 1;
	w->frame = w->seq + w->cur;
	w->skip = 0;
	w->cur = w->length;
	return 1;
}

/* Whether the flow begins with "PRI * HT", as only HTTP/2 does (RFC 9113 section 3.4). */
static __always_inline int is_preface(struct __sk_buff *skb, const struct observed_flow *f, const struct segment *s, __u8 sent)
{
	__u64 begins;
	if (sent == f->server || s->length < PREFACE || s->seq != f->first[sent] || f->joined)
		return 0;
	return !bpf_skb_load_bytes(skb, s->at, &begins, sizeof(begins)) && begins == 0x5448202a20495250ULL;
}

/* Says what is copied of a segment of HTTP/2. Returns 0 if nothing is. */
static __always_inline int begin_frames(const struct observed_flow *f, const struct observe_wish *wish, __u8 sent, struct walk *w)
{
	w->frame = f->frame[sent];
	w->skip = f->skip[sent];
	w->have = f->have[sent];
	__builtin_memcpy(w->head, f->head[sent], sizeof(w->head));
	__s32 ahead = (__s32)(w->frame - w->seq);
	if (ahead < 0 && wish && wish->framed[sent] && (__s32)(wish->frame[sent] - w->seq) >= 0) {
		w->frame = wish->frame[sent];
		w->skip = 1;
		w->have = 0;
		ahead = (__s32)(w->frame - w->seq);
	}
	if (ahead < 0) {
		w->stop = w->through = w->cur = w->length;
		w->unwalked = 1;
		return 1;
	}
	w->cur = ahead;
	if (w->skip) {
		if (w->cur >= w->length && !w->flags)
			return 0;
		w->start = w->cur < w->length ? w->cur : w->length;
	}
	return 1;
}

static __always_inline void end_frames(struct observed_flow *f, const struct walk *w, __u8 sent)
{
	f->frame[sent] = w->frame;
	f->skip[sent] = w->skip;
	f->have[sent] = w->have;
	__builtin_memcpy(f->head[sent], w->head, sizeof(w->head));
}

/* The same of a flow that is not HTTP/2. */
static __always_inline int begin_text(struct __sk_buff *skb, const struct observe_wish *wish, __u8 sent, struct walk *w)
{
	if (wish && wish->skip[sent]) {
		__s32 unneeded = (__s32)(wish->skip_to[sent] - w->seq);
		if (unneeded > 0) {
			if ((__u32)unneeded >= w->length && !w->flags)
				return 0;
			w->skipped = (__u32)unneeded < w->length ? (__u32)unneeded : w->length;
		}
	}
	w->start = w->skipped;
	w->cur = w->stop = w->through = w->length;
	if (w->stop - w->start > OBSERVE_LARGE) {
		/* A method and HTTP/1.1 begin with a capital letter. */
		__u8 begins = 0;
		bpf_skb_load_bytes(skb, w->at + w->start, &begins, 1);
		w->stop = w->start + (begins >= 'A' && begins <= 'Z' ? OBSERVE_LARGE : OBSERVE_SMALL);
	}
	return 1;
}
