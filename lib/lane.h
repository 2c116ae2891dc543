/* SPDX-License-Identifier: MIT */
/* lane.h - push and take: the algorithm of docs/protocol.md, in watch.c (tickets
 * below head), admit.c (the capacity), push.c, take.c and distance.c. */
#ifndef SHMQ_LANE_H
#define SHMQ_LANE_H

#include "point.h"
#include "queue.h"
#include "sys.h"

/* An item that is ours: TAKEN, until lane_finish(). */
struct taken {
	uint64_t ticket, inc;
	word_t *word;
	const char *payload;
	uint32_t segment, len;
	unsigned attempts; /* earlier takers that died with it */
	unsigned lane;
};

/*
 * Push a prefix of @n items, n >= 1, without waiting: the number pushed; 0 if
 * the lane is full, q->refused says how; -EBADMSG.
 */
HIDDEN int lane_push(struct shmq *q, unsigned lane, const struct iovec *items, int n);

/*
 * Take the next item of at most @room bytes: 1; 0 the lane is empty;
 * -EMSGSIZE it is longer, t->len says how long, nothing is taken; -EBADMSG;
 * -ENOMEM. @alone: there are no other lanes to look at, so it may wait a moment for an
 * item that is about to come.
 */
HIDDEN int lane_take(struct shmq *q, unsigned lane, size_t room, bool alone, struct taken *t);

/* Would a lane_take() find an item? 1; 0; -EBADMSG; -ENOMEM. */
HIDDEN int lane_look(struct shmq *q, unsigned lane);

/* Is there room for one item? The same. */
HIDDEN int lane_room(struct shmq *q, unsigned lane);

/* The last slot of a segment was finished: give the segment back when it is drained. */
HIDDEN void lane_left(struct shmq *q, unsigned lane, uint64_t ticket, uint32_t segment,
		      uint64_t inc);

/* Done with a taken item: it is consumed. */
HIDDEN void lane_finish(struct shmq *q, const struct taken *t);

/* Not done with a taken item: it waits again where it was, one attempt later. */
HIDDEN void lane_requeue(struct shmq *q, const struct taken *t);

/* As lane_finish(), and counted as dropped. */
HIDDEN void lane_drop(struct shmq *q, const struct taken *t);

/* The item has failed too often: dropped, or moved to the dead-letter lane. False if
 * that is full, or the item's own lane: then it is to be delivered once more. */
HIDDEN bool lane_dead_letter(struct shmq *q, const struct taken *t);

/* Move a taken item to the end of lane @to: false if that is full. */
HIDDEN bool lane_move(struct shmq *q, const struct taken *t, unsigned to);

/* Close the own ticket that an earlier push left for want of a segment. */
HIDDEN bool lane_settle(struct shmq *q);

/* Draw a ticket and keep it open: 1 and the place of its payload; as lane_push(). */
HIDDEN int lane_reserve(struct shmq *q, unsigned lane, void **buf);

/* Publish the reserved slot; its lane. */
HIDDEN unsigned lane_commit(struct shmq *q, size_t len);

/* Close the reserved slot, if there is one. */
HIDDEN void lane_abort(struct shmq *q);

/* PAD the tickets [@t, @t + @n) where they are unpublished: how many; -ENOBUFS, -EBADMSG.
 * The caller owns them, or has proven their owner dead and calls @valid first. */
HIDDEN int lane_pad(struct shmq *q, unsigned lane, uint64_t t, unsigned n,
		    bool (*valid)(struct shmq *, void *), void *arg);

/* Let head pass items, if need be, to @to: where it is then. */
HIDDEN uint64_t lane_make_way(struct shmq *q, unsigned lane, uint64_t to);

/* A ticket below head may be open again: have every consumer look. */
HIDDEN void lane_mark(struct shmq *q, unsigned lane, uint32_t segment);

/* ---- shared by watch.c, admit.c, push.c and take.c --------------------------------- */

#define RESTARTS_MAX (1 << 24) /* only a region that lies gets here */

/* Tickets run free and may wrap: compare by difference. */
static inline bool before(uint64_t a, uint64_t b)
{
	return (int64_t)(a - b) < 0;
}

static inline uint64_t max_ticket(uint64_t a, uint64_t b)
{
	return before(a, b) ? b : a;
}

static inline uint64_t min_ticket(uint64_t a, uint64_t b)
{
	return before(a, b) ? a : b;
}

/* CAS-max. PASS -> whoever reads head: all below is closed, or marked before. */
static inline void head_raise(struct lane *l, uint64_t to)
{
	uint64_t h = atomic_load_explicit(&l->head, memory_order_relaxed);

	while (before(h, to) && /* PASS */
	       !atomic_compare_exchange_weak_explicit(&l->head, &h, to, memory_order_acq_rel,
						      memory_order_relaxed))
		;
}

/* MARK -> watch_refresh(): counted after the marks, before head passes. */
static inline void gen_count(struct lane *l)
{
	atomic_fetch_add_explicit(&l->gen, 1, memory_order_acq_rel); /* MARK */
}

/* Make the watch list of @lane as new as @gen, which was read after @head: 0 or an
 * error. */
HIDDEN int watch_refresh(struct shmq *q, unsigned lane, uint64_t gen, uint64_t head);

/* The watched slots of @e, a bit each, whose tickets are below @limit. */
static inline uint64_t watched_below(const struct watched *e, uint64_t limit)
{
	uint64_t n = limit - e->first;

	if (!before(e->first, limit))
		return 0;
	return n >= 64 ? e->mask : e->mask & ((UINT64_C(1) << n) - 1);
}

/* How many watched tickets below @limit count against the capacity. */
HIDDEN uint64_t watch_open(struct shmq *q, unsigned lane, uint64_t limit);

HIDDEN void watch_prune(struct shmq *q, struct view *v);

/* Is a watched ticket below @limit FULL now? */
HIDDEN bool watch_full(struct shmq *q, unsigned lane, uint64_t limit);

/* The tickets [@t, @t + @n) are ours and named by the record: publish those that are
 * within the capacity, close the others. How many were pushed; -EBADMSG. */
HIDDEN int push_drawn(struct shmq *q, unsigned lane, uint64_t t, const struct iovec *items,
		      int n);

/* RECORD -> recovery: PENDING before the ticket exists, EXACT until it is published,
 * NONE after that. */
static inline void record_store(word_t *record, uint64_t r)
{
	atomic_store_explicit(record, r, memory_order_release); /* RECORD */
}
static inline void record_set(struct shmq *q, enum record_kind kind, unsigned lane,
			      unsigned n, uint64_t ticket)
{
	record_store(&q->self->record, record_word(kind, lane, n, ticket));
}

static inline void copy_item(void *to, const void *from, size_t len)
{
	if (len == 64) /* the default: worth not calling memcpy() for */
		memcpy(to, from, 64);
	else if (len)
		memcpy(to, from, len);
}

/* The short way is open for the tickets of @at that are before @end. */
static inline struct window window_of(const struct shmq *q, const struct place *at, uint64_t end)
{
	uint64_t first = at->number << q->geo.slots_shift;

	if (q->slow || at->number == NUMBER_UNKNOWN || at->recycled || !before(first, end))
		return (struct window){ .n = 0 };
	return (struct window){ .first = first, .n = min_ticket(end - first, q->geo.slots),
				.full = slot_word(at->inc, 0, 0, SLOT_FULL) };
}

/* After a change of push_at or of the limit. */
static inline void push_window(const struct shmq *q, struct view *v)
{
	v->push = window_of(q, &v->push_at, v->near);
}

/* Publish what was written into the slot of ticket @t. */
static inline void publish_word(struct descriptor *d, uint64_t full, size_t len)
{
	/* relaxed: PUBLISH carries it. */
	atomic_store_explicit(&d->meta, meta_word(0, (uint32_t)len), memory_order_relaxed);
	POINT("push:written"); /* Dead here: recovery PADs the ticket. */
	/* PUBLISH -> scan: the commit. A plain store: nobody but a recoverer of this
	 * process, once it is dead, writes an unpublished slot. */
	atomic_store_explicit(&d->word, full, memory_order_release);
}

/* The same, with the time where the queue keeps it. */
static inline void publish(struct shmq *q, const struct place *p, uint64_t t, size_t len)
{
	/* relaxed: PUBLISH carries it. */
	if (unlikely(q->geo.flags & SHMQ_STAMP))
		atomic_store_explicit(stamp_of(q, slot_index(q, p->segment, t)),
				      sys_monotonic_ns(), memory_order_relaxed);
	publish_word(p->descriptors + spread(q, t), slot_word(p->inc, 0, 0, SLOT_FULL), len);
}

static inline char *payload_at(const struct shmq *q, const struct place *p, uint64_t t)
{
	return p->payload + (t & (q->geo.slots - 1)) * q->geo.slot_bytes;
}

/* Write the items into their slots, one after the other in one segment, and publish
 * them. */
static inline void publish_items(struct shmq *q, const struct place *p, uint64_t t,
				 const struct iovec *items, int n)
{
	char *payload = payload_at(q, p, t);

	for (int i = 0; i < n; i++, payload += q->geo.slot_bytes) {
		copy_item(payload, items[i].iov_base, items[i].iov_len);
		publish(q, p, t + (unsigned)i, items[i].iov_len);
	}
}

HIDDEN void distance_init(struct distance *d);

/* Another consumer was faster at the same item: let it go ahead. */
HIDDEN void distance_aside(struct distance *d);

/* All that was known to be drawn has been looked at: if we are too close behind the
 * producers, and pausing helps, pause; if not @alone, until something comes into a higher
 * lane. True: v->t0 of the view is a new value of tail. */
HIDDEN bool distance_keep(struct shmq *q, unsigned lane, bool alone);

/* How many of the @n tickets from @tail on are within the capacity: 1..@n; 0 none,
 * q->refused says how full it is; an error. Sets the view's limit. */
HIDDEN int admit(struct shmq *q, unsigned lane, uint64_t tail, int n);
HIDDEN void refuse(struct shmq *q, unsigned lane, uint64_t depth);
/* About how many items are in @lane, for people: at most its capacity. */
HIDDEN uint64_t lane_depth(const struct shmq *q, unsigned lane);

#endif
