/* SPDX-License-Identifier: MIT */
/*
 * push.c - draw a ticket, write, publish.
 *
 * The locked instruction, the draw, comes before the payload, and publication is
 * a plain store: nothing waits for the payload's cache lines. What makes that
 * safe is the push record: PENDING before the draw, EXACT until everything is
 * published, so that the tickets of the dead can be told from those of the slow.
 */
#include "lane.h"
#include "point.h"
#include "recover.h"
#include "segment.h"
#include "sys.h"
#include "wait.h"

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

		if (r == -ENOENT)
			continue; /* it was published or closed, and its segment recycled */
		if (r < 0)
			return r;
		/* RETIRE: an unpublished word is changed by its owner alone, or, as the
		 * owner is dead, by those who recover it: then by CAS. */
		w = atomic_load_explicit(slot_at(q, p.segment, t), memory_order_acquire);
		if (slot_classify(w, p.inc) != OPEN_HOLE)
			continue;
		if (valid && !valid(q, arg))
			return 0;
		/* RETIRE. seq_cst: before the load of the room word in wake(). */
		atomic_compare_exchange_strong_explicit(
			slot_at(q, p.segment, t), &w, slot_word(p.inc, 0, 0, SLOT_PAD),
			memory_order_seq_cst, memory_order_relaxed);
	}
	wake(q, WAIT_ROOM, lane, (int)n); /* the tickets had counted */
	return 0;
}

bool lane_settle(struct shmq *q)
{
	uint64_t r = q->record, tail;
	unsigned lane = record_lane(r);

	if (!q->unsettled)
		return true;
	tail = atomic_load_explicit(&lane_of(q, lane)->tail, memory_order_relaxed);
	if (lane_pad(q, lane, record_ticket(r, tail), record_n(r), NULL, NULL) < 0)
		return false;
	record_set(q, RECORD_NONE, 0, 0, 0);
	q->unsettled = false;
	return true;
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

static void leave_unsettled(struct shmq *q, unsigned lane, uint64_t t, int n)
{
	q->record = record_word(RECORD_EXACT, lane, (unsigned)n, t);
	q->unsettled = true;
}

int push_drawn(struct shmq *q, unsigned lane, uint64_t t, const struct iovec *items, int n)
{
	int admitted = n, done;

	if (unlikely(before(q->view[lane].limit, t + (unsigned)n))) {
		admitted = admit(q, lane, t, n);
		if (admitted < 0)
			admitted = 0;
	}
	done = push_items(q, lane, t, items, admitted);
	if (unlikely(done < admitted)) { /* no segment: the record keeps the tickets */
		leave_unsettled(q, lane, t, n);
		return done > 0 ? done : 0;
	}
	if (unlikely(admitted < n) &&
	    lane_pad(q, lane, t + (unsigned)admitted, (unsigned)(n - admitted), NULL, NULL) < 0)
		leave_unsettled(q, lane, t, n);
	else
		record_set(q, RECORD_NONE, 0, 0, 0);
	POINT("push:done"); /* Dead here: pushed; sleepers look again within a slice. */
	return admitted;
}

/*
 * One ticket draw for up to @n <= slots items: the number pushed; 0 full;
 * -EAGAIN lost a race, try again; -EBADMSG, -ENOMEM.
 */
static int push_run(struct shmq *q, unsigned lane, const struct iovec *items, int n)
{
	struct lane *l = lane_of(q, lane);
	struct view *v = &q->view[lane];
	uint64_t t, tail;
	bool near = false;
	int r;

	fetch_for_write(&l->tail);
	tail = atomic_load_explicit(&l->tail, memory_order_acquire); /* TICKET */
	if (unlikely(before(v->near, tail + (unsigned)n))) {
		n = admit(q, lane, tail, n);
		if (n <= 0)
			return n;
		near = before(v->near, tail + (unsigned)n);
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
	} else { /* TICKET */
		t = atomic_fetch_add_explicit(&l->tail, (uint64_t)n, memory_order_acq_rel);
	}
	POINT("push:ticket"); /* Dead here: recovery finds it between low and tail. */
	record_set(q, RECORD_EXACT, lane, (unsigned)n, t);
	POINT("push:exact"); /* Dead here: recovery PADs what is not published. */
	return push_drawn(q, lane, t, items, n);
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

#ifdef SHMQ_POINTS
void (*shmq_point_hook)(const char *name);
#endif
