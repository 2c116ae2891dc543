/* SPDX-License-Identifier: MIT */
/*
 * push.c - draw a ticket, write, publish.
 *
 * The locked instruction, the draw, comes before the payload, and publication is
 * a plain store: nothing waits for the payload's cache lines. What makes that
 * safe is the push record: PENDING before the draw, EXACT until everything is
 * published, so that the tickets of the dead can be told from those of the slow.
 */
#include "fast.h"
#include "point.h"
#include "recover.h"
#include "segment.h"
#include "sys.h"
#include "wait.h"

/*
 * The dead owner of a MOVING slot was about to move an item to it. It has, if it is
 * done with the source: then what counts is here, else there. The source goes back
 * to its lane only after this was decided; see recover().
 */
static enum slot_state move_outcome(struct shmq *q, const struct descriptor *d, uint64_t w)
{
	/* relaxed: MOVE carries it. */
	uint32_t source = meta_source(atomic_load_explicit(&d->meta, memory_order_relaxed));
	uint64_t s;

	if (source >= (uint64_t)q->geo.nr_segments << q->geo.slots_shift)
		return SLOT_PAD; /* a region that lies */
	/* MOVE */
	s = atomic_load_explicit(&descriptor_of(q, source)->word, memory_order_acquire);
	return slot_state(s) == SLOT_TAKEN && slot_owner(s) == slot_owner(w) ? SLOT_PAD :
									      SLOT_FULL;
}

int lane_pad(struct shmq *q, unsigned lane, uint64_t t, unsigned n,
	     bool (*valid)(struct shmq *, void *), void *arg)
{
	word_t *pad_max = &lane_of(q, lane)->pad_max;
	uint64_t m = atomic_load_explicit(pad_max, memory_order_relaxed), end = t + n;
	int closed = 0;

	/* PADS -> admit() */
	while (before(m, end) && !atomic_compare_exchange_weak_explicit(
					 pad_max, &m, end, memory_order_acq_rel,
					 memory_order_relaxed))
		;
	for (; t != end; t++) {
		enum slot_state outcome = SLOT_PAD;
		struct descriptor *d;
		struct place p;
		uint64_t w;
		int r = segment_of_ticket(q, lane, t >> q->geo.slots_shift, &p);

		if (r == -ENOENT)
			continue; /* it was published or closed, and its segment recycled */
		if (r < 0)
			return r;
		d = p.descriptors + spread(q, t);
		/* RETIRE, MOVE: an unpublished word is changed by its owner alone, or, as
		 * the owner is dead, by those who recover it: then by CAS. */
		w = atomic_load_explicit(&d->word, memory_order_acquire);
		if (slot_classify(w, p.inc) != OPEN_HOLE)
			continue;
		if (slot_tag(w) == p.inc) /* MOVING */
			outcome = move_outcome(q, d, w);
		if (valid && !valid(q, arg))
			return closed;
		segment_set_pads(q, lane, p.segment);
		/* RETIRE, PUBLISH. seq_cst: before the load of the room word in wake(). */
		if (atomic_compare_exchange_strong_explicit(
			    &d->word, &w,
			    slot_word(p.inc, outcome == SLOT_FULL ? slot_attempts(w) : 0, 0,
				      outcome),
			    memory_order_seq_cst, memory_order_relaxed))
			closed += outcome == SLOT_PAD;
		POINT("pad:closed"); /* Dead here: the next one finds it closed. */
	}
	wake(q, WAIT_ROOM, lane, (int)n); /* the tickets had counted */
	return closed;
}

bool lane_settle(struct shmq *q)
{
	uint64_t r = q->record, tail;
	unsigned lane = record_lane(r);

	if (!(q->busy & BUSY_UNSETTLED))
		return true;
	tail = atomic_load_explicit(&lane_of(q, lane)->tail, memory_order_relaxed);
	if (lane_pad(q, lane, record_ticket(r, tail), record_n(r), NULL, NULL) < 0)
		return false;
	record_set(q, RECORD_NONE, 0, 0, 0);
	q->busy &= ~(uint32_t)BUSY_UNSETTLED;
	return true;
}

/* The segment for the tickets up to @last exists, before a ticket is taken. */
static int push_prepare(struct shmq *q, unsigned lane, uint64_t last)
{
	uint64_t number = last >> q->geo.slots_shift;
	struct view *v = &q->view[lane];
	struct place p;
	int r;

	if (likely(v->push_at.number == number))
		return 0;
	r = segment_find(q, lane, number, &p);
	if (r == FIND_NOT_INSTALLED) {
		recover_probe(q); /* who only works looks for the dead as well */
		r = segment_install(q, lane, number);
		if (r == -ENOBUFS) { /* the dead may give some back */
			recover_all(q, &(struct shmq_recovered){ 0 });
			r = segment_install(q, lane, number);
		}
		if (r == 0)
			r = segment_find(q, lane, number, &p);
	}
	if (likely(r == FIND_OK) && !p.recycled) {
		v->push_at = p;
		push_window(q, v);
	}
	return r < 0 ? r : 0;
}

/* Publish what the ticket @t was taken for: how many got a slot. */
static int push_items(struct shmq *q, unsigned lane, uint64_t t, const struct iovec *items,
		      int n)
{
	struct view *v = &q->view[lane];
	struct place *at = &v->push_at;
	int i, run;

	for (i = 0; i < n; i += run, t += (unsigned)run) {
		uint64_t number = t >> q->geo.slots_shift;
		uint64_t left = q->geo.slots - (t & (q->geo.slots - 1));

		if (unlikely(at->number != number)) {
			int r = segment_of_ticket(q, lane, number, at);

			if (unlikely(r < 0))
				at->number = NUMBER_UNKNOWN;
			push_window(q, v);
			if (unlikely(r < 0))
				return r == -ENOBUFS ? i : -EBADMSG;
		}
		run = left < (unsigned)(n - i) ? (int)left : n - i;
		if (n == 1)
			fetch_ahead(payload_at(q, at, t), items->iov_len);
		publish_items(q, at, t, &items[i], run);
	}
	return n;
}

/* There is no segment for more: what shmq_refused() is to say. */
static int refuse_now(struct shmq *q, unsigned lane)
{
	refuse(q, lane, lane_depth(q, lane));
	return 0;
}

static void leave_unsettled(struct shmq *q, unsigned lane, uint64_t t, int n)
{
	q->record = record_word(RECORD_EXACT, lane, (unsigned)n, t);
	q->busy |= BUSY_UNSETTLED;
}

/* How many of the @n tickets from @t on, already drawn, are within the capacity. */
static int admitted_of(struct shmq *q, unsigned lane, uint64_t t, int n)
{
	int r;

	if (likely(!before(q->view[lane].limit, t + (unsigned)n)))
		return n;
	r = admit(q, lane, t, n);
	return r < 0 ? 0 : r;
}

int push_drawn(struct shmq *q, unsigned lane, uint64_t t, const struct iovec *items, int n)
{
	int admitted = admitted_of(q, lane, t, n), done;

	done = push_items(q, lane, t, items, admitted);
	if (unlikely(done < admitted)) { /* no segment: the record keeps the tickets */
		leave_unsettled(q, lane, t, n);
		return done ? done : refuse_now(q, lane);
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
 * Draw up to @n <= slots tickets from *@first on; the record names them. How many;
 * 0 full; -EAGAIN lost a race, try again; -EBADMSG, -ENOMEM.
 */
static int draw(struct shmq *q, unsigned lane, int n, uint64_t *first)
{
	struct lane *l = lane_of(q, lane);
	struct view *v = &q->view[lane];
	uint64_t t, tail;
	bool near;
	int r;

	fetch_for_write(&l->tail);
	tail = atomic_load_explicit(&l->tail, memory_order_acquire); /* TICKET */
	if (unlikely(before(v->limit, tail + (unsigned)n))) {
		n = admit(q, lane, tail, n);
		if (n <= 0)
			return n;
	}
	near = before(v->near, tail + (unsigned)n);
	r = push_prepare(q, lane, tail + (unsigned)n - 1);
	if (unlikely(r < 0))
		return r == -ENOBUFS ? refuse_now(q, lane) : r;
	record_set(q, RECORD_PENDING, lane, (unsigned)n, tail);
	POINT("push:pending"); /* Dead here: no ticket, or one that no record names. */
	/* The record is seen by whoever sees the ticket. Close to the limit the ticket
	 * must be the one that was admitted. */
	if (unlikely(near)) {
		t = tail; /* TICKET */
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
	*first = t;
	return n;
}

/* One draw and what comes of it: as draw(), the number pushed. */
static int push_run(struct shmq *q, unsigned lane, const struct iovec *items, int n)
{
	uint64_t t;

	n = draw(q, lane, n, &t);
	return n <= 0 ? n : push_drawn(q, lane, t, items, n);
}

int lane_push(struct shmq *q, unsigned lane, const struct iovec *items, int n)
{
	int done = 0, tries = 0, r;

	if (unlikely(q->busy & BUSY_RESERVED))
		return -EBUSY;
	if (unlikely(!lane_settle(q)))
		return refuse_now(q, lane);
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
	tally_add(&q->view[lane].tally->pushed, (uint64_t)done);
	return done;
}

/*
 * Draw one ticket that is within the capacity and find its slot: 1, and the record
 * is EXACT; 0 full; -EBADMSG.
 */
static int draw_one(struct shmq *q, unsigned lane, uint64_t *t, struct place *p)
{
	int tries, r = -EAGAIN;

	if (!lane_settle(q))
		return refuse_now(q, lane);
	for (tries = 0; r == -EAGAIN && tries < RESTARTS_MAX; tries++)
		r = draw(q, lane, 1, t);
	if (r <= 0)
		return r == -EAGAIN ? -EBADMSG : r;
	r = admitted_of(q, lane, *t, 1);
	if (r == 1) {
		r = segment_of_ticket(q, lane, *t >> q->geo.slots_shift, p);
		if (r == 0)
			return 1;
	}
	leave_unsettled(q, lane, *t, 1);
	lane_settle(q); /* now, or with the next push */
	if (r == -ENOBUFS)
		return refuse_now(q, lane);
	return r == 0 ? 0 : -EBADMSG;
}

/* RECORD: what is reserved has a word of its own, so that the record is free to move a
 * dead letter meanwhile. It names the ticket before the record forgets it. */
static void reserved_set(struct shmq *q, enum record_kind kind, unsigned lane, uint64_t t)
{
	record_store(&q->self->reserved, record_word(kind, lane, kind != RECORD_NONE, t));
}

int lane_reserve(struct shmq *q, unsigned lane, void **buf)
{
	uint64_t t;
	int r;

	if (q->busy & BUSY_RESERVED)
		return -EBUSY;
	r = draw_one(q, lane, &t, &q->reserved_at);
	if (r != 1)
		return r;
	reserved_set(q, RECORD_EXACT, lane, t);
	POINT("reserve:both"); /* Dead here: recovery PADs it, once. */
	record_set(q, RECORD_NONE, 0, 0, 0);
	q->reserved = t;
	q->reserved_lane = lane;
	q->busy |= BUSY_RESERVED;
	*buf = payload_at(q, &q->reserved_at, t);
	return 1;
}

static void reservation_end(struct shmq *q)
{
	reserved_set(q, RECORD_NONE, 0, 0);
	q->busy &= ~(uint32_t)BUSY_RESERVED;
}

unsigned lane_commit(struct shmq *q, size_t len)
{
	publish(q, &q->reserved_at, q->reserved, len);
	reservation_end(q);
	POINT("commit:done"); /* Dead here: pushed; sleepers look again within a slice. */
	tally_add(&q->self->tally[q->reserved_lane].pushed, 1);
	return q->reserved_lane;
}

void lane_abort(struct shmq *q)
{
	if (!(q->busy & BUSY_RESERVED))
		return;
	/* Its segment is there, so this fails in a region that lies only. */
	lane_pad(q, q->reserved_lane, q->reserved, 1, NULL, NULL);
	reservation_end(q);
}

/*
 * Either lane has the item, whoever dies where: the slot of @to is MOVING, names the
 * source, and is not FULL before the source is DONE. A recoverer of ours finds it by
 * the record, and decides before it gives the source back.
 */
bool lane_move(struct shmq *q, const struct taken *t, unsigned to)
{
	struct shmq_pressure refused = q->refused;
	struct descriptor *d;
	uint64_t ticket, source;
	struct place p;

	if (draw_one(q, to, &ticket, &p) != 1) {
		q->refused = refused; /* of the caller's pushes; this is a pop */
		return false;
	}
	POINT("move:drawn"); /* Dead here: the ticket is closed, the item goes back. */
	d = p.descriptors + spread(q, ticket);
	memcpy(payload_at(q, &p, ticket), t->payload, t->len);
	/* relaxed: MOVE carries them. */
	if (q->geo.flags & SHMQ_STAMP)
		atomic_store_explicit(
			stamp_of(q, slot_index(q, p.segment, ticket)),
			atomic_load_explicit(stamp_of(q, slot_index(q, t->segment, t->ticket)),
					     memory_order_relaxed), memory_order_relaxed);
	source = slot_index(q, t->segment, 0) + spread(q, t->ticket);
	atomic_store_explicit(&d->meta, meta_word((uint32_t)source, t->len),
			      memory_order_relaxed);
	/* MOVE -> recovery: item, length and source. */
	atomic_store_explicit(&d->word, slot_word(p.inc, t->attempts, q->me, SLOT_MOVING),
			      memory_order_release);
	POINT("move:moving"); /* Dead here: as before. */
	lane_finish(q, t); /* MOVE: decided */
	POINT("move:decided"); /* Dead here: recovery makes the slot FULL. */
	/* PUBLISH -> scan */
	atomic_store_explicit(&d->word, slot_word(p.inc, t->attempts, 0, SLOT_FULL),
			      memory_order_release);
	record_set(q, RECORD_NONE, 0, 0, 0);
	POINT("move:done"); /* Dead here: moved. */
	tally_add(&q->self->tally[t->lane].dead, 1);
	wake(q, WAIT_ITEMS, to, 1);
	return true;
}

#ifdef SHMQ_POINTS
void (*shmq_point_hook)(const char *name);
#endif
