/* SPDX-License-Identifier: MIT */
/*
 * take.c - find the oldest item and make it ours. docs/protocol.md, "take".
 *
 * The hard thing first: nobody waits for a producer that has drawn a ticket and
 * not published. A consumer steps over the hole; but before it takes anything
 * behind it, it reads the hole once more and marks its segment. All order in
 * this file comes down to: tail, then head, then gen and marks, then slots; and
 * mark, then gen, then take, then head.
 *
 * Why a hole is read twice: the tickets of a batch are drawn together and
 * published one after the other, so the first may have been read as a hole just
 * before, and a later one as FULL just after, the batch was published.
 *
 * A process that dies here leaves false marks, or a slot TAKEN by it, which
 * recovery makes FULL again.
 */
#include "handle.h"
#include "lane.h"
#include "point.h"
#include "recover.h"
#include "segment.h"
#include "wait.h"

#define LOOK (SIZE_MAX - 1) /* room for nothing: no item is taken, whatever its length */
#define SPIN_AT_HOLE 64  /* re-reads of a hole before it is passed */
#define SPIN_FOR_NEXT 24 /* re-reads of the next slot before tail is read, */
#define PAUSE_FOR_NEXT 2 /* and pauses between them: a look takes the line away */
#define PEEK 4           /* slots looked at before tail is */
#define NEAR 8           /* items taken behind t0 where a look found only one */
#define HOT 4            /* empty looks that still wait after the last item, halved each time */

enum { TRY_LOST = 2 };

/* Try to take the FULL slot of ticket @ticket whose word was @w: 1 it is ours;
 * TRY_LOST somebody was faster; -EMSGSIZE; -EBADMSG. */
static inline int try_take(struct shmq *q, const struct place *p, uint64_t ticket, uint64_t w,
		    size_t room, struct taken *t)
{
	struct descriptor *d = p->descriptors + spread(q, ticket);
	/* relaxed: read before the word is won, valid if it is won. */
	uint32_t len = meta_len(atomic_load_explicit(&d->meta, memory_order_relaxed));

	t->len = len;
	if (unlikely(len > room || len > q->geo.item_size || room == LOOK)) {
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
	t->word = &d->word;
	t->payload = p->payload + (ticket & (q->geo.slots - 1)) * q->geo.slot_bytes;
	t->inc = p->inc;
	t->segment = p->segment;
	t->attempts = slot_attempts(w);
	return 1;
}

/* One look at a lane. */
struct scan {
	uint64_t from, to;   /* tickets of the main scan */
	uint64_t holes;      /* how many were seen, watched ones too */
	bool watched_holes;  /* some of them among the watched tickets */
	uint64_t first_hole; /* the oldest hole of the main scan that is not marked, */
	bool unmarked;       /* if there is one */
	bool passed;         /* holes were marked: head should follow */
	bool uninstalled;    /* it ended at @end, whose segment is not installed */
	bool look;           /* do not take: a FULL slot ends it with -EAGAIN */
	uint64_t end;
};

/* The watched tickets below @sc->from, oldest first. 1 taken, 0 none; -EAGAIN an
 * older one was published meanwhile; errors. */
static int take_watched(struct shmq *q, unsigned lane, size_t room, struct scan *sc,
			struct taken *t)
{
	struct view *v = &q->view[lane];
	uint32_t i;

	for (i = 0; i < v->nr_watched; i++) {
		struct watched *e = &v->watched[i];
		struct place p = place_of(q, 0, e->segment, e->inc);
		uint64_t m = watched_below(e, sc->from);

		while (m) {
			unsigned at = (unsigned)__builtin_ctzll(m);
			/* PUBLISH, TAKE, RETIRE */
			uint64_t w = atomic_load_explicit(slot_at(q, p.segment, at),
							  memory_order_acquire);
			enum slot_class c = slot_classify(w, p.inc);

			if (c == OPEN_FULL) {
				int r;

				if (sc->look || (sc->watched_holes &&
						 watch_full(q, lane, e->first + at)))
					return -EAGAIN;
				r = try_take(q, &p, e->first + at, w, room, t);
				if (r == TRY_LOST)
					continue;
				return r;
			}
			if (c == CLOSED_FOR_GOOD)
				e->mask &= ~(UINT64_C(1) << at);
			sc->holes += c == OPEN_HOLE;
			sc->watched_holes |= c == OPEN_HOLE;
			m &= m - 1;
		}
	}
	watch_prune(q, v);
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
 * A FULL slot was seen at @to behind unmarked holes. Read them again: one is FULL
 * now, then start again, for the holes before it may have been filled too. Else
 * mark them, so that head may pass. 1; -EAGAIN; -EBADMSG.
 */
static int pass_holes(struct shmq *q, unsigned lane, struct scan *sc, uint64_t to)
{
	bool marked = false;
	int spin = SPIN_AT_HOLE, r = 1;
	uint64_t j;

	for (j = sc->first_hole; before(j, to); j++) {
		struct place p;
		enum slot_class c;

		r = segment_find(q, lane, j >> q->geo.slots_shift, &p);
		if (r != FIND_OK) {
			r = r < 0 ? r : -EAGAIN;
			break;
		}
		r = 1;
		if (p.recycled)
			continue;
		c = await_hole(q, &p, j, &spin);
		if (c == OPEN_FULL) {
			r = -EAGAIN;
			break;
		}
		if (c == OPEN_HOLE) {
			segment_mark(q, lane, p.segment);
			marked = true;
		}
	}
	if (marked)
		gen_count(lane_of(q, lane));
	POINT("take:marked"); /* Dead here: false hints, nothing more. */
	sc->unmarked = false;
	sc->passed |= marked;
	return r;
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
		w = atomic_load_explicit(&at->descriptors[spread(q, j)].word,
					 memory_order_acquire);
		c = slot_classify(w, at->inc);
		if (likely(c == OPEN_FULL)) {
			if (sc->look)
				return -EAGAIN;
			if (unlikely(sc->unmarked)) {
				r = pass_holes(q, lane, sc, j);
				if (r < 0)
					return r;
			}
			if (unlikely(sc->watched_holes) && watch_full(q, lane, sc->from))
				return -EAGAIN;
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

/*
 * The scan has used up t0. Reading tail takes its line from the producers, so
 * first look at the next slots themselves: FULL there means that tail was beyond
 * them, which is all that t0 says. If items came lately, wait a moment for one.
 * With more than a few there the producers are far ahead, and tail is worth it.
 */
static bool t0_by_peek(struct shmq *q, unsigned lane, bool alone)
{
	struct view *v = &q->view[lane];
	struct place *at = &v->pop_at;
	uint64_t j = v->start, end = ((j >> q->geo.slots_shift) + 1) << q->geo.slots_shift;
	int rounds = alone && v->hot ? SPIN_FOR_NEXT : 0, i;

	if (scan_place(q, lane, j) != 1 || at->recycled)
		return false;
	end = min_ticket(end, j + PEEK);
	for (;;) {
		int none = 0;

		while (before(j, end) && await_hole(q, at, j, &none) == OPEN_FULL)
			j++;
		if (j != v->start || rounds-- <= 0)
			break;
		for (i = 0; i < PAUSE_FOR_NEXT; i++)
			cpu_relax();
	}
	if (j == v->start || j - v->start == PEEK)
		return false;
	v->t0 = j;
	return true;
}

static int take_long(struct shmq *q, unsigned lane, size_t room, bool alone, struct taken *t)
{
	struct lane *l = lane_of(q, lane);
	struct view *v = &q->view[lane];
	int r, tries;

	if (!lane_quiet(v)) /* something was found since */
		v->hot = HOT;
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
			if (r == -EAGAIN)
				continue;
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
		/* Watched holes are no reason not to: they are looked at each time. */
		if (!sc.unmarked && !sc.uninstalled &&
		    ((room != LOOK && distance_keep(q, lane, alone)) ||
		     t0_by_peek(q, lane, alone)))
			continue;
		tail = atomic_load_explicit(&l->tail, memory_order_acquire); /* TICKET */
		if (tail != v->t0) {
			v->t0 = tail;
			continue;
		}
		if (unlikely(sc.holes || sc.uninstalled) && !empty_confirm(q, lane, &sc))
			continue;
		if (before(h, v->start))
			head_raise(l, v->start);
		v->hot = alone ? v->hot / 2 : 0;
		v->idle = v->start;
		return 0;
	}
	return -EBADMSG;
}

int lane_look(struct shmq *q, unsigned lane)
{
	struct taken t;
	int r = lane_take(q, lane, LOOK, false, &t);

	return r == -EMSGSIZE ? 1 : r;
}

int lane_take(struct shmq *q, unsigned lane, size_t room, bool alone, struct taken *t)
{
	struct view *v = &q->view[lane];
	int r;

	t->lane = lane;
	r = take_long(q, lane, room, alone, t);
	v->long_takes += r == 1;
	v->pop = window_of(q, &v->pop_at, v->t0);
	v->near_left = r == 1 && v->pop.n && !before(v->start, v->t0) ? NEAR : 0;
	return r;
}

void take_edge(struct shmq *q, unsigned lane, uint64_t i, bool finished)
{
	struct view *v = &q->view[lane];

	head_raise(v->lane, v->start);
	v->distance.lost -= v->distance.lost > 0;
	if (i + 1 == q->geo.slots) {
		if (finished)
			lane_left(q, lane, v->start - 1, v->pop_at.segment, v->pop_at.inc);
		if (before(v->start, v->t0) && scan_place(q, lane, v->start) == 1)
			v->pop = window_of(q, &v->pop_at, v->t0);
	}
	recover_probe(q); /* who only works looks for the dead as well */
}

void lane_left(struct shmq *q, unsigned lane, uint64_t ticket, uint32_t segment, uint64_t inc)
{
	struct place *later = &q->view[lane].retire_later;

	/* Others may still be busy in the segment, so try again with the next one.
	 * What all miss is found when the pool runs dry. */
	if (later->number != NUMBER_UNKNOWN)
		segment_retire(q, later->segment, later->inc);
	*later = place_of(q, ticket >> q->geo.slots_shift, segment, inc);
	if (segment_retire(q, segment, inc))
		later->number = NUMBER_UNKNOWN;
}

void lane_finish(struct shmq *q, const struct taken *t)
{
	/* RETIRE -> segment_retire(): we are done with the slot. Dead before it:
	 * delivered again; dead after it: consumed. */
	atomic_store_explicit(t->word, slot_word(t->inc, t->attempts, 0, SLOT_DONE),
			      memory_order_release);
	POINT("finish:done"); /* Dead here: consumed; a drained segment is found by word. */
	if (((t->ticket + 1) & (q->geo.slots - 1)) == 0)
		lane_left(q, t->lane, t->ticket, t->segment, t->inc);
}

void lane_requeue(struct shmq *q, const struct taken *t)
{
	if (t->attempts == SLOT_ATTEMPTS_MAX) {
		lane_drop(q, t);
		return;
	}
	lane_mark(q, t->lane, t->segment); /* head may have passed it */
	POINT("requeue:marked"); /* Dead here: recovery does the same. */
	/* PUBLISH -> scan: the item as it was, one attempt later. */
	atomic_store_explicit(t->word, slot_word(t->inc, t->attempts + 1, 0, SLOT_FULL),
			      memory_order_release);
	POINT("requeue:full");
	wake(q, WAIT_ITEMS, t->lane, 1);
}

void lane_drop(struct shmq *q, const struct taken *t)
{
	lane_finish(q, t);
	tally_add(&q->self->tally[t->lane].dropped, 1);
}

bool lane_dead_letter(struct shmq *q, const struct taken *t)
{
	if (q->geo.dead_lane == SHMQ_DROP)
		lane_drop(q, t);
	else if (t->lane == (unsigned)q->geo.dead_lane ||
		 !lane_move(q, t, (unsigned)q->geo.dead_lane))
		return false;
	wake(q, WAIT_ROOM, t->lane, 1);
	return true;
}
