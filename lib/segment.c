/* SPDX-License-Identifier: MIT */
/*
 * segment.c - the pool: which segment serves which number of which lane.
 *
 * Owns the header and binding of every segment, the directories, the free hints, the
 * mark bits and the map of PADs. Invariant: a (lane, number) that was ever visible in
 * a directory is bound to one (segment, incarnation) for ever. It rests on the order
 * in segment_install_one(): take the segment first, then look whether the number was
 * installed meanwhile; install numbers in order; replace an entry only behind head.
 *
 * A process that dies here leaves a segment OWNED by it (segment_disown() settles
 * that), a missing free hint (the search by words finds the segment), or an
 * installation that everyone who resolves the number completes.
 */
#include "segment.h"
#include "lane.h"

static word_t *map_word(word_t *map, uint32_t s)
{
	return map + s / 64;
}

static uint64_t map_bit(uint32_t s)
{
	return UINT64_C(1) << s % 64;
}

static bool map_get(word_t *map, uint32_t s)
{
	/* MARK, PADS */
	return atomic_load_explicit(map_word(map, s), memory_order_acquire) & map_bit(s);
}

static void map_set(word_t *map, uint32_t s)
{
	if (!map_get(map, s)) /* MARK, PADS */
		atomic_fetch_or_explicit(map_word(map, s), map_bit(s), memory_order_acq_rel);
}

static void map_clear(word_t *map, uint32_t s)
{
	if (map_get(map, s)) /* MARK, PADS: the next life starts without */
		atomic_fetch_and_explicit(map_word(map, s), ~map_bit(s), memory_order_acq_rel);
}

bool segment_marked(struct shmq *q, unsigned lane, uint32_t s)
{
	return map_get(marks_of(q, lane), s); /* whoever set it goes on to count it in gen */
}

void segment_mark(struct shmq *q, unsigned lane, uint32_t s)
{
	map_set(marks_of(q, lane), s); /* MARK -> watch_refresh() */
}

bool segment_has_pads(struct shmq *q, unsigned lane, uint32_t s)
{
	return map_get(pads_of(q, lane), s);
}

void segment_set_pads(struct shmq *q, unsigned lane, uint32_t s)
{
	map_set(pads_of(q, lane), s); /* PADS -> admit() */
}

/* Marks of earlier lives are wiped while the segment is ours and unbound: a mark
 * that matters is set after BIND and before the segment is retired. */
static void marks_clear(struct shmq *q, uint32_t s)
{
	uint32_t lane;

	for (lane = 0; lane < q->geo.nr_lanes; lane++) {
		map_clear(marks_of(q, lane), s);
		map_clear(pads_of(q, lane), s);
	}
}

static void hint_set(struct shmq *q, uint32_t s)
{
	/* relaxed: a hint; the header decides. */
	atomic_fetch_or_explicit(map_word(hints_of(q), s), map_bit(s), memory_order_relaxed);
}

/* ---- reading ---------------------------------------------------------------- */

bool segment_binding(struct shmq *q, uint32_t s, uint64_t *hdr, unsigned *lane,
		     uint64_t *number)
{
	struct segment *seg = segment_of(q, s);
	/* Header, binding, header again: equal incarnations frame the binding. */
	uint64_t h = atomic_load_explicit(&seg->hdr, memory_order_acquire);	/* BIND */
	uint64_t b = atomic_load_explicit(&seg->bind, memory_order_acquire);	/* BIND */
	uint64_t again = atomic_load_explicit(&seg->hdr, memory_order_acquire); /* BIND */

	*hdr = again;
	*lane = bind_lane(b);
	*number = bind_number(b);
	return segment_inc(h) == segment_inc(again) && bind_matches(b, segment_inc(again)) &&
	       bind_lane(b) < q->geo.nr_lanes;
}

bool segment_serves(struct shmq *q, uint32_t s, uint64_t *hdr, unsigned *lane, uint64_t *number)
{
	if (!segment_binding(q, s, hdr, lane, number))
		return false;
	if (segment_state(*hdr) != SEGMENT_OWNED)
		return segment_state(*hdr) == SEGMENT_ACTIVE;
	/* BIND */
	return atomic_load_explicit(dir_of(q, *lane, *number), memory_order_acquire) ==
	       dir_word(*number, s);
}

/* BIND: an installation whose entry is visible is complete but for this word. */
static void segment_activate(struct shmq *q, uint32_t s, uint64_t hdr)
{
	if (segment_state(hdr) == SEGMENT_OWNED) /* BIND */
		atomic_compare_exchange_strong_explicit(
			&segment_of(q, s)->hdr, &hdr,
			segment_word(segment_inc(hdr), 0, SEGMENT_ACTIVE),
			memory_order_acq_rel, memory_order_relaxed);
}

int segment_find(struct shmq *q, unsigned lane, uint64_t number, struct place *p)
{
	/* BIND: the entry was put there after header and binding. */
	uint64_t d = atomic_load_explicit(dir_of(q, lane, number), memory_order_acquire);
	int64_t diff = number_diff(dir_number(d), number);
	uint64_t hdr, bound;
	bool recycled;
	unsigned l;

	if (diff)
		return diff < 0 ? FIND_NOT_INSTALLED : FIND_SUPERSEDED;
	if (unlikely(dir_segment(d) >= q->geo.nr_segments))
		return -EBADMSG;
	recycled = !segment_binding(q, dir_segment(d), &hdr, &l, &bound) || l != lane ||
		   number_diff(bound, number);
	*p = place_of(q, number, dir_segment(d), segment_inc(hdr));
	p->recycled = recycled;
	if (!recycled)
		segment_activate(q, p->segment, hdr);
	return FIND_OK;
}

static bool installed(struct shmq *q, unsigned lane, uint64_t number)
{
	/* BIND */
	uint64_t d = atomic_load_explicit(dir_of(q, lane, number), memory_order_acquire);

	return number_diff(dir_number(d), number) >= 0;
}

/* An open ticket pins its segment, so the binding names it: look at all. */
static int segment_search(struct shmq *q, unsigned lane, uint64_t number, struct place *p)
{
	uint64_t hdr, bound;
	unsigned l;
	uint32_t s;

	for (s = 0; s < q->geo.nr_segments; s++) {
		if (!segment_binding(q, s, &hdr, &l, &bound) || l != lane ||
		    number_diff(bound, number) || segment_state(hdr) != SEGMENT_ACTIVE)
			continue;
		*p = place_of(q, number, s, segment_inc(hdr));
		return 0;
	}
	return -ENOENT;
}

int segment_of_ticket(struct shmq *q, unsigned lane, uint64_t number, struct place *p)
{
	uint64_t tries;

	for (tries = 0; tries < q->geo.dir_size[lane]; tries++) {
		int r = segment_find(q, lane, number, p);

		if (r < 0)
			return r;
		if (r == FIND_OK)
			return p->recycled ? -ENOENT : 0;
		if (r == FIND_SUPERSEDED)
			return segment_search(q, lane, number, p);
		r = segment_install(q, lane, number);
		if (r < 0)
			return r;
	}
	return -EBADMSG; /* installed, and not there: the directory lies */
}

/* ---- retiring and allocating -------------------------------------------------- */

bool segment_retire(struct shmq *q, uint32_t s, uint64_t inc)
{
	uint64_t expected = segment_word(inc, 0, SEGMENT_ACTIVE);
	uint64_t done = slot_word(inc, 0, 0, SLOT_DONE);
	struct descriptor *d = descriptor_of(q, slot_index(q, s, 0));
	uint32_t i;

	for (i = 0; i < q->geo.slots; i++) {
		/* RETIRE: its last user is done with the slot. */
		uint64_t w = atomic_load_explicit(&d[i].word, memory_order_acquire);

		if (unlikely(w != done) && slot_classify(w, inc) != CLOSED_FOR_GOOD)
			return false;
	}
	/* REUSE -> segment_take(): all uses of the slots happen before the next life.
	 * Dead here: FREE without a hint, found by word. */
	if (!atomic_compare_exchange_strong_explicit(&segment_of(q, s)->hdr, &expected,
						     segment_word(inc, 0, SEGMENT_FREE),
						     memory_order_acq_rel,
						     memory_order_relaxed))
		return false;
	hint_set(q, s);
	return true;
}

/* Make a free segment ours, in its next incarnation, stored in *@inc. */
static bool segment_take(struct shmq *q, uint32_t s, uint64_t *inc)
{
	/* REUSE */
	uint64_t hdr = atomic_load_explicit(&segment_of(q, s)->hdr, memory_order_acquire);

	if (segment_state(hdr) != SEGMENT_FREE)
		return false;
	*inc = segment_inc(hdr) + 1;
	/* REUSE. Dead here: OWNED by the dead, not installed: segment_disown(). */
	return atomic_compare_exchange_strong_explicit(
		&segment_of(q, s)->hdr, &hdr, segment_word(*inc, q->me, SEGMENT_OWNED),
		memory_order_acq_rel, memory_order_relaxed);
}

/* Undo a take. The binding is voided too: it must never seem to fit an
 * incarnation that it was not written for. */
static void segment_put(struct shmq *q, uint32_t s, uint64_t inc)
{
	/* relaxed: the segment is still ours; REUSE publishes it. */
	atomic_store_explicit(&segment_of(q, s)->bind, bind_word(0, LANE_NONE, inc),
			      memory_order_relaxed);
	/* REUSE */
	atomic_store_explicit(&segment_of(q, s)->hdr, segment_word(inc, 0, SEGMENT_FREE),
			      memory_order_release);
	hint_set(q, s);
}

/*
 * The hints are searched from where the last allocation of anybody ended, so that
 * segments are used in the order of their addresses and each as late as can be:
 * by then its lines have left the caches of the consumer, and neighbours can be
 * fetched ahead.
 */
static bool alloc_by_hint(struct shmq *q, uint32_t *s, uint64_t *inc)
{
	word_t *cursor = &wakeup_of(q)->alloc_at;
	uint32_t n = q->geo.nr_segments, tried = 0;
	/* relaxed: a hint, checked before use. */
	uint32_t at = (uint32_t)(atomic_load_explicit(cursor, memory_order_relaxed) % n);

	while (tried < n) {
		word_t *map = map_word(hints_of(q), at);
		/* relaxed: a hint; segment_take() decides. */
		uint64_t w = atomic_load_explicit(map, memory_order_relaxed) &
			     ~(map_bit(at) - 1);
		uint32_t end = (at | 63) + 1;

		if (w) {
			*s = (at & ~63u) + (uint32_t)__builtin_ctzll(w);
			end = *s + 1;
			if (*s < n &&
			    atomic_fetch_and_explicit(map, ~map_bit(*s), memory_order_relaxed) &
				    map_bit(*s) &&
			    segment_take(q, *s, inc)) {
				atomic_store_explicit(cursor, end, memory_order_relaxed);
				return true;
			}
		}
		tried += end - at;
		at = end < n ? end : 0;
	}
	return false;
}

/* No hint left: look at every segment, and retire those that are done with. */
static bool alloc_by_word(struct shmq *q, uint32_t *s, uint64_t *inc)
{
	for (*s = 0; *s < q->geo.nr_segments; ++*s) {
		/* REUSE */
		uint64_t hdr = atomic_load_explicit(&segment_of(q, *s)->hdr,
						    memory_order_acquire);

		if (segment_state(hdr) == SEGMENT_ACTIVE &&
		    !segment_retire(q, *s, segment_inc(hdr)))
			continue;
		if (segment_state(hdr) != SEGMENT_OWNED && segment_take(q, *s, inc))
			return true;
	}
	return false;
}

/* ---- installing --------------------------------------------------------------- */

/* 0 @number is installed, by us or by somebody; -ENOBUFS; -EBADMSG. */
static int segment_install_one(struct shmq *q, unsigned lane, uint64_t number)
{
	word_t *entry = dir_of(q, lane, number);
	uint64_t inc, d, old, head, oldest;
	uint32_t s, was;

	if (!alloc_by_hint(q, &s, &inc) && !alloc_by_word(q, &s, &inc))
		return -ENOBUFS;
	marks_clear(q, s);
	/* BIND: read after the segment is ours, so that a number that was installed
	 * and passed before can not be bound a second time. */
	d = atomic_load_explicit(entry, memory_order_acquire);
	/* PASS: an entry is replaced only when everything under it is below head. */
	head = atomic_load_explicit(&lane_of(q, lane)->head, memory_order_acquire);
	oldest = (number - q->geo.dir_size[lane] + 1) << q->geo.slots_shift;
	if (unlikely((int64_t)(head - oldest) < 0) && number_diff(dir_number(d), number) < 0)
		head = lane_make_way(q, lane, oldest);
	if (number_diff(dir_number(d), number) >= 0 || (int64_t)(head - oldest) < 0) {
		segment_put(q, s, inc);
		return number_diff(dir_number(d), number) >= 0 ? 0 : -ENOBUFS;
	}
	was = dir_segment(d);
	if (was >= q->geo.nr_segments) {
		segment_put(q, s, inc);
		return -EBADMSG;
	}
	/* relaxed: BIND publishes it. Dead here: OWNED, the directory does not name it. */
	atomic_store_explicit(&segment_of(q, s)->bind, bind_word(number & NUMBER_MASK, lane, inc),
			      memory_order_relaxed);
	/* The entry is about to vanish: finish what it installed. BIND */
	old = atomic_load_explicit(&segment_of(q, was)->hdr, memory_order_acquire);
	if (segment_state(old) == SEGMENT_OWNED) {
		uint64_t hdr, bound;
		unsigned l;

		if (segment_binding(q, was, &hdr, &l, &bound) && l == lane && hdr == old &&
		    bound == dir_number(d))
			segment_activate(q, was, old);
	}
	/* BIND -> segment_find(). Dead after it: whoever finds it activates it. */
	if (!atomic_compare_exchange_strong_explicit(entry, &d,
						     dir_word(number & NUMBER_MASK, s),
						     memory_order_acq_rel,
						     memory_order_relaxed)) {
		segment_put(q, s, inc);
		return 0; /* somebody else installed it */
	}
	segment_activate(q, s, segment_word(inc, q->me, SEGMENT_OWNED));
	/* What the next installation will most likely change. */
	fetch_for_write(segment_of(q, s + 1));
	fetch_for_write(dir_of(q, lane, number + 1));
	return 0;
}

int segment_install(struct shmq *q, unsigned lane, uint64_t number)
{
	uint64_t lowest = number - q->geo.dir_size[lane], n, tries = 0;
	int r;

	if (!q->self) /* it recovers in order to join: nothing may be owned by it yet */
		return -ENOBUFS;
	while (!installed(q, lane, number)) {
		if (tries++ > 2 * q->geo.dir_size[lane])
			return -EBADMSG; /* each round installs one, in a region that is sound */
		for (n = number; n - 1 != lowest && !installed(q, lane, n - 1); n--)
			;
		r = segment_install_one(q, lane, n);
		if (r < 0)
			return r;
	}
	return 0;
}

void segment_disown(struct shmq *q, uint32_t s, uint64_t hdr)
{
	uint64_t again, number;
	unsigned lane;
	bool in_use = segment_binding(q, s, &again, &lane, &number) && again == hdr;

	if (in_use) {
		/* BIND: the owner is dead, so the entry for this binding is final. */
		uint64_t d = atomic_load_explicit(dir_of(q, lane, number),
						  memory_order_acquire);

		in_use = d == dir_word(number, s);
	}
	if (in_use) {
		segment_activate(q, s, hdr);
		return;
	}
	/* REUSE: it was never visible in this incarnation. */
	if (atomic_compare_exchange_strong_explicit(
		    &segment_of(q, s)->hdr, &hdr,
		    segment_word(segment_inc(hdr), 0, SEGMENT_FREE), memory_order_acq_rel,
		    memory_order_relaxed))
		hint_set(q, s);
}
