/* SPDX-License-Identifier: MIT */
/*
 * fast.h - push and take of one item where nothing is in the way: the same steps
 * as push_run() and lane_take(), straight down. Whatever is unusual is left to
 * those: these two then have changed nothing.
 *
 * What each of them costs is one locked instruction, and it waits until all stores before
 * it have left the store buffer, one a cycle. So: no calls, few registers to save at the
 * entry, and one comparison with a window that the long way has set up.
 */
#ifndef SHMQ_FAST_H
#define SHMQ_FAST_H

#include "lane.h"
#include "recover.h"
#include "segment.h"

#define HEAD_LAG 32   /* tickets that head may lag in normal running, or a segment */
#define SHORT_ITEM 64 /* the longest item that is copied without a call */

typedef uint64_t two_words __attribute__((vector_size(16)));

/* Copy @len bytes, 16 to SHORT_ITEM: four pieces that may overlap. */
static ALWAYS_INLINE void copy_short(char *to, const char *from, size_t len)
{
	size_t second = len >= 32 ? 16 : len - 16, third = len >= 32 ? len - 32 : 0;
	two_words a, b, c, d;

	memcpy(&a, from, 16);
	memcpy(&b, from + second, 16);
	memcpy(&c, from + third, 16);
	memcpy(&d, from + len - 16, 16);
	memcpy(to, &a, 16);
	memcpy(to + second, &b, 16);
	memcpy(to + third, &c, 16);
	memcpy(to + len - 16, &d, 16);
}

/* Fewer than 16 bytes. */
static ALWAYS_INLINE void copy_tiny(char *to, const char *from, size_t len)
{
	if (len >= 8) {
		uint64_t first, last;

		memcpy(&first, from, 8);
		memcpy(&last, from + len - 8, 8);
		memcpy(to, &first, 8);
		memcpy(to + len - 8, &last, 8);
	} else if (len >= 4) {
		uint32_t first, last;

		memcpy(&first, from, 4);
		memcpy(&last, from + len - 4, 4);
		memcpy(to, &first, 4);
		memcpy(to + len - 4, &last, 4);
	} else if (len) {
		char first = from[0], middle = from[len / 2], last = from[len - 1];

		to[0] = first;
		to[len / 2] = middle;
		to[len - 1] = last;
	}
}

static ALWAYS_INLINE void copy_inline(char *to, const char *from, size_t len)
{
	if (likely(len == SHORT_ITEM))
		memcpy(to, from, SHORT_ITEM);
	else if (len >= 16 && len < SHORT_ITEM)
		copy_short(to, from, len);
	else if (len < 16)
		copy_tiny(to, from, len);
	else
		memcpy(to, from, len);
}

#define AHEAD 2048     /* bytes; less is too late, more gains nothing */
#define AHEAD_ITEM 512 /* the longest item for which it pays */

/*
 * Fetch the lines that will be written some items after that of @len bytes at @payload. A
 * consumer used them last; to get them takes longer than to fill them, and the next locked
 * instruction waits for it. (The items of a batch wait for each other.) Segments are used in
 * the order of their addresses, so that it mostly is the right place; where it is not, or is
 * none at all, no harm is done.
 */
static ALWAYS_INLINE void fetch_ahead(const char *payload, size_t len)
{
	fetch_for_write(payload + AHEAD);
	if (unlikely(len > 64) && len <= AHEAD_ITEM)
		for (size_t i = 64; i < len; i += 64)
			fetch_for_write(payload + AHEAD + i);
}

/* The view of a lane. The compiler is not to compute its address again and again. */
static ALWAYS_INLINE struct view *view_of(struct shmq *q, unsigned lane)
{
	struct view *v = &q->view[lane];

	__asm__("" : "+r"(v));
	return v;
}

/* Is the short way open for a push into @lane? *@t is the ticket to expect. */
static ALWAYS_INLINE bool push_open(struct shmq *q, struct view *v, uint64_t *t)
{
	fetch_for_write(&v->lane->tail);
	*t = atomic_load_explicit(&v->lane->tail, memory_order_acquire); /* TICKET */
	return likely(*t - v->push.first < v->push.n && !q->busy);
}

/* Where an item goes. */
struct push_plan {
	char *payload;
	struct descriptor *descriptor;
};

static ALWAYS_INLINE struct push_plan push_prepare_one(const struct shmq *q, const struct view *v,
						       uint64_t t)
{
	uint64_t i = t - v->push.first;

	return (struct push_plan){
		.payload = v->push_at.payload + i * q->geo.slot_bytes,
		.descriptor = v->push_at.descriptors + spread(q, i),
	};
}

/* Draw a ticket, expected to be @t: the one that it is. */
static ALWAYS_INLINE uint64_t push_draw(struct shmq *q, struct view *v, unsigned lane, uint64_t t)
{
	record_set(q, RECORD_PENDING, lane, 1, t);
	POINT("push_one:pending"); /* as push:pending */
	t = atomic_fetch_add_explicit(&v->lane->tail, 1, memory_order_acq_rel); /* TICKET */
	POINT("push_one:ticket"); /* as push:ticket */
	return t;
}

/* The ticket is drawn: fill its slot. Everything is looked up again: a register that
 * lives across the draw has to be saved at the entry, and each such store is one more
 * that the locked instruction waits for. */
static ALWAYS_INLINE void push_fill(struct shmq *q, unsigned lane, uint64_t t,
				    const struct push_plan *p, const void *buf, size_t len)
{
	struct view *v = view_of(q, lane);

	record_set(q, RECORD_EXACT, lane, 1, t);
	POINT("push_one:exact"); /* as push:exact */
	fetch_ahead(p->payload, len);
	copy_inline(p->payload, buf, len);
	publish_word(p->descriptor, v->push.full, len);
	record_set(q, RECORD_NONE, 0, 0, 0);
	tally_add(&v->tally->pushed, 1);
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
 * The window is used up. If an item waits in the slot behind it, and the queue is about
 * empty, the window becomes one longer: FULL there means that tail was beyond it, which
 * is all that the end of the window says; gen is read again behind it, as behind tail. For
 * a few items only; then tail is read again, for a consumer that follows close by where
 * many items come makes all slow (distance.c).
 */
static inline bool take_near(const struct shmq *q, struct view *v, uint64_t i)
{
	if (!v->near_left || i != v->pop.n || i >= q->geo.slots || /* PUBLISH */
	    atomic_load_explicit(&v->pop_at.descriptors[spread(q, i)].word,
				 memory_order_acquire) != v->pop.full ||
	    atomic_load_explicit(&v->lane->gen, memory_order_acquire) != v->gen) /* MARK */
		return false;
	v->near_left--;
	v->pop.n = i + 1;
	v->t0 = v->pop.first + i + 1;
	return true;
}

/* A slot that was won: its number, and its word when it was FULL. */
struct won {
	struct descriptor *descriptor;
	uint64_t slot, full;
};

/*
 * Win the next item of a lane, if it waits where it is looked for first: its length;
 * else -EBUSY and nothing is done. @short_item: only one that is copied without a call,
 * and no watched slot but the sole one.
 */
static ALWAYS_INLINE ssize_t win_short(struct shmq *q, struct view *v, size_t room,
				       bool short_item, struct won *won)
{
	/* t0 was read before this: tail, head (as @start, before), gen, marks, slots. */
	uint64_t g = atomic_load_explicit(&v->lane->gen, memory_order_acquire); /* MARK */
	uint64_t i = v->start - v->pop.first, full = v->pop.full, seen, w, len;
	struct descriptor *d;

	if (unlikely(g != v->gen))
		return -EBUSY;
	for (;; i++) {
		if (unlikely(i >= v->pop.n) && !take_near(q, v, i))
			return -EBUSY;
		d = v->pop_at.descriptors + spread(q, i);
		seen = w = atomic_load_explicit(&d->word, memory_order_acquire); /* PUBLISH */
		/* relaxed: valid if the word is won. */
		len = meta_len(atomic_load_explicit(&d->meta, memory_order_relaxed));
		/* Somebody was stopped in a push: look, after the word, whether its
		 * ticket is the older item by now. */
		if (unlikely(v->nr_watched) &&
		    !(v->sole && /* PUBLISH, TAKE, RETIRE */
		      atomic_load_explicit(v->sole, memory_order_acquire) == v->sole_word) &&
		    (short_item || !watch_idle(q, v, v->pop.first + i)))
			return -EBUSY;
		/* TAKE, as try_take(). Dead after it: recovery makes the item FULL again. */
		if (likely(w == full && len <= room &&
			   len <= (short_item ? q->short_max : q->geo.item_size)) &&
		    likely(atomic_compare_exchange_strong_explicit(
			    &d->word, &w, full + slot_word(0, 0, q->me, SLOT_TAKEN - SLOT_FULL),
			    memory_order_seq_cst, memory_order_acquire)))
			break;
		if (slot_classify(w, v->pop_at.inc) < CLOSED_TAKEN)
			return -EBUSY;
		if (seen == full) /* another consumer was faster */
			distance_aside(&v->distance);
	}
	POINT("take_one:won"); /* as take:won */
	v->start = v->pop.first + i + 1;
	*won = (struct won){ .descriptor = d, .slot = i, .full = full };
	return (ssize_t)len;
}

/* Take the next item of a lane into @buf: as win_short(). */
static ALWAYS_INLINE ssize_t take_short(struct shmq *q, struct view *v, void *buf, size_t room,
					bool short_item, uint64_t *slot)
{
	struct won won;
	ssize_t len = win_short(q, v, room, short_item, &won);

	if (unlikely(len < 0))
		return len;
	copy_inline(buf, v->pop_at.payload + won.slot * q->geo.slot_bytes, (size_t)len);
	/* RETIRE, as lane_finish(). */
	atomic_store_explicit(&won.descriptor->word, won.full + SLOT_DONE - SLOT_FULL,
			      memory_order_release);
	POINT("take_one:done"); /* as finish:done */
	tally_add(&v->tally->popped, 1);
	*slot = won.slot;
	return len;
}

/* After a take_short() of slot @i: is head to be raised, or the segment to be left? */
static ALWAYS_INLINE bool take_at_edge(const struct shmq *q, uint64_t i)
{
	return unlikely((i & q->edge_mask) == q->edge_mask);
}

/* Slot @i of @lane was won, where take_at_edge() is true. @finished: and its item is. */
HIDDEN void take_edge(struct shmq *q, unsigned lane, uint64_t i, bool finished);

#endif
