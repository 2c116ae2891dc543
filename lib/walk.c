/* SPDX-License-Identifier: MIT */
/*
 * walk.c - copy what waits, in order, and leave it where it is.
 *
 * Only reads, so it works on a read-only mapping and while others push and pop. An item
 * is copied between two reads of its slot word. The word of a slot never has the same
 * value twice for different items (its tag is the incarnation of the segment, and a
 * redelivery counts its attempts), so if both reads agree the copy is whole.
 */
#include "handle.h"
#include "lane.h"
#include "segment.h"
#include "sys.h"

#include <stdlib.h>

struct stretch { /* the tickets of one segment that were drawn when the walk began */
	uint64_t first, end, inc;
	uint32_t segment;
	unsigned lane;
};

struct shmq_walk {
	struct shmq *q;
	uint32_t nr, at;   /* stretches, and the one that is next */
	uint64_t ticket;   /* the next one of it */
	uint64_t now;      /* when the walk began, if items have times */
	struct stretch stretches[];
};

/* By lane, then by ticket. */
static int in_order(const void *a, const void *b)
{
	const struct stretch *x = a, *y = b;

	if (x->lane != y->lane)
		return x->lane < y->lane ? -1 : 1;
	return before(x->first, y->first) ? -1 : before(y->first, x->first);
}

static void stretches_find(struct shmq_walk *w, int lane)
{
	struct shmq *q = w->q;
	uint64_t tails[SHMQ_MAX_LANES];
	uint32_t i, s;

	for (i = 0; i < q->geo.nr_lanes; i++) /* TICKET */
		tails[i] = atomic_load_explicit(&lane_of(q, i)->tail, memory_order_acquire);
	for (s = 0; s < q->geo.nr_segments; s++) {
		struct stretch e = { .segment = s };
		uint64_t hdr, number, tail;

		if (!segment_serves(q, s, &hdr, &e.lane, &number) ||
		    (lane >= 0 && e.lane != (unsigned)lane))
			continue;
		tail = tails[e.lane];
		number = number_in_full(number, tail >> q->geo.slots_shift);
		e.inc = segment_inc(hdr);
		e.first = number << q->geo.slots_shift;
		e.end = min_ticket(e.first + q->geo.slots, tail);
		if (before(e.first, e.end))
			w->stretches[w->nr++] = e;
	}
	qsort(w->stretches, w->nr, sizeof w->stretches[0], in_order);
	if (w->nr)
		w->ticket = w->stretches[0].first;
}

SHMQ_API int shmq_walk_begin(struct shmq *q, int lane, struct shmq_walk **out)
{
	struct shmq_walk *w;
	KEEP_ERRNO;

	if (!q || !out)
		return -EFAULT;
	*out = NULL;
	if (!q->map)
		return -ECHILD;
	if (lane != SHMQ_ANY_LANE && (lane < 0 || (uint32_t)lane >= q->geo.nr_lanes))
		return -ECHRNG;
	w = malloc(sizeof *w + q->geo.nr_segments * sizeof w->stretches[0]);
	if (!w)
		return -ENOMEM;
	*w = (struct shmq_walk){ .q = q };
	if (q->geo.flags & SHMQ_STAMP)
		w->now = sys_monotonic_ns();
	stretches_find(w, lane);
	*out = w;
	return 0;
}

/* Copy the item of @ticket if it waits: its length; -EAGAIN it does not; -EMSGSIZE. */
static ssize_t copy_waiting(struct shmq *q, const struct stretch *e, uint64_t ticket, void *buf,
			    size_t size, uint64_t now, struct shmq_info *info)
{
	uint64_t slot = slot_index(q, e->segment, 0) + spread(q, ticket), w, pushed;
	struct descriptor *d = descriptor_of(q, slot);
	uint32_t len;

	w = atomic_load_explicit(&d->word, memory_order_acquire); /* PUBLISH */
	if (slot_classify(w, e->inc) != OPEN_FULL)
		return -EAGAIN;
	/* relaxed: valid if the word is still the same after it. */
	len = meta_len(atomic_load_explicit(&d->meta, memory_order_relaxed));
	pushed = q->geo.flags & SHMQ_STAMP ?
			 atomic_load_explicit(stamp_of(q, slot_index(q, e->segment, ticket)),
					      memory_order_relaxed) : 0;
	if (len <= size && len <= q->geo.item_size)
		copy_item(buf, payload_of(q, slot_index(q, e->segment, ticket)), len);
	atomic_thread_fence(memory_order_acquire); /* TAKE, REUSE: what was read before the word */
	if (atomic_load_explicit(&d->word, memory_order_relaxed) != w)
		return -EAGAIN; /* it was taken meanwhile */
	if (len > q->geo.item_size)
		return -EBADMSG;
	if (info) {
		*info = (struct shmq_info){ .len = len, .lane = (uint16_t)e->lane,
					    .attempts = (uint16_t)(slot_attempts(w) + 1),
					    .wait_ns = now > pushed ? now - pushed : 0 };
	}
	return len > size ? -EMSGSIZE : (ssize_t)len;
}

SHMQ_API ssize_t shmq_walk_next(struct shmq_walk *w, void *buf, size_t size,
				struct shmq_info *info)
{
	if (!w || (!buf && size))
		return -EFAULT;
	if (!w->q->map)
		return -ECHILD;
	while (w->at < w->nr) {
		const struct stretch *e = &w->stretches[w->at];

		for (; w->ticket != e->end; w->ticket++) {
			ssize_t r = copy_waiting(w->q, e, w->ticket, buf, size, w->now,
						info);

			if (r == -EAGAIN)
				continue;
			w->ticket += r >= 0;
			return r;
		}
		if (++w->at < w->nr)
			w->ticket = w->stretches[w->at].first;
	}
	return -EAGAIN;
}

SHMQ_API void shmq_walk_end(struct shmq_walk *w)
{
	free(w);
}
