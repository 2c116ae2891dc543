/* SPDX-License-Identifier: MIT */
/* handle.h - what the functions of shmq.h have in common: may the handle be used so,
 * and which lanes are meant. For queue.c and inplace.c. */
#ifndef SHMQ_HANDLE_H
#define SHMQ_HANDLE_H

#include "fast.h"
#include "recover.h"

/* Why the handle can not be used for @lane and @timeout_ns; 0 it can. */
static inline int use_check(const struct shmq *q, int lane, int64_t timeout_ns)
{
	if (unlikely(!q))
		return -EFAULT;
	if (unlikely(!q->map))
		return -ECHILD;
	if (unlikely(q->observer))
		return -EROFS;
	if (unlikely(lane < 0 || (uint32_t)lane >= q->geo.nr_lanes))
		return -ECHRNG;
	if (unlikely(timeout_ns < SHMQ_FOREVER))
		return -ERANGE;
	return 0;
}

/* The participant does this as well; for people to read. */
static inline void role_add(struct shmq *q, uint32_t role)
{
	/* relaxed: only we write it. */
	uint32_t r = atomic_load_explicit(&q->self->role, memory_order_relaxed);

	if (unlikely(!(r & role)))
		atomic_store_explicit(&q->self->role, r | role, memory_order_relaxed);
}

static inline void info_fill(struct shmq *q, const struct taken *t, struct shmq_info *info)
{
	uint64_t now, pushed;

	*info = (struct shmq_info){ .len = t->len, .lane = (uint16_t)t->lane,
				    .attempts = (uint16_t)(t->attempts + 1) };
	if (!(q->geo.flags & SHMQ_STAMP))
		return;
	now = sys_monotonic_ns();
	pushed = atomic_load_explicit(stamp_of(q, slot_index(q, t->segment, t->ticket)),
				      memory_order_relaxed);
	info->wait_ns = now > pushed ? now - pushed : 0;
}

/* SHMQ_ANY_LANE, lanes from @i on: the next one, the dead-letter lane left out. */
static inline unsigned any_from(const struct shmq *q, unsigned i)
{
	return i == (unsigned)q->geo.dead_lane ? i + 1 : i;
}

/* A bit for each lane that @lane means. */
static inline uint32_t lanes_of(const struct shmq *q, int lane)
{
	uint32_t all = (1u << q->geo.nr_lanes) - 1;

	if (lane >= 0)
		return 1u << lane;
	return q->geo.dead_lane == SHMQ_DROP ? all : all & ~(1u << q->geo.dead_lane);
}

/* Was nothing taken from the lane since it was found empty? Then the short way has
 * nothing to look at. */
static inline bool lane_quiet(const struct view *v)
{
	return v->idle == v->start;
}

/* Is the lane empty? Else, or if it can not be said so shortly, no. */
static inline bool lane_idle(struct view *v)
{
	/* MARK, TICKET: gen, tail. At the first of them all below start was closed. */
	if (atomic_load_explicit(&v->lane->gen, memory_order_acquire) != v->gen ||
	    v->nr_watched || /* TICKET */
	    atomic_load_explicit(&v->lane->tail, memory_order_acquire) != v->start)
		return false;
	if (unlikely(!lane_quiet(v))) {
		head_raise(v->lane, v->start);
		v->idle = v->start;
	}
	return true;
}

/* Take from @lane, or from the highest lane that has something, the short way: 1; 0 they
 * are empty; -EBUSY. */
static inline int take_any_short(struct shmq *q, int lane, size_t room, struct taken *t)
{
	unsigned i = lane >= 0 ? (unsigned)lane : q->any_first;
	unsigned end = lane >= 0 ? i + 1 : q->geo.nr_lanes;
	bool alone = any_from(q, i + 1) >= end;
	struct won won;
	struct view *v;
	ssize_t len;

	for (;;) {
		v = view_of(q, i);
		len = lane_quiet(v) ? -EBUSY : win_short(q, v, room, false, &won);
		if (likely(len >= 0))
			break;
		if ((alone && (v->hot || !lane_quiet(v))) || !lane_idle(v))
			return -EBUSY;
		i = any_from(q, i + 1);
		if (i >= end)
			return 0;
	}
	*t = (struct taken){ .ticket = v->start - 1, .inc = v->pop_at.inc,
			     .word = &won.descriptor->word, .segment = v->pop_at.segment,
			     .payload = v->pop_at.payload + won.slot * q->geo.slot_bytes,
			     .len = (uint32_t)len, .lane = i };
	if (take_at_edge(q, won.slot))
		take_edge(q, i, won.slot, false);
	return 1;
}

/* Take from @lane, or from the highest lane that has something. As lane_take(). */
static inline int take_any_long(struct shmq *q, int lane, size_t room, struct taken *t)
{
	unsigned i = lane >= 0 ? (unsigned)lane : any_from(q, 0);
	unsigned end = lane >= 0 ? i + 1 : q->geo.nr_lanes;
	bool alone = any_from(q, i + 1) >= end; /* no other lane has to be looked at */
	int r = 0, looks = 0;

	while (i < end && r == 0) {
		if (unlikely(++looks > RESTARTS_MAX))
			return -EBADMSG;
		r = lane_take(q, i, room, alone, t);
		if (r == 1 && unlikely(t->attempts >= q->geo.max_attempts) &&
		    lane_dead_letter(q, t))
			r = 0; /* and once more */
		else
			i = any_from(q, i + 1);
	}
	return r;
}

/* The same, whatever way is open. @probe: who comes by seldom looks for the dead. */
static inline int take(struct shmq *q, int lane, size_t room, bool probe, struct taken *t)
{
	int r = take_any_short(q, lane, room, t);

	if (likely(r != -EBUSY))
		return r;
	if (probe)
		recover_probe(q);
	return take_any_long(q, lane, room, t);
}

#endif
