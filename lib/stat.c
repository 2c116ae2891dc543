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

/* Tails are read before the slots: later tickets do not count, for the slots are read
 * one after the other, and an item and the one that took its place would both be seen. */
static void tails_read(struct shmq *q, uint64_t tails[SHMQ_MAX_LANES])
{
	uint32_t i;

	for (i = 0; i < q->geo.nr_lanes; i++) /* TICKET */
		tails[i] = atomic_load_explicit(&lane_of(q, i)->tail, memory_order_acquire);
}

/* What is to be done with a slot of an installed segment, whose ticket is below tail. */
struct seen {
	uint64_t word, inc, ticket;
	uint32_t segment;
	unsigned lane;
};

static void each_slot(struct shmq *q, const uint64_t *tails,
		      void (*fn)(void *arg, const struct seen *seen), void *arg)
{
	uint32_t s, i;

	for (s = 0; s < q->geo.nr_segments; s++) {
		uint64_t hdr, number, first;
		struct seen e = { .segment = s };

		if (!segment_serves(q, s, &hdr, &e.lane, &number))
			continue;
		e.inc = segment_inc(hdr);
		first = number_in_full(number, tails[e.lane] >> q->geo.slots_shift)
			<< q->geo.slots_shift;
		for (i = 0; i < q->geo.slots; i++) {
			e.ticket = first + i;
			if ((int64_t)(e.ticket - tails[e.lane]) >= 0)
				break;
			/* PUBLISH, TAKE */
			e.word = atomic_load_explicit(slot_at(q, s, i), memory_order_acquire);
			fn(arg, &e);
		}
	}
}

struct count {
	struct shmq *q;
	struct shmq_stat *st;
	struct oldest *old;
	uint64_t tails[SHMQ_MAX_LANES];
};

static uint64_t stamp_of_seen(struct shmq *q, const struct seen *e)
{
	/* relaxed: PUBLISH was read with the word. */
	return atomic_load_explicit(stamp_of(q, slot_index(q, e->segment, e->ticket)),
				    memory_order_relaxed);
}

static void count_slot(void *arg, const struct seen *e)
{
	struct count *c = arg;
	struct shmq_lane_stat *ls = &c->st->lanes[e->lane];
	uint64_t ns;

	switch (slot_classify(e->word, e->inc)) {
	case OPEN_HOLE:
		ls->unfinished++;
		break;
	case OPEN_FULL:
		ls->depth++;
		ls->redelivered += slot_attempts(e->word) > 0;
		if (!(c->q->geo.flags & SHMQ_STAMP))
			break;
		ns = stamp_of_seen(c->q, e);
		if (ns < c->old->ns[e->lane])
			c->old->ns[e->lane] = ns;
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
	struct count c = { .q = q, .st = st, .old = old };
	uint64_t hdr, number;
	uint32_t s;
	unsigned lane;

	tails_read(q, c.tails);
	each_slot(q, c.tails, count_slot, &c);
	for (s = 0; s < q->geo.nr_segments; s++) {
		segment_binding(q, s, &hdr, &lane, &number);
		st->segments_free += segment_state(hdr) == SEGMENT_FREE;
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
			ls->dead += atomic_load_explicit(&p->tally[lane].dead,
							 memory_order_relaxed);
			ls->dropped += atomic_load_explicit(&p->tally[lane].dropped,
							    memory_order_relaxed);
		}
		if (participant_state(w) != PARTICIPANT_LIVE)
			continue;
		if (participant_dead(q, participant_inc(w)))
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
	if (!mapping_intact(q->map))
		return -EBADF;
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
	st->max_attempts = q->geo.max_attempts;
	st->dead_lane = q->geo.dead_lane;
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

static void participant_name(struct shmq *q, uint32_t i, uint64_t state,
			     struct shmq_participant *out)
{
	struct participant *p = participant_of(q, i);
	uint64_t command[2];

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
	out->alive = participant_state(state) == PARTICIPANT_LIVE &&
		     !participant_dead(q, participant_inc(state));
}

static void participant_fill(struct shmq *q, uint32_t i, uint64_t state,
			     struct shmq_participant *out)
{
	struct participant *p = participant_of(q, i);
	uint32_t lane;

	participant_name(q, i, state, out);
	out->held = held_by(q, i);
	out->pushed = 0 - atomic_load_explicit(&p->base[0], memory_order_relaxed);
	out->popped = 0 - atomic_load_explicit(&p->base[1], memory_order_relaxed);
	out->rejected = 0 - atomic_load_explicit(&p->base[2], memory_order_relaxed);
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
	if (!mapping_intact(q->map))
		return -EBADF;
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

/* ---- who holds what ------------------------------------------------------------------- */

struct holds {
	struct shmq *q;
	struct shmq_hold *out;
	int room, found;
	uint64_t tails[SHMQ_MAX_LANES];
	struct records records[SHMQ_PARTICIPANTS_MAX]; /* NONE of who is not attached */
};

static void hold_fill(struct shmq *q, const struct seen *e, struct shmq_hold *out)
{
	uint64_t slot = slot_index(q, e->segment, 0) + spread(q, e->ticket), now, pushed;

	/* relaxed: to be read by people; the item may be gone. */
	out->len = meta_len(atomic_load_explicit(&descriptor_of(q, slot)->meta,
						 memory_order_relaxed));
	out->attempts = slot_attempts(e->word);
	if (!(q->geo.flags & SHMQ_STAMP))
		return;
	now = sys_monotonic_ns();
	pushed = stamp_of_seen(q, e);
	out->age_ns = now > pushed ? now - pushed : 0;
}

static void hold_add(struct holds *h, enum shmq_hold_kind kind, uint32_t owner,
		     const struct seen *e)
{
	struct shmq_hold *out = &h->out[h->found];
	struct shmq_participant p;

	if (h->found++ >= h->room)
		return;
	*out = (struct shmq_hold){ .kind = kind, .participant = owner, .lane = e->lane,
				   .ticket = e->ticket };
	if (owner < h->q->geo.max_participants) {
		participant_name(h->q, owner, participant_state_of(h->q, owner), &p);
		out->pid = p.pid;
		out->alive = p.alive;
		memcpy(out->command, p.command, sizeof out->command);
	}
	if (kind == SHMQ_HOLD_ITEM)
		hold_fill(h->q, e, out);
}

/* The participant whose records name @ticket, or UINT32_MAX. */
static uint32_t pusher_of(const struct holds *h, unsigned lane, uint64_t ticket)
{
	uint32_t i;

	for (i = 0; i < h->q->geo.max_participants; i++)
		if (records_name(&h->records[i], lane, ticket, h->tails[lane]))
			return i;
	return UINT32_MAX;
}

static void hold_of_slot(void *arg, const struct seen *e)
{
	struct holds *h = arg;

	switch (slot_classify(e->word, e->inc)) {
	case CLOSED_TAKEN:
		hold_add(h, SHMQ_HOLD_ITEM, slot_owner(e->word), e);
		break;
	case OPEN_HOLE:
		hold_add(h, SHMQ_HOLD_PUSH, pusher_of(h, e->lane, e->ticket), e);
		break;
	default:
		break;
	}
}

SHMQ_API int shmq_holds(struct shmq *q, struct shmq_hold *out, int n)
{
	struct holds h = { .q = q, .out = out, .room = n };
	uint32_t i;
	KEEP_ERRNO;

	if (!q || (!out && n > 0))
		return -EFAULT;
	if (!q->map)
		return -ECHILD;
	if (n < 0)
		return -EINVAL;
	if (!mapping_intact(q->map))
		return -EBADF;
	tails_read(q, h.tails);
	for (i = 0; i < q->geo.max_participants; i++)
		if (participant_state(participant_state_of(q, i)) == PARTICIPANT_LIVE)
			h.records[i] = records_of(participant_of(q, i));
	each_slot(q, h.tails, hold_of_slot, &h);
	return h.found;
}
