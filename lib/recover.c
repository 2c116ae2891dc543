/* SPDX-License-Identifier: MIT */
/*
 * recover.c - gives back what the dead held. The only file that changes the state
 * of another participant.
 *
 * Any number of processes may recover the same participant at the same time, and
 * each may stop or die anywhere: every step is a compare-and-swap from a value
 * that was read before the dead incarnation was confirmed once more, so it was
 * written by the dead, and by the rule that words move one way it can not come
 * back. Order: tickets, then items (a ticket may be the target of a move, and then
 * the item tells whether it happened), then segments, then the record. What can not
 * be told yet (protocol.md, B) leaves the record as it is, for a later attempt.
 */
#include "recover.h"
#include "lane.h"
#include "participant.h"
#include "point.h"
#include "segment.h"
#include "sys.h"
#include "wait.h"

#define PROBE_NS (25 * UINT64_C(1000000))
#define SLOW_ITEMS 16

struct corpse {
	uint32_t i;
	uint64_t inc;
	bool deferred;
	struct shmq_recovered *out;
};

static bool still_dead(struct shmq *q, void *arg)
{
	const struct corpse *c = arg;

	return participant_state_of(q, c->i) == participant_word(c->inc, PARTICIPANT_LIVE);
}

/* What becomes of a TAKEN item when its taker has failed: it waits again, one attempt
 * later; when the count ends it is dropped, for a word must not come back. */
static uint64_t returned_word(uint64_t w)
{
	unsigned attempts = slot_attempts(w);

	return attempts == SLOT_ATTEMPTS_MAX ?
		       slot_word(slot_tag(w), attempts, 0, SLOT_DONE) :
		       slot_word(slot_tag(w), attempts + 1, 0, SLOT_FULL);
}

/* A: what it had taken is FULL again, where it was. */
static void return_items(struct shmq *q, struct corpse *c)
{
	uint32_t s, i;

	for (s = 0; s < q->geo.nr_segments; s++) {
		uint64_t hdr, number;
		unsigned lane;
		bool bound = segment_binding(q, s, &hdr, &lane, &number);

		if (!bound || segment_state(hdr) == SEGMENT_FREE)
			continue;
		for (i = 0; i < q->geo.slots; i++) {
			word_t *word = slot_at(q, s, i);
			/* TAKE */
			uint64_t w = atomic_load_explicit(word, memory_order_acquire);
			unsigned attempts = slot_attempts(w);

			if (slot_classify(w, segment_inc(hdr)) != CLOSED_TAKEN ||
			    slot_owner(w) != c->i)
				continue;
			lane_mark(q, lane, s); /* head may pass it at any moment */
			POINT("recover:marked");
			if (!still_dead(q, c))
				return;
			/* PUBLISH -> scan, or RETIRE */
			if (!atomic_compare_exchange_strong_explicit(
				    word, &w, returned_word(w), memory_order_acq_rel,
				    memory_order_relaxed))
				continue;
			POINT("recover:full"); /* Dead here: the next one goes on. */
			if (attempts < SLOT_ATTEMPTS_MAX)
				c->out->items++;
			else if (q->self) /* who joins has no counters yet */
				tally_add(&q->self->tally[lane].dropped, 1);
		}
	}
}

/* Tickets of a lane that a dead producer may have drawn and not named: [low, tail). */
struct unnamed {
	unsigned lane;
	uint64_t low, tail;
	uint64_t limit; /* of what can not be of a living one */
	struct records records[SHMQ_PARTICIPANTS_MAX];
};

/* Is ticket @t named by anybody? */
static bool covered(struct shmq *q, const struct unnamed *u, uint64_t t)
{
	uint32_t i;

	for (i = 0; i < q->geo.max_participants; i++)
		if (records_name(&u->records[i], u->lane, t, u->tail))
			return true;
	return false;
}

/* Close the tickets [@t, @t + @n), which the dead have drawn. */
static void close_dead(struct shmq *q, struct corpse *c, unsigned lane, uint64_t t, unsigned n)
{
	int r = lane_pad(q, lane, t, n, still_dead, c);

	if (r < 0)
		c->deferred = true;
	else
		c->out->tickets += (uint64_t)r;
}

/* @t is open, and the dead may have drawn it. */
static void close_open(struct shmq *q, struct corpse *c, const struct unnamed *u, uint64_t t)
{
	if (covered(q, u, t))
		return;
	if ((int64_t)(t - u->limit) >= 0)
		c->deferred = true;
	else
		close_dead(q, c, u->lane, t, 1);
}

static bool unpublished(struct shmq *q, const struct place *p, uint64_t t)
{
	/* PUBLISH, RETIRE */
	uint64_t w = atomic_load_explicit(slot_at(q, p->segment, t), memory_order_acquire);

	return slot_classify(w, p->inc) == OPEN_HOLE;
}

/* Nobody gets past a missing segment, so its tickets are among the newest. */
static void close_newest(struct shmq *q, struct corpse *c, const struct unnamed *u)
{
	uint64_t span = q->geo.capacity[u->lane] +
			(uint64_t)q->geo.max_participants * q->geo.slots * 2;
	uint64_t t = u->tail - u->low > span ? u->tail - span : u->low;

	while (t != u->tail) {
		uint64_t end = ((t >> q->geo.slots_shift) + 1) << q->geo.slots_shift;
		struct place p;

		end = min_ticket(end, u->tail);
		/* What is installed is found by its binding; only resolved here. */
		if (segment_find(q, u->lane, t >> q->geo.slots_shift, &p) == FIND_NOT_INSTALLED)
			for (; t != end; t++)
				close_open(q, c, u, t);
		t = end;
	}
}

/* An older one may be as old as you like, and the directory may have forgotten it;
 * but it pins its segment, and the binding says where that belongs. */
static void close_older(struct shmq *q, struct corpse *c, const struct unnamed *u)
{
	uint64_t newest = u->tail >> q->geo.slots_shift;
	uint32_t s;

	for (s = 0; s < q->geo.nr_segments; s++) {
		uint64_t hdr, bound, t, end;
		struct place p;
		unsigned lane;

		if (!segment_binding(q, s, &hdr, &lane, &bound) || lane != u->lane ||
		    segment_state(hdr) != SEGMENT_ACTIVE)
			continue;
		bound = number_in_full(bound, newest);
		p = place_of(q, bound, s, segment_inc(hdr));
		t = bound << q->geo.slots_shift;
		for (end = t + q->geo.slots; t != end; t++)
			if (t - u->low < u->tail - u->low && unpublished(q, &p, t))
				close_open(q, c, u, t);
	}
}

/*
 * B, PENDING: the dead may have drawn a ticket in [low, tail) that no record
 * names. One that is below the low of every living PENDING can only be theirs.
 */
static void close_unnamed(struct shmq *q, struct corpse *c, unsigned lane, uint64_t record)
{
	struct unnamed u = { .lane = lane };
	uint32_t i;

	/* TICKET: tail before the records, so that the owner of every ticket below
	 * it is seen PENDING or EXACT, or has published. */
	u.limit = u.tail = atomic_load_explicit(&lane_of(q, lane)->tail, memory_order_acquire);
	u.low = record_ticket(record, u.tail);
	for (i = 0; i < q->geo.max_participants; i++) {
		uint64_t state = participant_state_of(q, i), other, r;

		u.records[i] = records_of(participant_of(q, i));
		r = u.records[i].push;
		if (record_kind(r) != RECORD_PENDING || record_lane(r) != lane ||
		    participant_state(state) != PARTICIPANT_LIVE ||
		    participant_dead(q, participant_inc(state)))
			continue;
		other = record_near(r, u.tail); /* it may have seen a later tail */
		if ((int64_t)(other - u.limit) < 0)
			u.limit = other;
	}
	close_newest(q, c, &u); /* first: it may activate a segment */
	close_older(q, c, &u);
}

static void close_named(struct shmq *q, struct corpse *c, uint64_t r)
{
	unsigned lane = record_lane(r);
	uint64_t tail;

	if (record_kind(r) == RECORD_NONE || lane >= q->geo.nr_lanes || !still_dead(q, c))
		return;
	if (record_kind(r) == RECORD_PENDING) {
		close_unnamed(q, c, lane, r);
		return;
	}
	tail = atomic_load_explicit(&lane_of(q, lane)->tail, memory_order_acquire); /* TICKET */
	close_dead(q, c, lane, record_ticket(r, tail), record_n(r));
}

/* B: tickets it had drawn and not published are closed. */
static void close_tickets(struct shmq *q, struct corpse *c)
{
	struct records r = records_of(participant_of(q, c->i));

	close_named(q, c, r.push);
	close_named(q, c, r.reserved);
}

/* C: segments it was about to install. */
static void return_segments(struct shmq *q, struct corpse *c)
{
	uint32_t s;

	for (s = 0; s < q->geo.nr_segments; s++) {
		/* BIND */
		uint64_t hdr = atomic_load_explicit(&segment_of(q, s)->hdr,
						    memory_order_acquire);

		if (segment_state(hdr) == SEGMENT_OWNED && segment_owner(hdr) == c->i &&
		    still_dead(q, c))
			segment_disown(q, s, hdr);
	}
}

static void recover(struct shmq *q, uint32_t i, uint64_t inc, struct shmq_recovered *out)
{
	struct corpse c = { .i = i, .inc = inc, .out = out };
	uint64_t w = participant_word(inc, PARTICIPANT_LIVE);

	close_tickets(q, &c);
	return_items(q, &c);
	return_segments(q, &c);
	wake_all(q); /* for what there is now, even if the rest is deferred */
	if (c.deferred) {
		out->deferred++;
		return;
	}
	POINT("recover:settled"); /* Dead here: the next one finds nothing left to do. */
	/* JOIN: the record is free when all it held is given back. */
	if (atomic_compare_exchange_strong_explicit(
		    &participant_of(q, i)->state, &w, participant_word(inc, PARTICIPANT_FREE),
		    memory_order_acq_rel, memory_order_relaxed))
		out->participants++;
}

/* It died while it joined, and held nothing. */
static void forget(struct shmq *q, uint32_t i, uint64_t w)
{
	/* JOIN */
	atomic_compare_exchange_strong_explicit(
		&participant_of(q, i)->state, &w,
		participant_word(participant_inc(w), PARTICIPANT_FREE), memory_order_acq_rel,
		memory_order_relaxed);
}

void recover_all(struct shmq *q, struct shmq_recovered *out)
{
	uint32_t i;
	KEEP_ERRNO;

	for (i = 0; i < q->geo.max_participants; i++) {
		uint64_t w = participant_state_of(q, i), inc = participant_inc(w);

		if (participant_state(w) == PARTICIPANT_FREE || inc == q->inc ||
		    !participant_dead(q, inc))
			continue;
		if (participant_state(w) == PARTICIPANT_JOINING)
			forget(q, i, w);
		else
			recover(q, i, inc, out);
	}
}

/*
 * Every record is of the dead, and what they could not be rid of is a ticket without a
 * segment: then the handle @q, about to join, becomes the owner of one, ticket and all,
 * and settles it when it can. All else is settled first and in the usual order: the
 * outcome of a move is told by its source, which is the dead one's until then.
 */
bool recover_adopt(struct shmq *q, uint64_t token)
{
	struct shmq_recovered out = { 0 };
	uint32_t i;

	for (i = 0; i < q->geo.max_participants; i++) {
		uint64_t w = participant_state_of(q, i);
		struct records r;
		struct corpse c = { .i = i, .inc = participant_inc(w), .out = &out };

		if (participant_state(w) != PARTICIPANT_LIVE || !participant_dead(q, c.inc))
			continue;
		/* The push record is the dead one's, and stays as it is. */
		r = records_of(participant_of(q, i));
		if (record_kind(r.push) != RECORD_EXACT ||
		    record_lane(r.push) >= q->geo.nr_lanes || record_n(r.push) > q->geo.slots)
			continue;
		close_named(q, &c, r.push);
		c.deferred = false; /* what is left of it becomes ours */
		close_named(q, &c, r.reserved);
		return_items(q, &c);
		return_segments(q, &c);
		if (c.deferred)
			continue;
		/* JOIN: late recoverers of the dead can do nothing from here on. */
		if (!atomic_compare_exchange_strong_explicit(
			    &participant_of(q, i)->state, &w,
			    participant_word(token, PARTICIPANT_LIVE), memory_order_acq_rel,
			    memory_order_relaxed))
			continue;
		q->me = i;
		/* RECORD */
		record_store(&participant_of(q, i)->reserved, record_word(RECORD_NONE, 0, 0, 0));
		q->record = r.push;
		q->busy = BUSY_UNSETTLED;
		return true;
	}
	return false;
}

void recover_probe(struct shmq *q)
{
	word_t *probed = &wakeup_of(q)->probed_ns;
	/* relaxed: a hint. In the future, as another time namespace may see it, is
	 * long ago. */
	uint64_t last = atomic_load_explicit(probed, memory_order_relaxed);
	uint64_t now = sys_coarse_ns();
	int64_t pace = (int64_t)(now - q->came_by_ns);
	KEEP_ERRNO;

	/* A worker comes by when a window of the short way has ended. One that is too slow
	 * for that gets no windows, and comes by at each item, until so many of them take
	 * less than a tick of the clock. */
	if (pace >= (int64_t)PROBE_NS || (pace > 0 && q->slow))
		q->slow = SLOW_ITEMS;
	else if (q->slow)
		q->slow--;
	q->came_by_ns = now;
	if (now - last < PROBE_NS || !mapping_intact(q->map)) /* leave it to who can tell */
		return;
	/* relaxed: one of us is enough; if it stops, another comes by. */
	if (!atomic_compare_exchange_strong_explicit(probed, &last, now, memory_order_relaxed,
						     memory_order_relaxed))
		return;
	POINT("recover:probe"); /* Dead here: looked for again PROBE_NS later. */
	recover_all(q, &(struct shmq_recovered){ 0 });
}

void recover_own(struct shmq *q)
{
	struct shmq_recovered out = { 0 };
	struct corpse c = { .i = q->me, .inc = q->inc, .out = &out };

	return_items(q, &c);
	q->nr_leases = 0;
	wake_all(q);
}

SHMQ_API int shmq_recover(struct shmq *q, struct shmq_recovered *out)
{
	struct shmq_recovered found;
	KEEP_ERRNO;

	if (!q)
		return -EFAULT;
	if (!q->map)
		return -ECHILD;
	if (q->observer)
		return -EROFS;
	if (out && out->sz != sizeof *out)
		return -EINVAL;
	if (!mapping_intact(q->map))
		return -EBADF;
	found = q->opened;
	found.sz = sizeof found;
	found.deferred = 0;
	memset(&q->opened, 0, sizeof q->opened);
	recover_all(q, &found);
	if (out)
		*out = found;
	return 0;
}
