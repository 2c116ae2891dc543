/* SPDX-License-Identifier: MIT */
/*
 * stat.c - what is in a queue and who is attached. Only reads, so it works on a
 * read-only mapping. Depth and holdings are counted from the slot words, which
 * are the truth; nothing keeps a count beside them.
 */
#include "participant.h"
#include "segment.h"
#include "sys.h"

#include <stdio.h>

/* Oldest push time per lane, UINT64_MAX for none. */
struct oldest {
	uint64_t ns[SHMQ_MAX_LANES];
};

static void count_slot(struct shmq *q, uint32_t s, uint64_t inc, uint64_t ticket, unsigned lane,
		       uint64_t tail, struct shmq_lane_stat *ls,
		       struct oldest *old)
{
	/* PUBLISH, TAKE */
	uint64_t w = atomic_load_explicit(slot_at(q, s, ticket), memory_order_acquire);
	uint64_t ns;

	/* Tickets drawn since tail was read do not count: the slots are read one after
	 * the other, and an item and the one that took its place would both be seen. */
	if ((int64_t)(ticket - tail) >= 0)
		return;
	switch (slot_classify(w, inc)) {
	case OPEN_HOLE:
		ls->unfinished++;
		break;
	case OPEN_FULL:
		ls->depth++;
		ls->redelivered += slot_attempts(w) > 0;
		if (!(q->geo.flags & SHMQ_STAMP))
			break;
		ns = atomic_load_explicit(stamp_of(q, slot_index(q, s, ticket)), memory_order_relaxed);
		if (ns < old->ns[lane])
			old->ns[lane] = ns;
		break;
	case CLOSED_TAKEN:
		ls->held++;
		break;
	case CLOSED_FOR_GOOD:
		break;
	}
}

static void count_segments(struct shmq *q, struct shmq_stat *st, struct oldest *old)
{
	uint64_t tails[SHMQ_MAX_LANES];
	uint32_t s, i;

	for (i = 0; i < q->geo.nr_lanes; i++) /* TICKET */
		tails[i] = atomic_load_explicit(&lane_of(q, i)->tail, memory_order_acquire);
	for (s = 0; s < q->geo.nr_segments; s++) {
		uint64_t hdr, number, first;
		unsigned lane;
		bool bound = segment_binding(q, s, &hdr, &lane, &number);

		if (segment_state(hdr) == SEGMENT_FREE)
			st->segments_free++;
		if (!bound || segment_state(hdr) == SEGMENT_FREE)
			continue;
		first = tails[lane] >> q->geo.slots_shift;
		first = (first + (uint64_t)number_diff(number, first)) << q->geo.slots_shift;
		for (i = 0; i < q->geo.slots; i++)
			count_slot(q, s, segment_inc(hdr), first + i, lane, tails[lane], &st->lanes[lane], old);
	}
}

static void count_participants(struct shmq *q, struct shmq_stat *st)
{
	uint32_t i, lane;

	for (i = 0; i < q->geo.max_participants; i++) {
		struct participant *p = participant_of(q, i);
		uint64_t w = participant_state_of(q, i);

		for (lane = 0; lane < q->geo.nr_lanes; lane++) {
			struct shmq_lane_stat *ls = &st->lanes[lane];

			/* relaxed: counters */
			ls->pushed += atomic_load_explicit(&p->tally[lane].pushed,
							   memory_order_relaxed);
			ls->popped += atomic_load_explicit(&p->tally[lane].popped,
							   memory_order_relaxed);
			ls->rejected += atomic_load_explicit(&p->tally[lane].rejected,
							     memory_order_relaxed);
		}
		if (participant_state(w) != PARTICIPANT_LIVE)
			continue;
		if (participant_dead(q, i, participant_inc(w)))
			st->nr_dead++;
		else
			st->nr_participants++;
	}
}

SHMQ_API int shmq_stat(struct shmq *q, struct shmq_stat *st)
{
	const struct header *h;
	struct oldest old;
	struct stat fst;
	uint64_t now;
	uint32_t i;
	int r;
	KEEP_ERRNO;

	if (!q || !st)
		return -EFAULT;
	if (!q->map)
		return -ECHILD;
	if (st->sz != sizeof *st)
		return -EINVAL;
	r = sys_fstat(q->map->fd, &fst);
	if (r < 0)
		return r;
	h = &q->map->header;
	memset(st, 0, sizeof *st);
	memset(&old, 0xff, sizeof old);
	st->sz = sizeof *st;
	snprintf(st->name, sizeof st->name, "%s", q->map->name);
	st->format_major = h->format_major;
	st->format_minor = h->format_minor;
	st->region_bytes = q->geo.bytes;
	st->item_size = q->geo.item_size;
	st->max_participants = q->geo.max_participants;
	st->flags = q->geo.flags;
	st->mode = fst.st_mode & 07777;
	st->uid = fst.st_uid;
	st->gid = fst.st_gid;
	st->creator_pid = h->creator_pid;
	memcpy(st->creator, h->creator, sizeof st->creator);
	st->creator[sizeof st->creator - 1] = 0;
	st->created_ns = h->created_ns;
	st->segments = q->geo.nr_segments;
	st->slots_per_segment = q->geo.slots;
	st->nr_lanes = q->geo.nr_lanes;
	for (i = 0; i < q->geo.nr_lanes; i++) {
		memcpy(st->lanes[i].name, h->lanes[i].name, sizeof st->lanes[i].name);
		st->lanes[i].capacity = q->geo.capacity[i];
	}
	count_segments(q, st, &old);
	count_participants(q, st);
	now = sys_monotonic_ns();
	for (i = 0; i < q->geo.nr_lanes; i++)
		if (old.ns[i] < now)
			st->lanes[i].oldest_ns = now - old.ns[i];
	return 0;
}

static uint64_t held_by(struct shmq *q, uint32_t owner)
{
	uint64_t n = 0, hdr, number;
	uint32_t s, i;
	unsigned lane;

	for (s = 0; s < q->geo.nr_segments; s++) {
		if (!segment_binding(q, s, &hdr, &lane, &number) ||
		    segment_state(hdr) == SEGMENT_FREE)
			continue;
		for (i = 0; i < q->geo.slots; i++) {
			/* TAKE */
			uint64_t w = atomic_load_explicit(slot_at(q, s, i), memory_order_acquire);

			n += slot_classify(w, segment_inc(hdr)) == CLOSED_TAKEN &&
			     slot_owner(w) == owner;
		}
	}
	return n;
}

static void participant_fill(struct shmq *q, uint32_t i, uint64_t state,
			     struct shmq_participant *out)
{
	struct participant *p = participant_of(q, i);
	uint64_t command[2];
	uint32_t lane;

	memset(out, 0, sizeof *out);
	/* relaxed: JOIN was read with the state; all of it is for people to read. */
	command[0] = atomic_load_explicit(&p->command[0], memory_order_relaxed);
	command[1] = atomic_load_explicit(&p->command[1], memory_order_relaxed);
	memcpy(out->command, command, sizeof out->command);
	out->command[sizeof out->command - 1] = 0;
	out->index = i;
	out->pid = atomic_load_explicit(&p->pid, memory_order_relaxed);
	out->role = atomic_load_explicit(&p->role, memory_order_relaxed) &
		    (SHMQ_ROLE_PRODUCER | SHMQ_ROLE_CONSUMER);
	out->since_ns = atomic_load_explicit(&p->since_ns, memory_order_relaxed);
	out->alive = !participant_dead(q, i, participant_inc(state));
	out->held = held_by(q, i);
	out->pushed = 0 - atomic_load_explicit(&p->base.pushed, memory_order_relaxed);
	out->popped = 0 - atomic_load_explicit(&p->base.popped, memory_order_relaxed);
	out->rejected = 0 - atomic_load_explicit(&p->base.rejected, memory_order_relaxed);
	for (lane = 0; lane < q->geo.nr_lanes; lane++) {
		out->pushed += atomic_load_explicit(&p->tally[lane].pushed, memory_order_relaxed);
		out->popped += atomic_load_explicit(&p->tally[lane].popped, memory_order_relaxed);
		out->rejected += atomic_load_explicit(&p->tally[lane].rejected,
						      memory_order_relaxed);
	}
}

SHMQ_API int shmq_participants(struct shmq *q, struct shmq_participant *out, int n)
{
	uint32_t i;
	int found = 0;
	KEEP_ERRNO;

	if (!q || (!out && n > 0))
		return -EFAULT;
	if (!q->map)
		return -ECHILD;
	for (i = 0; i < q->geo.max_participants; i++) {
		uint64_t w = participant_state_of(q, i);

		if (participant_state(w) != PARTICIPANT_LIVE)
			continue;
		if (found < n)
			participant_fill(q, i, w, &out[found]);
		found++;
	}
	return found;
}
