/* SPDX-License-Identifier: MIT */
/*
 * watch.c - the tickets below head that are still open.
 *
 * Head may pass a ticket that is not closed if its segment is marked first. Marks
 * are counted in gen, and whoever reads head and then gen knows from a list of
 * its own, rebuilt when gen has changed, every slot below head that can still
 * turn FULL. A mark is a hint that is never missing and may be false; dying
 * between mark and count leaves a false one.
 */
#include "lane.h"
#include "segment.h"
#include "sys.h"

void lane_mark(struct shmq *q, unsigned lane, uint32_t segment)
{
	segment_mark(q, lane, segment);
	gen_count(lane_of(q, lane));
}

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
	    segment_state(hdr) != SEGMENT_ACTIVE) /* who lost an install never counts */
		return 0;
	e.inc = segment_inc(hdr);
	e.first = number_in_full(number, near_number) << q->geo.slots_shift;
	e.mask = slots_not_closed(q, s, e.inc);
	if (!e.mask) {
		segment_retire(q, s, e.inc);
		return 0;
	}
	if (!v->watched) {
		void *p;
		KEEP_ERRNO;
		int r = sys_map_private(q->geo.nr_segments * sizeof e, &p);

		if (r < 0)
			return r;
		v->watched = p;
	}
	watch_insert(v, e);
	return 0;
}

/* A lane often has one slot to watch, of a process that is stopped: remember it. */
static void watch_find_sole(struct shmq *q, struct view *v)
{
	struct watched *e = v->watched;
	enum slot_class c;

	v->sole = NULL;
	if (v->nr_watched != 1 || e->mask & (e->mask - 1))
		return;
	v->sole = slot_at(q, e->segment, (unsigned)__builtin_ctzll(e->mask));
	/* PUBLISH, TAKE, RETIRE */
	v->sole_word = atomic_load_explicit(v->sole, memory_order_acquire);
	c = slot_classify(v->sole_word, e->inc);
	if (c != OPEN_HOLE && c != CLOSED_TAKEN)
		v->sole = NULL;
}

/* Drop segments that have nothing open any more: the short path is free again. */
void watch_prune(struct shmq *q, struct view *v)
{
	uint32_t i, kept = 0;

	for (i = 0; i < v->nr_watched; i++)
		if (v->watched[i].mask)
			v->watched[kept++] = v->watched[i];
	v->nr_watched = kept;
	watch_find_sole(q, v);
}

/*
 * Make the watch list as new as @gen, which was read after head. The marks are
 * read after gen, so a mark that is missing here was counted later, and the
 * next look at gen will tell. All open slots of a marked segment are watched,
 * also those head has not reached, because head may reach them without a count.
 */
int watch_refresh(struct shmq *q, unsigned lane, uint64_t gen, uint64_t head)
{
	struct view *v = &q->view[lane];
	uint32_t i;

	if (likely(v->gen == gen))
		return 0;
	v->nr_watched = 0;
	v->sole = NULL;
	v->gen = GEN_UNKNOWN;
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
	return 0;
}

uint64_t watch_open(struct shmq *q, unsigned lane, uint64_t limit)
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

bool watch_full(struct shmq *q, unsigned lane, uint64_t limit)
{
	struct view *v = &q->view[lane];
	uint32_t i;
	uint64_t m;

	for (i = 0; i < v->nr_watched; i++) {
		struct watched *e = &v->watched[i];

		for (m = watched_below(e, limit); m; m &= m - 1) {
			/* PUBLISH */
			uint64_t w = atomic_load_explicit(
				slot_at(q, e->segment, (unsigned)__builtin_ctzll(m)),
				memory_order_acquire);

			if (slot_classify(w, e->inc) == OPEN_FULL)
				return true;
		}
	}
	return false;
}
