/* SPDX-License-Identifier: MIT */
/*
 * test_lease.c - writing and reading in place, giving back, dead letters, and what
 * shmq_recover() and shmq_holds() say of them. Deaths at every point of these are in
 * test_points.c and the sweeps.
 */
#include "common.h"

#define CAPACITY 100

static void push_id(struct shmq *q, int lane, uint64_t id)
{
	must_eq(shmq_push(q, lane, &id, sizeof id, SHMQ_NOWAIT), 0);
}

static void pop_expect(struct shmq *q, int lane, uint64_t id, unsigned attempts)
{
	struct shmq_info info;
	uint64_t got = UINT64_MAX;

	must_eq(shmq_pop(q, lane, &got, sizeof got, &info, SHMQ_NOWAIT), 8);
	must_eq(got, id);
	must_eq(info.attempts, attempts);
}

static uint64_t peek_id(struct shmq *q, int lane, struct shmq_lease *l)
{
	uint64_t id;

	must_eq(shmq_peek(q, lane, l, SHMQ_NOWAIT), 0);
	must_eq(l->info.len, sizeof id);
	memcpy(&id, l->data, sizeof id);
	return id;
}

static struct shmq *queue(unsigned max_attempts, int dead_lane)
{
	struct shmq_config c = config(3, CAPACITY, 64);

	c.max_attempts = max_attempts;
	c.dead_lane = dead_lane;
	c.flags = SHMQ_STAMP;
	must_eq(shmq_create("lease", &c), 0);
	return attach("lease");
}

static void fill_and_check(struct shmq *q, int lane)
{
	int n = 0;
	uint64_t id = 0;

	while (shmq_push(q, lane, &id, sizeof id, SHMQ_NOWAIT) == 0)
		n++;
	must_eq(n, CAPACITY);
	while (n--)
		pop_expect(q, lane, 0, 1);
}

/* ---- reserve --------------------------------------------------------------- */

START_TEST(a_reserved_item_appears_at_commit_in_its_place)
{
	struct shmq *q = queue(SHMQ_ATTEMPTS_MAX, SHMQ_DROP), *other;
	uint64_t id = 1;
	void *buf, *second;

	must_eq(shmq_dup(q, &other), 0);
	must_eq(shmq_reserve(q, 1, &buf, SHMQ_NOWAIT), 0);
	must_eq(shmq_reserve(q, 1, &second, SHMQ_NOWAIT), -EBUSY);
	must_eq(shmq_push(q, 1, &id, 8, SHMQ_NOWAIT), -EBUSY);
	must_eq(shmq_push_n(q, 1, &(struct iovec){ &id, 8 }, 1, SHMQ_NOWAIT), -EBUSY);
	must_eq(shmq_pop(other, 1, &id, 8, NULL, SHMQ_NOWAIT), -EAGAIN);
	push_id(other, 1, 2);
	push_id(other, 1, 3);
	pop_expect(q, 1, 2, 1); /* nobody waits for a writer */
	must_eq(shmq_commit(q, 65), -EMSGSIZE);
	id = 1;
	memcpy(buf, &id, sizeof id);
	must_eq(shmq_commit(q, sizeof id), 0);
	must_eq(shmq_commit(q, sizeof id), -ENOENT);
	must_eq(shmq_abort(q), -ENOENT);
	pop_expect(other, 1, 1, 1); /* ahead of what came later */
	pop_expect(other, 1, 3, 1);
	fill_and_check(q, 1);
	shmq_close(other);
	shmq_close(q);
}
END_TEST

START_TEST(an_aborted_reservation_gives_its_room_back)
{
	struct shmq *q = queue(SHMQ_ATTEMPTS_MAX, SHMQ_DROP), *other;
	struct shmq_stat st;
	uint64_t id = 0;
	void *buf;
	int i, n = 0;

	must_eq(shmq_dup(q, &other), 0);
	for (i = 0; i < 3 * CAPACITY; i++) {
		must_eq(shmq_reserve(q, 0, &buf, SHMQ_NOWAIT), 0);
		must_eq(shmq_abort(q), 0);
	}
	must_eq(shmq_reserve(q, 0, &buf, SHMQ_NOWAIT), 0);
	while (shmq_push(other, 0, &id, sizeof id, SHMQ_NOWAIT) == 0)
		n++;
	must_eq(n, CAPACITY - 1); /* it counts */
	must_eq(shmq_reserve(other, 0, &buf, SHMQ_NOWAIT), -EAGAIN);
	must_eq(shmq_reserve(other, 0, &buf, 1), -ETIMEDOUT);
	stat_of(other, &st);
	must_eq(st.lanes[0].unfinished, 1);
	must_eq(st.lanes[0].rejected, 3);
	shmq_close(q); /* aborts */
	push_id(other, 0, 7);
	must_eq(shmq_push(other, 0, &id, sizeof id, SHMQ_NOWAIT), -EAGAIN);
	shmq_close(other);
}
END_TEST

/* ---- peek ---------------------------------------------------------------------- */

START_TEST(a_peeked_item_is_nobody_elses_and_gone_when_released)
{
	struct shmq *q = queue(SHMQ_ATTEMPTS_MAX, SHMQ_DROP), *other;
	struct shmq_stat st;
	struct shmq_lease a, b, copy;
	uint64_t id;

	must_eq(shmq_dup(q, &other), 0);
	must_eq(shmq_peek(q, SHMQ_ANY_LANE, &a, SHMQ_NOWAIT), -EAGAIN);
	must_eq(shmq_peek(q, 1, &a, 1), -ETIMEDOUT);
	push_id(q, 1, 1);
	push_id(q, 1, 2);
	must_eq(peek_id(q, SHMQ_ANY_LANE, &a), 1);
	must_eq(a.info.lane, 1);
	must_eq(a.info.attempts, 1);
	must_eq(peek_id(other, SHMQ_ANY_LANE, &b), 2);
	must_eq(shmq_pop(q, 1, &id, 8, NULL, SHMQ_NOWAIT), -EAGAIN);
	stat_of(q, &st);
	must_eq(st.lanes[1].held, 2);
	must_eq(st.lanes[1].depth, 0);
	must_eq(shmq_release(other, &a), -ENOENT); /* not its own */
	copy = a;
	must_eq(shmq_release(q, &a), 0);
	must_eq(shmq_release(q, &copy), -ENOENT);
	must_eq(shmq_requeue(q, &copy), -ENOENT);
	must_eq(shmq_release(other, &b), 0);
	stat_of(q, &st);
	must_eq(st.lanes[1].held, 0);
	must_eq(st.lanes[1].popped, 2);
	fill_and_check(q, 1);
	shmq_close(other);
	shmq_close(q);
}
END_TEST

START_TEST(requeued_items_come_again_first_and_flagged)
{
	struct shmq *q = queue(SHMQ_ATTEMPTS_MAX, SHMQ_DROP);
	struct shmq_lease l[3];
	struct shmq_stat st;
	uint64_t i;

	for (i = 0; i < 5; i++)
		push_id(q, 2, i);
	for (i = 0; i < 3; i++)
		must_eq(peek_id(q, 2, &l[i]), i);
	must_eq(shmq_requeue(q, &l[2]), 0);
	must_eq(shmq_requeue(q, &l[0]), 0);
	stat_of(q, &st);
	must_eq(st.lanes[2].redelivered, 2);
	must_eq(st.lanes[2].depth, 4);
	pop_expect(q, 2, 0, 2);
	must_eq(shmq_release(q, &l[1]), 0);
	pop_expect(q, 2, 2, 2);
	pop_expect(q, 2, 3, 1);
	pop_expect(q, 2, 4, 1);
	must_eq(shmq_pop(q, 2, &i, 8, NULL, SHMQ_NOWAIT), -EAGAIN);
	shmq_close(q);
}
END_TEST

START_TEST(a_handle_holds_a_limited_number)
{
	struct shmq_config cfg = config(1, SHMQ_LEASES_MAX + 1, 8);
	struct shmq_lease *l = calloc(SHMQ_LEASES_MAX + 1, sizeof *l);
	struct shmq *q;
	int i;

	must_eq(shmq_create("lease", &cfg), 0);
	q = attach("lease");
	for (i = 0; i <= SHMQ_LEASES_MAX; i++)
		push_id(q, 0, (uint64_t)i);
	for (i = 0; i < SHMQ_LEASES_MAX; i++)
		must_eq(peek_id(q, 0, &l[i]), i);
	must_eq(shmq_peek(q, 0, &l[i], SHMQ_NOWAIT), -EMFILE);
	must_eq(shmq_release(q, &l[7]), 0);
	must_eq(peek_id(q, 0, &l[7]), i);
	must_eq(shmq_peek(q, 0, &l[i], SHMQ_FOREVER), -EMFILE);
	shmq_close(q); /* all go back */
	q = attach("lease");
	for (i = 0; i <= SHMQ_LEASES_MAX; i++)
		if (i != 7)
			pop_expect(q, 0, (uint64_t)i, 2);
	shmq_close(q);
	free(l);
}
END_TEST

/* A lease held while the lane goes round many times: nothing is lost or twice. */
START_TEST(a_long_lease_survives_the_turnover)
{
	struct shmq *q = queue(SHMQ_ATTEMPTS_MAX, SHMQ_DROP);
	struct shmq_lease l;
	void *buf;
	struct shmq *other;
	uint64_t i, id;

	must_eq(shmq_dup(q, &other), 0);
	push_id(q, 0, 4711);
	must_eq(peek_id(q, 0, &l), 4711);
	must_eq(shmq_reserve(q, 0, &buf, SHMQ_NOWAIT), 0);
	for (i = 0; i < 100 * CAPACITY; i++) {
		push_id(other, 0, i);
		pop_expect(other, 0, i, 1);
	}
	memcpy(&id, l.data, sizeof id);
	must_eq(id, 4711);
	memcpy(buf, &id, sizeof id);
	must_eq(shmq_commit(q, sizeof id), 0);
	must_eq(shmq_requeue(q, &l), 0);
	pop_expect(other, 0, 4711, 2);
	pop_expect(other, 0, 4711, 1);
	fill_and_check(other, 0);
	shmq_close(other);
	shmq_close(q);
}
END_TEST

START_TEST(wrong_use_is_refused)
{
	struct shmq *q = queue(SHMQ_ATTEMPTS_MAX, SHMQ_DROP), *seeing;
	struct shmq_lease l = { 0 };
	struct shmq_recovered r = { 0 };
	struct shmq_hold h;
	void *buf;

	must_eq(shmq_open(&seeing, "lease", SHMQ_OBSERVE), 0);
	must_eq(shmq_reserve(NULL, 0, &buf, 0), -EFAULT);
	must_eq(shmq_reserve(q, 0, NULL, 0), -EFAULT);
	must_eq(shmq_reserve(q, 3, &buf, 0), -ECHRNG);
	must_eq(shmq_reserve(q, -1, &buf, 0), -ECHRNG);
	must_eq(shmq_reserve(q, 0, &buf, -2), -ERANGE);
	must_eq(shmq_reserve(seeing, 0, &buf, 0), -EROFS);
	must_eq(shmq_commit(q, 0), -ENOENT);
	must_eq(shmq_commit(seeing, 0), -EROFS);
	must_eq(shmq_commit(NULL, 0), -EFAULT);
	must_eq(shmq_abort(NULL), -EFAULT);
	must_eq(shmq_peek(q, 0, NULL, 0), -EFAULT);
	must_eq(shmq_peek(q, 3, &l, 0), -ECHRNG);
	must_eq(shmq_peek(q, -2, &l, 0), -ECHRNG);
	must_eq(shmq_peek(q, 0, &l, -2), -ERANGE);
	must_eq(shmq_peek(seeing, 0, &l, 0), -EROFS);
	must_eq(shmq_release(q, NULL), -EFAULT);
	must_eq(shmq_release(q, &l), -ENOENT);
	memset(&l, 0xff, sizeof l);
	must_eq(shmq_release(q, &l), -ENOENT);
	must_eq(shmq_requeue(q, &l), -ENOENT);
	must_eq(shmq_requeue(seeing, &l), -EROFS);
	must_eq(shmq_recover(NULL, NULL), -EFAULT);
	must_eq(shmq_recover(q, &r), -EINVAL);
	must_eq(shmq_recover(seeing, NULL), -EROFS);
	must_eq(shmq_holds(NULL, &h, 1), -EFAULT);
	must_eq(shmq_holds(q, NULL, 1), -EFAULT);
	must_eq(shmq_holds(q, &h, -1), -EINVAL);
	must_eq(shmq_holds(seeing, NULL, 0), 0);
	shmq_close(seeing);
	shmq_close(q);
}
END_TEST

/* The tickets of aborted pushes hold no room, wherever they lie. */
START_TEST(aborted_tickets_behind_an_item_hold_no_room)
{
	struct shmq *q = queue(SHMQ_ATTEMPTS_MAX, SHMQ_DROP);
	uint64_t id = 0;
	void *buf;
	int i, n = 1;

	push_id(q, 0, 0); /* head stays at it */
	for (i = 0; i < 5 * CAPACITY; i++) {
		must_eq(shmq_reserve(q, 0, &buf, SHMQ_NOWAIT), 0);
		must_eq(shmq_abort(q), 0);
	}
	while (shmq_push(q, 0, &id, sizeof id, SHMQ_NOWAIT) == 0)
		n++;
	must_eq(n, CAPACITY);
	while (n--)
		pop_expect(q, 0, 0, 1);
	fill_and_check(q, 0);
	shmq_close(q);
}
END_TEST

START_TEST(a_lease_is_of_its_queue)
{
	struct shmq *q = queue(SHMQ_ATTEMPTS_MAX, SHMQ_DROP), *other;
	struct shmq_lease a, b;

	other = create_attach("other", 1, CAPACITY, 64);
	push_id(q, 0, 1);
	push_id(other, 0, 2);
	must_eq(peek_id(q, 0, &a), 1);
	must_eq(peek_id(other, 0, &b), 2);
	must_eq(shmq_release(other, &a), -ENOENT);
	must_eq(shmq_requeue(q, &b), -ENOENT);
	must_eq(shmq_release(q, &a), 0);
	must_eq(shmq_release(other, &b), 0);
	shmq_close(other);
	shmq_close(q);
}
END_TEST

/* ---- dead letters ----------------------------------------------------------------- */

static void fail_item(struct shmq *q, int lane, uint64_t id, int times)
{
	struct shmq_lease l;
	int i;

	for (i = 0; i < times; i++) {
		must_eq(peek_id(q, lane, &l), id);
		must_eq(l.info.attempts, i + 1);
		must_eq(shmq_requeue(q, &l), 0);
	}
}

START_TEST(what_fails_too_often_goes_to_the_dead_letter_lane)
{
	struct shmq *q = queue(3, 2);
	struct shmq_stat st;
	uint64_t id;

	push_id(q, 0, 1);
	push_id(q, 0, 2);
	fail_item(q, 0, 1, 3);
	pop_expect(q, 0, 2, 1);
	stat_of(q, &st);
	must_eq(st.max_attempts, 3);
	must_eq(st.dead_lane, 2);
	must_eq(st.lanes[0].dead, 1);
	must_eq(st.lanes[0].depth, 0);
	must_eq(st.lanes[2].depth, 1);
	must_eq(st.lanes[2].redelivered, 1);
	must_eq(shmq_pop(q, SHMQ_ANY_LANE, &id, 8, NULL, SHMQ_NOWAIT), -EAGAIN);
	must_eq(shmq_pop(q, SHMQ_ANY_LANE, &id, 8, NULL, MS), -ETIMEDOUT);
	must_eq(shmq_peek(q, SHMQ_ANY_LANE, &(struct shmq_lease){ 0 }, SHMQ_NOWAIT), -EAGAIN);
	pop_expect(q, 2, 1, 4);
	must_eq(shmq_pop(q, SHMQ_ANY_LANE, &id, 8, NULL, SHMQ_NOWAIT), -EAGAIN);
	fill_and_check(q, 0);
	fill_and_check(q, 2);
	shmq_close(q);
}
END_TEST

START_TEST(without_a_dead_letter_lane_it_is_dropped_and_counted)
{
	struct shmq *q = queue(2, SHMQ_DROP);
	struct shmq_stat st;
	uint64_t id;

	push_id(q, 1, 1);
	fail_item(q, 1, 1, 2);
	must_eq(shmq_pop(q, SHMQ_ANY_LANE, &id, 8, NULL, SHMQ_NOWAIT), -EAGAIN);
	stat_of(q, &st);
	must_eq(st.lanes[1].dropped, 1);
	must_eq(st.lanes[1].dead, 0);
	must_eq(st.lanes[1].popped, 0);
	fill_and_check(q, 1);
	shmq_close(q);
}
END_TEST

START_TEST(a_full_dead_letter_lane_loses_nothing)
{
	struct shmq *q = queue(1, 2);
	struct shmq_lease l;
	struct shmq_stat st;
	void *buf;
	int i;

	for (i = 0; i < CAPACITY; i++)
		push_id(q, 2, 9);
	push_id(q, 0, 1);
	fail_item(q, 0, 1, 1);
	must_eq(peek_id(q, 0, &l), 1); /* no room: it is delivered once more */
	must_eq(shmq_refused(q, &(struct shmq_pressure){ 0 }), -ENODATA); /* no push was */
	must_eq(l.info.attempts, 2);
	must_eq(shmq_requeue(q, &l), 0);
	must_eq(shmq_reserve(q, 1, &buf, 0), 0); /* what it writes is not in the way */
	pop_expect(q, 2, 9, 1);
	must_eq(shmq_peek(q, 0, &l, 0), -EAGAIN); /* there is room: it is moved */
	stat_of(q, &st);
	must_eq(st.lanes[0].dead, 1);
	must_eq(st.lanes[1].unfinished, 1);
	must_eq(st.lanes[2].depth, CAPACITY);
	memcpy(buf, &(uint64_t){ 7 }, 8);
	must_eq(shmq_commit(q, 8), 0);
	pop_expect(q, 1, 7, 1);
	shmq_close(q);
}
END_TEST

/* Deliveries are numbered without end only up to a limit; then it is the item's end,
 * even if the dead-letter lane is full, and in the dead-letter lane itself. */
START_TEST(the_number_of_attempts_is_limited)
{
	struct shmq *q = queue(SHMQ_ATTEMPTS_MAX, 2);
	struct shmq_stat st;
	struct shmq_lease l;
	int i;

	push_id(q, 2, 1);
	for (i = 0; i < 1000 && shmq_peek(q, 2, &l, SHMQ_NOWAIT) == 0; i++)
		must_eq(shmq_requeue(q, &l), 0);
	must(i > SHMQ_ATTEMPTS_MAX && i < 100, "%d", i);
	stat_of(q, &st);
	must_eq(st.lanes[2].dropped, 1);
	must_eq(st.lanes[2].depth, 0);
	fill_and_check(q, 2);
	shmq_close(q);
}
END_TEST

/* ---- deaths --------------------------------------------------------------------------- */

static int hold_and_die(void *arg)
{
	struct shmq *q = attach("lease");
	struct shmq_lease l[2];
	void *buf;

	(void)arg;
	must_eq(shmq_peek(q, 0, &l[0], SHMQ_NOWAIT), 0);
	must_eq(shmq_peek(q, 0, &l[1], SHMQ_NOWAIT), 0);
	must_eq(shmq_release(q, &l[0]), 0);
	must_eq(shmq_reserve(q, 1, &buf, SHMQ_NOWAIT), 0);
	return raise(SIGKILL);
}

START_TEST(holds_of_the_dead_are_told_and_given_back)
{
	struct shmq *q = queue(SHMQ_ATTEMPTS_MAX, SHMQ_DROP);
	struct shmq_recovered r = { .sz = sizeof r };
	struct shmq_hold h[4];
	struct shmq_lease mine;
	pid_t pid;
	int i, items = 0;

	for (i = 0; i < 4; i++)
		push_id(q, 0, (uint64_t)i);
	must_eq(peek_id(q, 0, &mine), 0);
	pid = spawn(hold_and_die, NULL);
	must_eq(reap(pid), SIGNALLED + SIGKILL);
	must_eq(shmq_holds(q, NULL, 0), 3);
	must_eq(shmq_holds(q, h, 4), 3);
	for (i = 0; i < 3; i++) {
		bool item = h[i].kind == SHMQ_HOLD_ITEM;

		must_eq(h[i].pid, h[i].alive ? getpid() : pid);
		must_eq(h[i].lane, item ? 0 : 1);
		must(h[i].command[0]);
		items += item;
		if (!item)
			must(h[i].kind == SHMQ_HOLD_PUSH && !h[i].alive);
		else
			must(h[i].len == 8 && h[i].age_ns > 0 && h[i].attempts == 0);
	}
	must_eq(items, 2);
	must_eq(shmq_recover(q, &r), 0);
	must_eq(r.participants, 1);
	must_eq(r.items, 1);
	must_eq(r.tickets, 1);
	must_eq(r.deferred, 0);
	must_eq(shmq_holds(q, h, 4), 1);
	pop_expect(q, 0, 2, 2);
	pop_expect(q, 0, 3, 1);
	must_eq(shmq_release(q, &mine), 0);
	must_eq(shmq_recover(q, &r), 0);
	must_eq(r.participants + r.items + r.tickets, 0);
	fill_and_check(q, 0);
	fill_and_check(q, 1);
	shmq_close(q);
}
END_TEST

START_TEST(who_opens_the_queue_finds_what_its_predecessor_held)
{
	struct shmq *q = queue(SHMQ_ATTEMPTS_MAX, SHMQ_DROP), *next;
	struct shmq_recovered r = { .sz = sizeof r };
	int i;

	for (i = 0; i < 3; i++)
		push_id(q, 0, (uint64_t)i);
	must_eq(reap(spawn(hold_and_die, NULL)), SIGNALLED + SIGKILL);
	next = attach("lease");
	pop_expect(next, 0, 1, 2);
	must_eq(shmq_recover(next, &r), 0); /* tells what opening gave back */
	must_eq(r.participants, 1);
	must_eq(r.items, 1);
	must_eq(r.tickets, 1);
	must_eq(shmq_recover(next, &r), 0);
	must_eq(r.participants + r.items + r.tickets, 0);
	shmq_close(next);
	shmq_close(q);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("lease");
	TCase *c = suite_case(s, "lease", 20);

	tcase_add_test(c, a_reserved_item_appears_at_commit_in_its_place);
	tcase_add_test(c, an_aborted_reservation_gives_its_room_back);
	tcase_add_test(c, a_peeked_item_is_nobody_elses_and_gone_when_released);
	tcase_add_test(c, requeued_items_come_again_first_and_flagged);
	tcase_add_test(c, a_handle_holds_a_limited_number);
	tcase_add_test(c, a_long_lease_survives_the_turnover);
	tcase_add_test(c, wrong_use_is_refused);
	tcase_add_test(c, aborted_tickets_behind_an_item_hold_no_room);
	tcase_add_test(c, a_lease_is_of_its_queue);
	tcase_add_test(c, what_fails_too_often_goes_to_the_dead_letter_lane);
	tcase_add_test(c, without_a_dead_letter_lane_it_is_dropped_and_counted);
	tcase_add_test(c, a_full_dead_letter_lane_loses_nothing);
	tcase_add_test(c, the_number_of_attempts_is_limited);
	tcase_add_test(c, holds_of_the_dead_are_told_and_given_back);
	tcase_add_test(c, who_opens_the_queue_finds_what_its_predecessor_held);
	return suite_run(s);
}
