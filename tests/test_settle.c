/* SPDX-License-Identifier: MIT */
/*
 * test_settle.c - a producer draws tickets and there is no segment for them. It
 * keeps them, and settles them with its next push, or leaves them to recovery.
 *
 * The pool never runs dry by itself, so the free segments are hidden here: OWNED
 * by a participant that does not exist.
 *
 * And from where on a producer draws no ticket but the one that was admitted.
 */
#include "common.h"

#include "lane.h"
#include "recover.h"
#include "segment.h"

#define CAPACITY 100
#define NOBODY 4095u

static void pool_hide(struct shmq *q, bool hide)
{
	enum segment_state from = hide ? SEGMENT_FREE : SEGMENT_OWNED;
	uint32_t i;

	for (i = 0; i < q->geo.nr_segments; i++) {
		word_t *hdr = &segment_of(q, i)->hdr;
		uint64_t h = atomic_load(hdr);

		if (segment_state(h) == from)
			atomic_store(hdr, segment_word(segment_inc(h), hide ? NOBODY : 0,
						       hide ? SEGMENT_OWNED : SEGMENT_FREE));
	}
}

static uint64_t next_in, next_out;

static int push_next(struct shmq *q)
{
	int r = shmq_push(q, 0, &next_in, sizeof next_in, SHMQ_NOWAIT);

	next_in += r == 0;
	return r;
}

static void pop_next(struct shmq *q)
{
	uint64_t id;

	must_eq(shmq_pop(q, 0, &id, sizeof id, NULL, SHMQ_NOWAIT), 8);
	must_eq(id, next_out++);
}

/*
 * @q draws a batch that begins in the middle of an installed segment and ends in
 * one that can not be installed: the first half is pushed, the rest unsettled.
 */
static void leave_unsettled_tickets(struct shmq *q)
{
	uint32_t half = q->geo.slots / 2, i;
	struct iovec items[SEGMENT_SLOTS_MAX];
	uint64_t ids[SEGMENT_SLOTS_MAX], t;

	for (i = 0; i < half; i++)
		must_eq(push_next(q), 0);
	for (i = 0; i < q->geo.slots; i++) {
		ids[i] = next_in + i;
		items[i] = (struct iovec){ &ids[i], sizeof ids[i] };
	}
	pool_hide(q, true);
	t = atomic_fetch_add(&lane_of(q, 0)->tail, q->geo.slots);
	record_set(q, RECORD_EXACT, 0, q->geo.slots, t);
	must_eq(push_drawn(q, 0, t, items, (int)q->geo.slots), half);
	next_in += half;
	must_eq(push_next(q), -EAGAIN); /* nothing to settle with */
}

static void check_whole(struct shmq *q)
{
	struct shmq_stat st;
	int pushed = 0;

	while (next_out != next_in)
		pop_next(q);
	must_eq(shmq_pop(q, 0, &next_in, 0, NULL, SHMQ_NOWAIT), -EAGAIN);
	stat_of(q, &st);
	must_eq(st.lanes[0].unfinished, 0);
	while (push_next(q) == 0)
		pushed++;
	must_eq(pushed, CAPACITY);
}

static void start(struct shmq **q, struct shmq **other)
{
	struct shmq_config c = config(1, CAPACITY, 8);

	c.max_participants = 4;
	next_in = next_out = 0;
	must_eq(shmq_create("q", &c), 0);
	*q = attach("q");
	*other = attach("q");
}

START_TEST(unsettled_tickets_are_settled_by_the_next_push)
{
	struct shmq *q, *other;

	start(&q, &other);
	leave_unsettled_tickets(q);
	pool_hide(q, false);
	must_eq(push_next(q), 0);
	check_whole(other);
	shmq_close(q);
	shmq_close(other);
}
END_TEST

START_TEST(tickets_can_be_settled_after_their_neighbours_are_recycled)
{
	struct shmq *q, *other;
	int i;

	start(&q, &other);
	leave_unsettled_tickets(q);
	pool_hide(q, false);
	for (i = 0; i < 50 * CAPACITY; i++) { /* many laps around the holes */
		must_eq(push_next(other), 0);
		pop_next(other);
	}
	must_eq(push_next(q), 0);
	check_whole(other);
	shmq_close(q);
	shmq_close(other);
}
END_TEST

START_TEST(unsettled_tickets_of_a_closed_handle_are_recovered)
{
	struct shmq_recovered out = { 0 };
	struct shmq *q, *other;
	struct shmq_stat st;

	start(&q, &other);
	leave_unsettled_tickets(q);
	shmq_close(q);
	stat_of(other, &st);
	must_eq(st.nr_dead, 1);
	recover_all(other, &out);
	must_eq(out.deferred, 1); /* there is no segment yet */
	must_eq(out.tickets, 0);
	pool_hide(other, false);
	recover_all(other, &out);
	must_eq(out.participants, 1);
	stat_of(other, &st);
	must_eq(st.nr_dead, 0);
	check_whole(other);
	shmq_close(other);
}
END_TEST

/* ---- tickets that no record names ---------------------------------------------- */

static void die_with_a_ticket(const char *point)
{
	if (!strcmp(point, "push:ticket") || !strcmp(point, "push_one:ticket"))
		raise(SIGKILL);
}

static int draw_and_die(void *arg)
{
	struct shmq *q = attach("q");
	struct iovec items[3];
	uint64_t ids[3] = { 0 };

	(void)arg;
	for (int i = 0; i < 3; i++)
		items[i] = (struct iovec){ &ids[i], sizeof ids[i] };
	shmq_point_hook = die_with_a_ticket;
	shmq_push_n(q, 0, items, 3, SHMQ_NOWAIT);
	return 1;
}

/*
 * A producer dies between drawing its tickets and writing down which. Another one is
 * stopped in the same place with an older tail, so that nobody can tell whose they
 * are. The others go on for a long time before it does.
 */
START_TEST(tickets_of_the_dead_are_closed_however_long_they_had_to_wait)
{
	static const int laps[] = { 0, 1, 10, 1000, 20000 };
	struct shmq_recovered out = { .sz = sizeof out };
	struct shmq *q, *stopped;
	int i;

	start(&q, &stopped);
	record_set(stopped, RECORD_PENDING, 0, 1, atomic_load(&lane_of(q, 0)->tail));
	must_eq(reap(spawn(draw_and_die, NULL)), SIGNALLED + SIGKILL);
	for (i = 0; i < laps[_i] * CAPACITY / 2; i++) {
		must_eq(push_next(q), 0);
		pop_next(q);
	}
	must_eq(shmq_recover(q, &out), 0);
	must_eq(out.deferred, 1);
	record_set(stopped, RECORD_NONE, 0, 0, 0);
	must_eq(shmq_recover(q, &out), 0);
	must_eq(out.deferred, 0);
	must_eq(out.participants, 1);
	must_eq(out.tickets, 3);
	check_whole(q);
	shmq_close(q);
	shmq_close(stopped);
}
END_TEST

static uint32_t segments_free(struct shmq *q)
{
	struct shmq_stat st;

	stat_of(q, &st);
	return st.segments_free;
}

struct death {
	bool pool;       /* there are free segments afterwards */
	uint64_t pushed; /* by the dead */
};

static int die_unsettled(void *arg)
{
	struct death *d = arg;
	struct shmq *q = attach("adopt");

	next_in = next_out = 0;
	leave_unsettled_tickets(q);
	d->pushed = next_in;
	if (d->pool)
		pool_hide(q, false);
	return raise(SIGKILL);
}

/* All records are of the dead, and who joins may not install what they lack: it would
 * own the segment in the name of participant 0. Round 0: it could. Round 1: none is
 * free, either. */
START_TEST(who_joins_adopts_a_ticket_without_a_segment)
{
	struct shmq_config c;
	struct shmq *q, *seeing;
	uint32_t free_before;
	struct death *d;
	int n = 0;

	shmq_config_init(&c, sizeof c);
	c.nr_lanes = 1;
	c.lanes[0].capacity = CAPACITY;
	c.max_participants = 1;
	must_eq(shmq_create("adopt", &c), 0);
	d = shared(sizeof *d);
	d->pool = _i == 0;
	must_eq(reap(spawn(die_unsettled, d)), SIGNALLED + SIGKILL);
	next_in = d->pushed;
	next_out = 0;
	must_eq(shmq_open(&seeing, "adopt", SHMQ_OBSERVE), 0);
	free_before = segments_free(seeing);
	q = attach("adopt");
	must_eq(segments_free(seeing), free_before);
	shmq_close(seeing);
	if (_i == 1) {
		must_eq(push_next(q), -EAGAIN); /* still without a segment */
		must_eq(shmq_recover(q, NULL), 0);
		pool_hide(q, false);
	}
	while (next_out < next_in)
		pop_next(q);
	while (push_next(q) == 0)
		n++;
	must_eq(n, CAPACITY);
	while (next_out < next_in)
		pop_next(q);
	shmq_close(q);
	must_eq(shmq_unlink("adopt"), 0);
}
END_TEST

/* Where @q finds the lane full it looks where its limit is. */
static uint64_t margin(struct shmq *q)
{
	int n = 0;

	while (push_next(q) == 0)
		n++;
	while (n-- > 0)
		pop_next(q);
	must_eq(push_next(q), 0);
	pop_next(q);
	return q->view[0].limit - q->view[0].near;
}

START_TEST(close_to_the_limit_is_counted_by_those_who_have_been_there)
{
	struct shmq *q = create_attach("q", 1, CAPACITY, 64), *other[3];

	must_eq(margin(q), 2 * 1);
	for (int i = 0; i < 3; i++)
		other[i] = attach("q");
	must_eq(margin(q), 2 * 4);
	for (int i = 0; i < 3; i++)
		shmq_close(other[i]);
	must_eq(margin(q), 2 * 4);
	atomic_store(&wakeup_of(q)->seats, UINT64_MAX); /* as a region may say that lies */
	must_eq(margin(q), 2 * q->geo.max_participants);
	shmq_close(q);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("settle");
	TCase *c = suite_case(s, "settle", 30);

	tcase_add_test(c, unsettled_tickets_are_settled_by_the_next_push);
	tcase_add_test(c, tickets_can_be_settled_after_their_neighbours_are_recycled);
	tcase_add_test(c, unsettled_tickets_of_a_closed_handle_are_recovered);
	tcase_add_loop_test(c, who_joins_adopts_a_ticket_without_a_segment, 0, 2);
	tcase_add_loop_test(c, tickets_of_the_dead_are_closed_however_long_they_had_to_wait, 0,
			    5);
	tcase_add_test(c, close_to_the_limit_is_counted_by_those_who_have_been_there);
	return suite_run(s);
}
