/* SPDX-License-Identifier: MIT */
/*
 * fast.h - push and take of one item where nothing is in the way: the same steps
 * as push_run() and lane_take(), straight down. Whatever is unusual is left to
 * those: these two then have changed nothing.
 */
#ifndef SHMQ_FAST_H
#define SHMQ_FAST_H

#include "lane.h"
#include "recover.h"
#include "segment.h"

#define HEAD_LAG 32 /* tickets that head may lag in normal running */
#define HOT 4       /* empty looks that still spin after the last item */

/* 1 pushed; 0 refused after the draw; -EAGAIN nothing done, call lane_push(); -EBADMSG. */
static inline int push_fast(struct shmq *q, unsigned lane, const struct iovec *item)
{
	struct view *v = &q->view[lane];
	struct lane *l = v->lane;
	uint64_t t;
	int r = 1;

	fetch_for_write(&l->tail);
	t = atomic_load_explicit(&l->tail, memory_order_acquire); /* TICKET */
	if (unlikely(before(v->near, t + 1) || v->push_at.number != t >> q->geo.slots_shift ||
		     q->record_use != RECORD_IDLE))
		return -EAGAIN;
	record_set(q, RECORD_PENDING, lane, 1, t);
	POINT("push_one:pending"); /* as push:pending */
	t = atomic_fetch_add_explicit(&l->tail, 1, memory_order_acq_rel); /* TICKET */
	POINT("push_one:ticket"); /* as push:ticket */
	record_set(q, RECORD_EXACT, lane, 1, t);
	POINT("push_one:exact"); /* as push:exact */
	if (unlikely(before(v->limit, t + 1) ||
		     v->push_at.number != t >> q->geo.slots_shift)) {
		r = push_drawn(q, lane, t, item, 1);
	} else {
		publish_copy(q, &v->push_at, t, item);
		record_set(q, RECORD_NONE, 0, 0, 0);
	}
	if (likely(r == 1))
		tally_add(&q->self->tally[lane].pushed, 1);
	return r;
}

/* Is nothing to be had at the watched tickets below @limit, and none of them done? */
static inline bool watch_idle(struct shmq *q, const struct view *v, uint64_t limit)
{
	uint32_t i;
	uint64_t m;

	for (i = 0; i < v->nr_watched; i++) {
		const struct watched *e = &v->watched[i];

		for (m = watched_below(e, limit); m; m &= m - 1) {
			/* PUBLISH, TAKE, RETIRE */
			uint64_t w = atomic_load_explicit(
				slot_at(q, e->segment, (unsigned)__builtin_ctzll(m)),
				memory_order_acquire);
			enum slot_class c = slot_classify(w, e->inc);

			if (c == OPEN_FULL || c == CLOSED_FOR_GOOD)
				return false;
		}
	}
	return true;
}

/*
 * Take the next item of @lane into @buf, if it waits where it is looked for first:
 * its length; -EAGAIN the lane is empty, and was when looked at; -EBUSY nothing
 * done, call lane_take().
 */
static ALWAYS_INLINE ssize_t take_fast(struct shmq *q, unsigned lane, void *buf, size_t room)
{
	struct view *v = &q->view[lane];
	struct lane *l = v->lane;
	/* t0 was read before this: tail, head, gen, marks, slots. */
	uint64_t h = atomic_load_explicit(&l->head, memory_order_acquire); /* PASS */
	uint64_t g = atomic_load_explicit(&l->gen, memory_order_acquire);  /* MARK */
	uint64_t full = slot_word(v->pop_at.inc, 0, 0, SLOT_FULL), j = v->start, i, w, len;
	struct descriptor *d;

	if (unlikely(g != v->gen || before(j, h)))
		return -EBUSY;
	if (unlikely(!before(j, v->t0))) {
		/* TICKET */
		return !v->hot && !v->nr_watched && j == h &&
			       atomic_load_explicit(&l->tail, memory_order_acquire) == j ?
			       -EAGAIN : -EBUSY;
	}
	for (;; j++) {
		if (unlikely(!before(j, v->t0) || v->pop_at.recycled ||
			     v->pop_at.number != j >> q->geo.slots_shift))
			return -EBUSY;
		i = j & (q->geo.slots - 1);
		d = v->pop_at.descriptors + spread(q, i);
		w = atomic_load_explicit(&d->word, memory_order_acquire); /* PUBLISH */
		/* relaxed: valid if the word is won. */
		len = meta_len(atomic_load_explicit(&d->meta, memory_order_relaxed));
		/* Somebody was stopped in a push: look, after the word, whether its
		 * ticket is the older item by now. */
		if (unlikely(v->nr_watched) &&
		    !(v->sole && /* PUBLISH, TAKE, RETIRE */
		      atomic_load_explicit(v->sole, memory_order_acquire) == v->sole_word) &&
		    !watch_idle(q, v, j))
			return -EBUSY;
		/* TAKE, as try_take(). Dead after it: recovery makes the item FULL again. */
		if (likely(w == full && len <= room && len <= q->geo.item_size &&
			   atomic_compare_exchange_strong_explicit(
				   &d->word, &w, slot_word(v->pop_at.inc, 0, q->me, SLOT_TAKEN),
				   memory_order_seq_cst, memory_order_acquire)))
			break;
		if (slot_classify(w, v->pop_at.inc) < CLOSED_TAKEN)
			return -EBUSY;
		v->start = j + 1; /* another consumer has it */
	}
	POINT("take_one:won"); /* as take:won */
	copy_item(buf, v->pop_at.payload + i * q->geo.slot_bytes, len);
	/* RETIRE, as lane_finish(). */
	atomic_store_explicit(&d->word, slot_word(v->pop_at.inc, 0, 0, SLOT_DONE),
			      memory_order_release);
	POINT("take_one:done"); /* as finish:done */
	v->start = j + 1;
	v->hot = HOT;
	if (unlikely(j + 1 - h >= HEAD_LAG)) {
		head_raise(l, j + 1);
		recover_probe(q); /* who only works looks for the dead as well */
	}
	if (unlikely(i + 1 == q->geo.slots))
		lane_left(q, lane, j, v->pop_at.segment, v->pop_at.inc);
	tally_add(&q->self->tally[lane].popped, 1);
	return (ssize_t)len;
}

#endif
