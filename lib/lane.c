/* SPDX-License-Identifier: MIT */
/*
 * lane.c - push and take. Read docs/protocol.md first; the names are the same.
 *
 * The hard thing first: nobody waits for a producer that has a ticket and has
 * not published. A consumer steps over the hole, but before it takes anything
 * behind it, it marks the hole's segment and counts that in gen; whoever reads
 * head and then gen therefore knows of every ticket below head that can still
 * turn FULL. All order in this file comes down to: tail, then head, then gen and
 * marks, then slots; and mark, then gen, then take, then head.
 *
 * A process that dies here leaves a push record that recovery reads, or a slot
 * TAKEN by it; the comments at the words say what each step leaves.
 */
#include "lane.h"
#include "point.h"
#include "recover.h"
#include "segment.h"
#include "sys.h"

#include <stdlib.h>

#define SPIN_AT_HOLE 64       /* re-reads of a hole before it is passed */
#define HEAD_LAG 16           /* tickets that head may lag in normal running */
#define RESTARTS_MAX (1 << 24) /* only a region that lies gets here */

static bool before(uint64_t a, uint64_t b)
{
	return (int64_t)(a - b) < 0;
}

static uint64_t max_ticket(uint64_t a, uint64_t b)
{
	return before(a, b) ? b : a;
}

static uint64_t min_ticket(uint64_t a, uint64_t b)
{
	return before(a, b) ? a : b;
}

/* CAS-max. PASS -> whoever reads head: all below is closed, or marked before. */
static void head_raise(struct lane *l, uint64_t to)
{
	uint64_t h = atomic_load_explicit(&l->head, memory_order_relaxed);

	while (before(h, to) &&
	       !atomic_compare_exchange_weak_explicit(&l->head, &h, to, memory_order_acq_rel,
						      memory_order_relaxed))
		;
}

/* MARK -> watch_refresh(): counted after the marks, before head passes. */
static void gen_count(struct lane *l)
{
	atomic_fetch_add_explicit(&l->gen, 1, memory_order_acq_rel);
}

void lane_mark(struct shmq *q, unsigned lane, uint32_t segment)
{
	segment_mark(q, lane, segment);
	gen_count(lane_of(q, lane));
}

/* ---- the watch list: marked segments, and their slots that are still open ------- */

static uint64_t slots_not_closed(struct shmq *q, uint32_t s, uint64_t inc)
{
	uint64_t mask = 0;
	uint32_t i;

	for (i = 0; i < q->geo.slots; i++) {
		/* PUBLISH, TAKE, RETIRE: what it says of the slot is seen. */
		uint64_t w = atomic_load_explicit(slot_at(q, s, i), memory_order_acquire);

		if (slot_classify(w, inc) != CLOSED_FOR_GOOD)
			mask |= UINT64_C(1) << i;
	}
	return mask;
}

static void watch_insert(struct view *v, struct watched e)
{
	uint32_t i = v->nr_watched++;

	for (; i > 0 && before(e.first, v->watched[i - 1].first); i--)
		v->watched[i] = v->watched[i - 1];
	v->watched[i] = e;
}

static int watch_add(struct shmq *q, unsigned lane, uint32_t s, uint64_t near_number)
{
	struct view *v = &q->view[lane];
	struct watched e = { .segment = s };
	uint64_t hdr, number;
	unsigned l;

	if (s >= q->geo.nr_segments)
		return -EBADMSG;
	if (!segment_binding(q, s, &hdr, &l, &number) || l != lane ||
	    segment_state(hdr) == SEGMENT_FREE)
		return 0;
	e.inc = segment_inc(hdr);
	e.first = (near_number + (uint64_t)number_diff(number, near_number))
		  << q->geo.slots_shift;
	e.mask = slots_not_closed(q, s, e.inc);
	if (!e.mask) {
		segment_retire(q, s, e.inc);
		return 0;
	}
	if (!v->watched) {
		void *p;
		int r = sys_map_private(q->geo.nr_segments * sizeof e, &p);

		if (r < 0)
			return r;
		v->watched = p;
	}
	watch_insert(v, e);
	return 0;
}

/*
 * Make the watch list as new as @gen, which was read after head. The marks are
 * read after gen, so a mark that is missing here was counted later, and the
 * next look at gen will tell. All open slots of a marked segment are watched,
 * also those head has not reached, because head may reach them without a count.
 */
static int watch_refresh(struct shmq *q, unsigned lane, uint64_t gen, uint64_t head)
{
	struct view *v = &q->view[lane];
	uint32_t i;

	if (likely(v->watch_valid && v->gen == gen))
		return 0;
	v->nr_watched = 0;
	v->watch_valid = false;
	for (i = 0; i < q->geo.map_words; i++) {
		/* MARK */
		uint64_t w = atomic_load_explicit(marks_of(q, lane) + i, memory_order_acquire);

		for (; w; w &= w - 1) {
			int r = watch_add(q, lane, i * 64 + (uint32_t)__builtin_ctzll(w),
					  head >> q->geo.slots_shift);

			if (r < 0)
				return r;
		}
	}
	v->gen = gen;
	v->watch_valid = true;
	return 0;
}

/* The watched slots of @e whose tickets are below @limit. */
static uint64_t watched_below(const struct watched *e, uint64_t limit)
{
	uint64_t n = limit - e->first;

	if (!before(e->first, limit))
		return 0;
	return n >= 64 ? e->mask : e->mask & ((UINT64_C(1) << n) - 1);
}

/* Tickets below @limit in marked segments that count against the capacity. */
static uint64_t strays(struct shmq *q, unsigned lane, uint64_t limit)
{
	struct view *v = &q->view[lane];
	uint64_t n = 0, m;
	uint32_t i;

	for (i = 0; i < v->nr_watched; i++) {
		struct watched *e = &v->watched[i];

		for (m = watched_below(e, limit); m; m &= m - 1) {
			unsigned at = (unsigned)__builtin_ctzll(m);
			/* TAKE, RETIRE */
			uint64_t w = atomic_load_explicit(slot_at(q, e->segment, at),
							  memory_order_acquire);
			enum slot_class c = slot_classify(w, e->inc);

			if (c == CLOSED_FOR_GOOD)
				e->mask &= ~(UINT64_C(1) << at);
			n += c == OPEN_HOLE || c == OPEN_FULL;
		}
	}
	return n;
}

/* ---- admission: how many more items the lane may hold ---------------------------- */

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

SHMQ_API int shmq_pressure(struct shmq *q, int lane, struct shmq_pressure *p)
{
	uint64_t head, depth;

	if (!q || !p)
		return -EFAULT;
	if (!q->map)
		return -ECHILD;
	if (lane < 0 || (uint32_t)lane >= q->geo.nr_lanes)
		return -ECHRNG;
	/* PASS, TICKET: head first, so that the difference is not negative. */
	head = atomic_load_explicit(&lane_of(q, (unsigned)lane)->head, memory_order_acquire);
	depth = atomic_load_explicit(&lane_of(q, (unsigned)lane)->tail, memory_order_acquire) -
		head;
	p->capacity = q->geo.capacity[lane];
	p->depth = depth < p->capacity ? depth : p->capacity;
	level_set(p);
	return 0;
}

static void refuse(struct shmq *q, unsigned lane, uint64_t depth)
{
	q->refused = (struct shmq_pressure){ .depth = depth, .capacity = q->geo.capacity[lane] };
	level_set(&q->refused);
	q->was_refused = true;
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
	*below = strays(q, lane, *g);
	return 1;
}

/*
 * How many of the @n tickets from @tail on are within the capacity: 1..n, 0 if
 * none is, or an error. Exact: see docs/protocol.md, "admit".
 */
static int admit(struct shmq *q, unsigned lane, uint64_t tail, int n)
{
	struct view *v = &q->view[lane];
	uint64_t cap = q->geo.capacity[lane], g, below, pads, pad_max, live;
	int r, tries;

	r = admit_look(q, lane, tail, false, &g, &below);
	if (r < 0)
		return r;
	v->limit = g + cap - below;
	if (!before(v->limit, tail + (unsigned)n))
		return n;
	for (tries = 0; tries < RESTARTS_MAX; tries++) {
		r = admit_look(q, lane, tail, true, &g, &below);
		if (r < 0)
			return r;
		if (r == 0)
			continue;
		/* PADMAX: raised before a PAD is stored. */
		pad_max = atomic_load_explicit(&lane_of(q, lane)->pad_max, memory_order_acquire);
		r = closed_between(q, lane, g, min_ticket(pad_max, tail), &pads);
		if (r < 0)
			return r;
		v->limit = g + cap - below + pads;
		live = tail - g + below - pads;
		if (live >= cap) {
			refuse(q, lane, live);
			return 0;
		}
		return cap - live < (unsigned)n ? (int)(cap - live) : n;
	}
	return -EBADMSG;
}

/* ---- push --------------------------------------------------------------------- */

static void record_set(struct shmq *q, enum record_kind kind, unsigned lane, unsigned n,
		       uint64_t ticket)
{
	/* RECORD -> recovery: PENDING before the ticket exists, EXACT until it is
	 * published, NONE after that. */
	atomic_store_explicit(&q->self->record, record_word(kind, lane, n, ticket),
			      memory_order_release);
}

int lane_pad(struct shmq *q, unsigned lane, uint64_t t, unsigned n,
	     bool (*valid)(struct shmq *, void *), void *arg)
{
	word_t *pad_max = &lane_of(q, lane)->pad_max;
	uint64_t m = atomic_load_explicit(pad_max, memory_order_relaxed), end = t + n;

	/* PADMAX -> admit() */
	while (before(m, end) && !atomic_compare_exchange_weak_explicit(
					 pad_max, &m, end, memory_order_acq_rel,
					 memory_order_relaxed))
		;
	for (; t != end; t++) {
		struct place p;
		uint64_t w;
		int r = segment_of_ticket(q, lane, t >> q->geo.slots_shift, &p);

		if (r == -ENOENT && valid)
			continue; /* closed by somebody, and its segment recycled */
		if (r < 0)
			return r == -ENOENT ? -EBADMSG : r;
		/* RETIRE: an unpublished word is changed by its owner alone, or, as the
		 * owner is dead, by those who recover it: then by CAS. */
		w = atomic_load_explicit(slot_at(q, p.segment, t), memory_order_acquire);
		if (slot_classify(w, p.inc) != OPEN_HOLE)
			continue;
		if (valid && !valid(q, arg))
			return 0;
		atomic_compare_exchange_strong_explicit(
			slot_at(q, p.segment, t), &w, slot_word(p.inc, 0, 0, SLOT_PAD),
			memory_order_acq_rel, memory_order_relaxed);
	}
	return 0;
}

bool lane_settle(struct shmq *q)
{
	uint64_t r = atomic_load_explicit(&q->self->record, memory_order_relaxed);
	unsigned lane = record_lane(r);
	uint64_t tail;

	if (!q->unsettled)
		return true;
	tail = atomic_load_explicit(&lane_of(q, lane)->tail, memory_order_relaxed);
	if (lane_pad(q, lane, record_ticket(r, tail), record_n(r), NULL, NULL) < 0)
		return false;
	record_set(q, RECORD_NONE, 0, 0, 0);
	q->unsettled = false;
	return true;
}

/* Write one item into its slot and publish it. */
static void publish(struct shmq *q, const struct place *p, uint64_t t,
		    const struct iovec *item)
{
	uint64_t slot = slot_index(q, p->segment, t);
	struct descriptor *d = descriptor_of(q, slot);

	if (item->iov_len)
		memcpy(payload_of(q, slot), item->iov_base, item->iov_len);
	/* relaxed: PUBLISH carries them. */
	if (q->geo.flags & SHMQ_STAMP)
		atomic_store_explicit(stamp_of(q, slot), sys_monotonic_ns(),
				      memory_order_relaxed);
	atomic_store_explicit(&d->meta, item->iov_len, memory_order_relaxed);
	POINT("push:written"); /* Dead here: recovery PADs the ticket. */
	/* PUBLISH -> scan: the commit. A plain store: nobody but a recoverer of this
	 * process, once it is dead, writes an unpublished slot. */
	atomic_store_explicit(&d->word, slot_word(p->inc, 0, 0, SLOT_FULL),
			      memory_order_release);
}

/* The segment for the tickets up to @last exists, before a ticket is taken. */
static int push_prepare(struct shmq *q, unsigned lane, uint64_t last)
{
	uint64_t number = last >> q->geo.slots_shift;
	struct place p;
	int r;

	if (likely(q->view[lane].push_at.number == number))
		return 0;
	r = segment_find(q, lane, number, &p);
	if (r != FIND_NOT_INSTALLED)
		return r < 0 ? r : 0;
	r = segment_install(q, lane, number);
	if (r != -ENOBUFS || !recover_all(q, NULL))
		return r;
	return segment_install(q, lane, number); /* the dead have given some back */
}

/* Publish what the ticket @t was taken for: how many got a slot. */
static int push_items(struct shmq *q, unsigned lane, uint64_t t, const struct iovec *items,
		      int n)
{
	struct place *at = &q->view[lane].push_at;
	int i;

	for (i = 0; i < n; i++, t++) {
		uint64_t number = t >> q->geo.slots_shift;

		if (unlikely(at->number != number)) {
			int r = segment_of_ticket(q, lane, number, at);

			if (unlikely(r < 0)) {
				at->number = NUMBER_UNKNOWN;
				return r == -ENOBUFS ? i : -EBADMSG;
			}
		}
		publish(q, at, t, &items[i]);
	}
	return n;
}

/*
 * One ticket draw for up to @n <= slots items: the number pushed; 0 full;
 * -EAGAIN lost a race, try again; -EBADMSG, -ENOMEM.
 */
static int push_run(struct shmq *q, unsigned lane, const struct iovec *items, int n)
{
	struct lane *l = lane_of(q, lane);
	struct view *v = &q->view[lane];
	uint64_t t, tail, slack = 2 * (uint64_t)q->geo.max_participants;
	int admitted, done, r;
	bool near = false;

	__builtin_prefetch(&l->tail, 1);
	tail = atomic_load_explicit(&l->tail, memory_order_acquire); /* TICKET */
	if (unlikely(before(v->limit, tail + (unsigned)n + slack))) {
		n = admit(q, lane, tail, n);
		if (n <= 0)
			return n;
		near = before(v->limit, tail + (unsigned)n + slack);
	}
	r = push_prepare(q, lane, tail + (unsigned)n - 1);
	if (unlikely(r < 0)) {
		if (r == -ENOBUFS)
			refuse(q, lane, tail - atomic_load_explicit(&l->head,
								    memory_order_relaxed));
		return r == -ENOBUFS ? 0 : r;
	}
	record_set(q, RECORD_PENDING, lane, (unsigned)n, tail);
	POINT("push:pending"); /* Dead here: no ticket, or one that no record names. */
	/* TICKET: the record is seen by whoever sees the ticket. Close to the limit
	 * the ticket must be the one that was admitted. */
	if (unlikely(near)) {
		t = tail;
		if (!atomic_compare_exchange_strong_explicit(&l->tail, &t, tail + (unsigned)n,
							     memory_order_acq_rel,
							     memory_order_relaxed)) {
			record_set(q, RECORD_NONE, 0, 0, 0);
			return -EAGAIN;
		}
	} else {
		t = atomic_fetch_add_explicit(&l->tail, (uint64_t)n, memory_order_acq_rel);
	}
	POINT("push:ticket"); /* Dead here: recovery finds it between low and tail. */
	record_set(q, RECORD_EXACT, lane, (unsigned)n, t);
	POINT("push:exact"); /* Dead here: recovery PADs what is not published. */
	admitted = n;
	if (unlikely(before(v->limit, t + (unsigned)n))) {
		admitted = admit(q, lane, t, n);
		if (admitted < 0)
			admitted = 0;
	}
	done = push_items(q, lane, t, items, admitted);
	if (unlikely(done < admitted)) { /* no segment: the record keeps the tickets */
		q->unsettled = true;
		return done;
	}
	if (unlikely(admitted < n) &&
	    lane_pad(q, lane, t + (unsigned)admitted, (unsigned)(n - admitted), NULL, NULL) < 0)
		q->unsettled = true;
	else
		record_set(q, RECORD_NONE, 0, 0, 0);
	POINT("push:done"); /* Dead here: pushed; sleepers look again within a slice. */
	return admitted;
}

int lane_push(struct shmq *q, unsigned lane, const struct iovec *items, int n)
{
	struct tally *tally = &q->self->tally[lane];
	int done = 0, tries = 0, r;

	if (unlikely(q->unsettled) && !lane_settle(q))
		return 0;
	while (done < n) {
		int run = n - done;

		if (run > (int)q->geo.slots)
			run = (int)q->geo.slots;
		r = push_run(q, lane, items + done, run);
		if (r == -EAGAIN && ++tries < RESTARTS_MAX)
			continue;
		if (unlikely(r <= 0)) {
			if (done == 0 && r < 0)
				return r == -EAGAIN ? -EBADMSG : r;
			break;
		}
		done += r;
		if (r < run)
			break;
	}
	tally_add(&tally->pushed, (uint64_t)done);
	return done;
}

/* ---- take --------------------------------------------------------------------- */

enum { TRY_LOST = 2 };

/* Try to take the FULL slot of ticket @ticket whose word was @w: 1 it is ours;
 * TRY_LOST somebody was faster; -EMSGSIZE; -EBADMSG. */
static int try_take(struct shmq *q, const struct place *p, uint64_t ticket, uint64_t w,
		    size_t room, struct taken *t)
{
	uint64_t slot = slot_index(q, p->segment, ticket);
	struct descriptor *d = descriptor_of(q, slot);
	/* relaxed: read before the word is won, valid if it is won. */
	uint64_t len = atomic_load_explicit(&d->meta, memory_order_relaxed);

	t->len = (uint32_t)len;
	if (unlikely(len > room || len > q->geo.item_size)) {
		/* PUBLISH: is it still this item that is too long? */
		if (atomic_load_explicit(&d->word, memory_order_acquire) != w)
			return TRY_LOST;
		return len > q->geo.item_size ? -EBADMSG : -EMSGSIZE;
	}
	/* TAKE, and PUBLISH: whoever sees the word knows who holds the item.
	 * seq_cst: the load of the room word in wake() must not come before it.
	 * Dead after it: recovery makes the item FULL again. */
	if (!atomic_compare_exchange_strong_explicit(
		    &d->word, &w, slot_word(p->inc, slot_attempts(w), q->me, SLOT_TAKEN),
		    memory_order_seq_cst, memory_order_relaxed))
		return TRY_LOST;
	POINT("take:won");
	t->ticket = ticket;
	t->slot = slot;
	t->inc = p->inc;
	t->segment = p->segment;
	t->attempts = slot_attempts(w);
	return 1;
}

/* One look at a lane. */
struct scan {
	uint64_t from, to;   /* tickets of the main scan */
	uint64_t holes;      /* how many were seen, watched ones too */
	uint64_t first_hole; /* the oldest hole of the main scan that is not marked, */
	bool unmarked;       /* if there is one */
	bool passed;         /* holes were marked: head should follow */
	bool uninstalled;    /* it ended at @end, whose segment is not installed */
	bool look;           /* do not take: a FULL slot ends it with -EAGAIN */
	uint64_t end;
};

/* The watched tickets below @sc->from, oldest first. 1 taken, 0 none; errors. */
static int take_watched(struct shmq *q, unsigned lane, size_t room, struct scan *sc,
			struct taken *t)
{
	struct view *v = &q->view[lane];
	uint32_t i;

	for (i = 0; i < v->nr_watched; i++) {
		struct watched *e = &v->watched[i];
		struct place p = { .segment = e->segment, .inc = e->inc };
		uint64_t m = watched_below(e, sc->from);

		while (m) {
			unsigned at = (unsigned)__builtin_ctzll(m);
			/* PUBLISH, TAKE, RETIRE */
			uint64_t w = atomic_load_explicit(slot_at(q, p.segment, at),
							  memory_order_acquire);
			enum slot_class c = slot_classify(w, p.inc);

			if (c == OPEN_FULL) {
				int r = sc->look ? -EAGAIN :
						   try_take(q, &p, e->first + at, w, room, t);

				if (r == TRY_LOST)
					continue;
				return r;
			}
			if (c == CLOSED_FOR_GOOD)
				e->mask &= ~(UINT64_C(1) << at);
			sc->holes += c == OPEN_HOLE;
			m &= m - 1;
		}
	}
	return 0;
}

/* Resolve the segment of ticket @j for the scan: 1 v->pop_at is it, 0 it is not
 * installed, -EAGAIN it is superseded: head has moved, start again; -EBADMSG. */
static int scan_place(struct shmq *q, unsigned lane, uint64_t j)
{
	struct place *at = &q->view[lane].pop_at;
	uint64_t number = j >> q->geo.slots_shift;
	struct place p;
	int r;

	if (likely(at->number == number && !at->recycled))
		return 1;
	r = segment_find(q, lane, number, &p);
	if (r < 0)
		return r;
	if (r == FIND_SUPERSEDED)
		return -EAGAIN;
	if (r == FIND_NOT_INSTALLED)
		return 0;
	*at = p;
	return 1;
}

/* Re-read a hole for a moment: its producer is usually some nanoseconds away. */
static enum slot_class await_hole(struct shmq *q, const struct place *p, uint64_t j, int *spin)
{
	enum slot_class c;

	for (;;) {
		/* PUBLISH, TAKE, RETIRE */
		c = slot_classify(atomic_load_explicit(slot_at(q, p->segment, j),
						       memory_order_acquire), p->inc);
		if (c != OPEN_HOLE || --*spin < 0)
			return c;
		cpu_relax();
	}
}

/*
 * A FULL slot was seen at @to behind unmarked holes. Mark those that are still
 * holes, so that head may pass them. Returns the oldest ticket up to @to that
 * is FULL now in *@first. 1; -EAGAIN, -EBADMSG.
 */
static int pass_holes(struct shmq *q, unsigned lane, struct scan *sc, uint64_t to,
		      uint64_t *first)
{
	bool marked = false;
	int spin = SPIN_AT_HOLE;
	uint64_t j;

	for (j = sc->first_hole; before(j, to); j++) {
		struct place p;
		enum slot_class c;
		int r = segment_find(q, lane, j >> q->geo.slots_shift, &p);

		if (r != FIND_OK)
			return r < 0 ? r : -EAGAIN;
		if (p.recycled)
			continue;
		c = await_hole(q, &p, j, &spin);
		if (c == OPEN_FULL)
			break;
		if (c == OPEN_HOLE) {
			segment_mark(q, lane, p.segment);
			marked = true;
		}
	}
	if (marked)
		gen_count(lane_of(q, lane));
	POINT("take:marked"); /* Dead here: false hints, nothing more. */
	*first = j;
	sc->unmarked = false;
	sc->passed |= marked;
	return 1;
}

/* The tickets [sc->from, sc->to) in order. 1 taken; 0 none; -EAGAIN; errors. */
static int take_scanned(struct shmq *q, unsigned lane, size_t room, struct scan *sc,
			struct taken *t)
{
	struct place *at = &q->view[lane].pop_at;
	uint64_t j = sc->from;

	while (before(j, sc->to)) {
		enum slot_class c;
		uint64_t w;
		int r = scan_place(q, lane, j);

		if (unlikely(r <= 0)) {
			sc->uninstalled = r == 0;
			sc->end = j;
			return r;
		}
		if (unlikely(at->recycled)) {
			j = (at->number + 1) << q->geo.slots_shift;
			continue;
		}
		/* PUBLISH, TAKE, RETIRE */
		w = atomic_load_explicit(slot_at(q, at->segment, j), memory_order_acquire);
		c = slot_classify(w, at->inc);
		if (likely(c == OPEN_FULL)) {
			if (sc->look)
				return -EAGAIN;
			if (unlikely(sc->unmarked)) {
				uint64_t first;

				r = pass_holes(q, lane, sc, j, &first);
				if (r < 0)
					return r;
				if (first != j) { /* an older one was published just now */
					j = first;
					continue;
				}
			}
			r = try_take(q, at, j, w, room, t);
			if (likely(r != TRY_LOST))
				return r;
			continue;
		}
		if (c == OPEN_HOLE) {
			if (!sc->unmarked)
				sc->first_hole = j;
			sc->unmarked = true;
			sc->holes++;
		}
		j++;
	}
	sc->end = max_ticket(j, sc->from);
	return 0;
}

/*
 * Nothing was found: is that the truth? Read the holes once more. Slots move one
 * way only, so the same number of holes means the same holes, and then nothing
 * waited at the instant between the two reads.
 */
static bool empty_confirm(struct shmq *q, unsigned lane, const struct scan *first)
{
	struct scan again = { .from = first->from, .to = first->to, .look = true };
	struct taken unused;

	return take_watched(q, lane, 0, &again, &unused) == 0 &&
	       take_scanned(q, lane, 0, &again, &unused) == 0 &&
	       again.holes == first->holes && again.end == first->end;
}

int lane_take(struct shmq *q, unsigned lane, size_t room, struct taken *t)
{
	struct lane *l = lane_of(q, lane);
	struct view *v = &q->view[lane];
	int r, tries;

	t->lane = lane;
	for (tries = 0; tries < RESTARTS_MAX; tries++) {
		/* t0 was read before this: tail, head, gen, marks, slots. */
		uint64_t h = atomic_load_explicit(&l->head, memory_order_acquire); /* PASS */
		uint64_t g = atomic_load_explicit(&l->gen, memory_order_acquire);  /* MARK */
		struct scan sc = { .from = max_ticket(h, v->start), .to = v->t0 };
		uint64_t tail;

		r = watch_refresh(q, lane, g, h);
		if (unlikely(r < 0))
			return r;
		if (unlikely(v->nr_watched)) {
			r = take_watched(q, lane, room, &sc, t);
			if (r)
				return r;
		}
		r = take_scanned(q, lane, room, &sc, t);
		if (likely(r == 1)) {
			v->start = t->ticket + 1;
			if (sc.passed || v->start - h >= HEAD_LAG)
				head_raise(l, v->start);
			return 1;
		}
		if (r == -EAGAIN)
			continue;
		if (r < 0)
			return r;
		v->start = max_ticket(v->start, sc.unmarked ? sc.first_hole : sc.end);
		tail = atomic_load_explicit(&l->tail, memory_order_acquire); /* TICKET */
		if (tail != v->t0) {
			v->t0 = tail;
			continue;
		}
		if (unlikely(sc.holes || sc.uninstalled) && !empty_confirm(q, lane, &sc))
			continue;
		if (before(h, v->start))
			head_raise(l, v->start);
		return 0;
	}
	return -EBADMSG;
}

void lane_finish(struct shmq *q, const struct taken *t)
{
	struct view *v = &q->view[t->lane];

	/* RETIRE -> segment_retire(): we are done with the slot. Dead before it:
	 * delivered again; dead after it: consumed. */
	atomic_store_explicit(&descriptor_of(q, t->slot)->word,
			      slot_word(t->inc, t->attempts, 0, SLOT_DONE),
			      memory_order_release);
	POINT("finish:done"); /* Dead here: consumed; a drained segment is found by word. */
	if (likely((t->ticket + 1) & (q->geo.slots - 1)))
		return;
	/* The last slot: others may still be busy in the segment, so try again with
	 * the next one. What all miss is found when the pool runs dry. */
	if (v->retire_later.number != NUMBER_UNKNOWN)
		segment_retire(q, v->retire_later.segment, v->retire_later.inc);
	v->retire_later = (struct place){ .number = t->ticket >> q->geo.slots_shift,
					  .segment = t->segment, .inc = t->inc };
	if (segment_retire(q, t->segment, t->inc))
		v->retire_later.number = NUMBER_UNKNOWN;
}

#ifdef SHMQ_POINTS
void (*shmq_point_hook)(const char *name);
#endif
