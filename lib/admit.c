/* SPDX-License-Identifier: MIT */
/*
 * admit.c - the capacity, exactly: docs/protocol.md, "admit".
 *
 * A ticket is within the capacity if at some moment after it was drawn no more
 * than the capacity of tickets up to it were not closed. Far from the limit that
 * follows from an old head; close to it, head is first walked over what is
 * finished, so that "full" is never stale. Dying anywhere here leaves at most
 * false marks and a head that is further than before.
 */
#include "lane.h"
#include "segment.h"

#define HEAD_COMES_MIN 64  /* capacity, at least, where it is worth waiting for head: */
#define HEAD_PAUSES 128    /* some microseconds: about as long as 32 items take */

/*
 * Walk head over what need not count any more: closed tickets, and whatever
 * lies in a marked segment. Stops at an item that waits in its place. *@g is
 * where. 1 ok; 0 head has moved too far meanwhile, look again; -EBADMSG.
 */
static int head_walk(struct shmq *q, unsigned lane, uint64_t tail, uint64_t *g)
{
	struct lane *l = lane_of(q, lane);
	uint64_t from = *g;
	bool passed_open = false;

	while (before(*g, tail)) {
		struct place p;
		uint64_t end;
		bool marked;
		int r = segment_find(q, lane, *g >> q->geo.slots_shift, &p);

		if (r < 0)
			return r;
		if (r == FIND_SUPERSEDED)
			return 0;
		if (r == FIND_NOT_INSTALLED)
			break;
		end = min_ticket(((*g >> q->geo.slots_shift) + 1) << q->geo.slots_shift, tail);
		if (p.recycled) {
			*g = end;
			continue;
		}
		marked = segment_marked(q, lane, p.segment);
		for (; before(*g, end); ++*g) {
			/* PUBLISH, TAKE, RETIRE */
			uint64_t w = atomic_load_explicit(slot_at(q, p.segment, *g),
							  memory_order_acquire);
			enum slot_class c = slot_classify(w, p.inc);

			if (c == CLOSED_TAKEN || c == CLOSED_FOR_GOOD)
				continue;
			if (c == OPEN_FULL && !marked)
				goto stop;
			if (!marked)
				segment_mark(q, lane, p.segment);
			marked = passed_open = true;
		}
	}
stop:
	if (passed_open)
		gen_count(l);
	if (*g != from)
		head_raise(l, *g);
	return 1;
}

/*
 * Head is to be at @to, but items wait in its way. A lane of few items gets there by
 * tickets that were given up: many PADs behind an item that nobody takes. Head may pass
 * items whose segment is marked, so mark what is in the way.
 */
uint64_t lane_make_way(struct shmq *q, unsigned lane, uint64_t to)
{
	struct lane *l = lane_of(q, lane);
	/* PASS */
	uint64_t g = atomic_load_explicit(&l->head, memory_order_acquire), n;

	for (n = g >> q->geo.slots_shift; before(n << q->geo.slots_shift, to); n++) {
		struct place p;

		if (segment_find(q, lane, n, &p) != FIND_OK)
			break; /* head has moved, or nothing is there yet */
		if (!p.recycled)
			segment_mark(q, lane, p.segment);
	}
	gen_count(l);
	head_walk(q, lane, to, &g);
	return atomic_load_explicit(&l->head, memory_order_acquire); /* PASS */
}

/* PADs and other closed tickets in [@from, @to): they do not hold room. */
static int closed_between(struct shmq *q, unsigned lane, uint64_t from, uint64_t to,
			  uint64_t *n)
{
	*n = 0;
	while (before(from, to)) {
		uint64_t end = ((from >> q->geo.slots_shift) + 1) << q->geo.slots_shift;
		struct place p;
		int r = segment_find(q, lane, from >> q->geo.slots_shift, &p);

		if (r < 0)
			return r;
		if (r != FIND_OK)
			break;
		if (!p.recycled && !segment_has_pads(q, lane, p.segment)) {
			from = end;
			continue;
		}
		for (end = min_ticket(end, to); before(from, end); from++) {
			/* RETIRE */
			uint64_t w = p.recycled ? 0 :
				     atomic_load_explicit(slot_at(q, p.segment, from),
							  memory_order_acquire);

			*n += p.recycled || slot_classify(w, p.inc) == CLOSED_FOR_GOOD;
		}
	}
	return 0;
}

static void level_set(struct shmq_pressure *p)
{
	static const uint32_t batch[] = { 64, 16, 4, 1 };

	p->level = p->depth * 100 >= p->capacity * 95 ? SHMQ_LEVEL_OVERLOADED :
		   p->depth * 100 >= p->capacity * 80 ? SHMQ_LEVEL_CRITICAL :
		   p->depth * 2 >= p->capacity	      ? SHMQ_LEVEL_WARNING :
							SHMQ_LEVEL_NORMAL;
	p->batch = batch[p->level];
}

uint64_t lane_depth(const struct shmq *q, unsigned lane)
{
	const struct lane *l = lane_of(q, lane);
	/* Head first, so that the difference is not negative. PASS, then TICKET */
	uint64_t head = atomic_load_explicit(&l->head, memory_order_acquire);
	uint64_t depth = atomic_load_explicit(&l->tail, memory_order_acquire) - head; /* TICKET */

	return depth < q->geo.capacity[lane] ? depth : q->geo.capacity[lane];
}

SHMQ_API int shmq_pressure(struct shmq *q, int lane, struct shmq_pressure *p)
{
	if (!q || !p)
		return -EFAULT;
	if (!q->map)
		return -ECHILD;
	if (lane < 0 || (uint32_t)lane >= q->geo.nr_lanes)
		return -ECHRNG;
	p->capacity = q->geo.capacity[lane];
	p->depth = lane_depth(q, (unsigned)lane);
	level_set(p);
	return 0;
}

void refuse(struct shmq *q, unsigned lane, uint64_t depth)
{
	q->refused = (struct shmq_pressure){ .depth = depth, .capacity = q->geo.capacity[lane] };
	level_set(&q->refused);
}

/* The look that admit() takes: @g a lower bound of what counts, strays below it
 * known. 1 with *@g and *@below; 0 look again; an error. */
static int admit_look(struct shmq *q, unsigned lane, uint64_t tail, bool walk, uint64_t *g,
		      uint64_t *below)
{
	struct lane *l = lane_of(q, lane);
	uint64_t gen;
	int r;

	*g = atomic_load_explicit(&l->head, memory_order_acquire); /* PASS */
	if (walk) {
		if (before(*g, tail)) {
			r = head_walk(q, lane, tail, g);
			if (r <= 0)
				return r;
		}
		*g = min_ticket(*g, tail);
	}
	gen = atomic_load_explicit(&l->gen, memory_order_acquire); /* MARK: after head */
	r = watch_refresh(q, lane, gen, *g);
	if (r < 0)
		return r;
	*below = watch_open(q, lane, *g);
	return 1;
}

/* Close to the limit is where every participant that has ever been could draw a ticket at
 * once. */
static void limit_set(struct shmq *q, struct view *v, uint64_t limit)
{
	/* relaxed: a hint. Where it is too low, tickets are drawn that are given up. */
	uint64_t seats = atomic_load_explicit(&wakeup_of(q)->seats, memory_order_relaxed);

	if (seats > q->geo.max_participants)
		seats = q->geo.max_participants;
	v->limit = limit;
	v->near = limit - 2 * seats;
	push_window(q, v);
}

/*
 * By an old head the lane is full. Consumers raise it now and then; who walks it instead
 * takes the lines that they are working on. So if it has moved since we last were here
 * they are at work, and head is given a moment to move on: is it another one than @h?
 */
static bool head_comes(struct view *v, uint64_t cap, uint64_t h)
{
	if (cap < HEAD_COMES_MIN || h == v->full_at)
		return false;
	v->full_at = h;
	for (int i = 0; i < HEAD_PAUSES; i++) {
		cpu_relax();
		/* PASS */
		if (atomic_load_explicit(&v->lane->head, memory_order_acquire) != h)
			return true;
	}
	return false;
}

int admit(struct shmq *q, unsigned lane, uint64_t tail, int n)
{
	struct view *v = &q->view[lane];
	uint64_t cap = q->geo.capacity[lane], g, below, pads, pad_max, live;
	int r, tries;

	for (tries = 0;; tries++) {
		r = admit_look(q, lane, tail, false, &g, &below);
		if (r < 0)
			return r;
		limit_set(q, v, g + cap - below);
		if (!before(v->limit, tail + (unsigned)n))
			return n;
		if (tries || !head_comes(v, cap, g)) /* once: others may be served first */
			break;
	}
	for (tries = 0; tries < RESTARTS_MAX; tries++) {
		r = admit_look(q, lane, tail, true, &g, &below);
		if (r < 0)
			return r;
		if (r == 0)
			continue;
		/* PADS: raised before a PAD is stored. */
		pad_max = atomic_load_explicit(&lane_of(q, lane)->pad_max, memory_order_acquire);
		r = closed_between(q, lane, g, min_ticket(pad_max, tail), &pads);
		if (r < 0)
			return r;
		limit_set(q, v, g + cap - below + pads);
		live = tail - g + below - pads;
		if (live >= cap) {
			refuse(q, lane, live);
			return 0;
		}
		return cap - live < (unsigned)n ? (int)(cap - live) : n;
	}
	return -EBADMSG;
}

int lane_room(struct shmq *q, unsigned lane)
{
	struct shmq_pressure refused = q->refused;
	/* TICKET */
	uint64_t tail = atomic_load_explicit(&lane_of(q, lane)->tail, memory_order_acquire);
	int r = admit(q, lane, tail, 1);

	q->refused = refused; /* of the caller's pushes; this is none */
	return r;
}
