/* SPDX-License-Identifier: MIT */
/*
 * test_walk.c - a walk copies what waits, in order, and changes nothing; also while
 * others push and pop, and on a handle that can not write.
 */
#include "common.h"

#define CAPACITY 1000

static void push_seq(struct shmq *q, int lane, uint64_t seq)
{
	char buf[64];

	item_fill(buf, STAMP_LEN + seq % 40, (uint32_t)lane, seq);
	must_eq(shmq_push(q, lane, buf, STAMP_LEN + seq % 40, SHMQ_NOWAIT), 0);
}

static void pop_seq(struct shmq *q, int lane, uint64_t seq)
{
	char buf[64];
	struct stamp st;
	ssize_t n = shmq_pop(q, lane, buf, sizeof buf, NULL, SHMQ_NOWAIT);

	must(n > 0 && item_read(buf, (size_t)n, &st));
	must_eq(st.seq, seq);
}

static void expect(struct shmq_walk *w, int lane, uint64_t seq, unsigned attempts)
{
	char buf[64];
	struct stamp st;
	struct shmq_info info;
	ssize_t n = shmq_walk_next(w, buf, sizeof buf, &info);

	must_eq(n, (ssize_t)(STAMP_LEN + seq % 40));
	must(item_read(buf, (size_t)n, &st));
	must_eq(st.producer, (uint32_t)lane);
	must_eq(st.seq, seq);
	must_eq(info.len, n);
	must_eq(info.lane, lane);
	must_eq(info.attempts, attempts);
}

static void expect_end(struct shmq_walk *w)
{
	char buf[64];

	must_eq(shmq_walk_next(w, buf, sizeof buf, NULL), -EAGAIN);
	must_eq(shmq_walk_next(w, buf, sizeof buf, NULL), -EAGAIN);
	shmq_walk_end(w);
}

START_TEST(all_lanes_from_the_highest_each_in_order)
{
	struct shmq *q = create_attach("q", 3, CAPACITY, 64), *seeing;
	struct shmq_walk *w;
	struct shmq_stat before = { .sz = sizeof before }, after = { .sz = sizeof after };
	uint64_t i;

	for (i = 0; i < 700; i++) { /* not from the first slot of the first segment */
		push_seq(q, 1, i);
		pop_seq(q, 1, i);
	}
	for (i = 0; i < 300; i++)
		for (int lane = 2; lane >= 0; lane--)
			push_seq(q, lane, i);
	must_eq(shmq_open(&seeing, "q", SHMQ_OBSERVE), 0);
	must_eq(shmq_stat(seeing, &before), 0);
	must_eq(shmq_walk_begin(seeing, SHMQ_ANY_LANE, &w), 0);
	for (int lane = 0; lane < 3; lane++)
		for (i = 0; i < 300; i++)
			expect(w, lane, i, 1);
	expect_end(w);
	must_eq(shmq_walk_begin(seeing, 1, &w), 0);
	for (i = 0; i < 300; i++)
		expect(w, 1, i, 1);
	expect_end(w);
	must_eq(shmq_stat(seeing, &after), 0);
	must_eq(memcmp(&before, &after, sizeof before), 0);
	for (i = 0; i < 300; i++)
		pop_seq(q, 1, i);
	shmq_close(seeing);
	shmq_close(q);
}
END_TEST

START_TEST(what_is_held_is_left_out_and_what_came_back_is_where_it_was)
{
	struct shmq *q = create_attach("q", 1, CAPACITY, 64);
	struct shmq_walk *w;
	struct shmq_lease held, back;
	void *buf;

	for (uint64_t i = 0; i < 5; i++)
		push_seq(q, 0, i);
	must_eq(shmq_reserve(q, 0, &buf, SHMQ_NOWAIT), 0); /* unfinished */
	must_eq(shmq_peek(q, 0, &back, SHMQ_NOWAIT), 0);
	must_eq(shmq_peek(q, 0, &held, SHMQ_NOWAIT), 0);
	must_eq(shmq_requeue(q, &back), 0);
	must_eq(shmq_walk_begin(q, 0, &w), 0);
	expect(w, 0, 0, 2);
	expect(w, 0, 2, 1);
	pop_seq(q, 0, 0);
	must_eq(shmq_release(q, &held), 0);
	pop_seq(q, 0, 2);
	pop_seq(q, 0, 3); /* not seen yet: not any more */
	must_eq(shmq_abort(q), 0);
	push_seq(q, 0, 5); /* after the beginning */
	expect(w, 0, 4, 1);
	expect_end(w);
	shmq_close(q);
}
END_TEST

START_TEST(bad_use_is_refused_and_a_short_buffer_loses_nothing)
{
	struct shmq *q = create_attach("q", 2, 8, 64);
	struct shmq_walk *w = NULL;
	struct shmq_info info = { 0 };
	char buf[64];

	push_seq(q, 1, 7);
	must_eq(shmq_walk_begin(NULL, 0, &w), -EFAULT);
	must_eq(shmq_walk_begin(q, 0, NULL), -EFAULT);
	must_eq(shmq_walk_begin(q, 2, &w), -ECHRNG);
	must_eq(shmq_walk_begin(q, -7, &w), -ECHRNG);
	must(!w);
	must_eq(shmq_walk_next(NULL, buf, sizeof buf, NULL), -EFAULT);
	must_eq(shmq_walk_begin(q, SHMQ_ANY_LANE, &w), 0);
	must_eq(shmq_walk_next(w, NULL, 1, NULL), -EFAULT);
	must_eq(shmq_walk_next(w, buf, 3, &info), -EMSGSIZE);
	must_eq(info.len, STAMP_LEN + 7);
	must_eq(shmq_walk_next(w, NULL, 0, NULL), -EMSGSIZE);
	expect(w, 1, 7, 1);
	expect_end(w);
	shmq_walk_end(NULL);
	shmq_close(q);
}
END_TEST

/* ---- while others are at work ------------------------------------------------------- */

struct traffic {
	atomic_int quit;
	atomic_ulong moved;
};

/* Lane 0 holds numbers that nobody touches, lane 1 is pushed and popped all the time. */
static int moves(void *arg)
{
	struct traffic *t = arg;
	struct shmq *q = attach("q");
	uint64_t in = 0, out = 0;

	while (!atomic_load(&t->quit)) {
		for (int i = 0; i < 100; i++)
			push_seq(q, 1, in++);
		for (int i = 0; i < 100; i++)
			pop_seq(q, 1, out++);
		atomic_fetch_add(&t->moved, 100);
	}
	shmq_close(q);
	return 0;
}

START_TEST(a_walk_beside_traffic_sees_whole_items_in_order)
{
	struct traffic *t = shared(sizeof *t);
	struct shmq *q = create_attach("q", 2, CAPACITY, 64), *seeing;
	uint64_t least = counts(2000), walks = 0, seen = 0, i;
	pid_t pid;

	for (i = 0; i < 500; i++)
		push_seq(q, 0, i);
	must_eq(shmq_open(&seeing, "q", SHMQ_OBSERVE), 0);
	pid = spawn(moves, t);
	while (!atomic_load(&t->moved))
		sched_yield();
	while (walks++ < least || !seen) {
		struct shmq_walk *w;
		struct stamp st;
		uint64_t last = 0;
		char buf[64];
		ssize_t n;

		must_eq(shmq_walk_begin(seeing, SHMQ_ANY_LANE, &w), 0);
		for (i = 0; i < 500; i++)
			expect(w, 0, i, 1);
		while ((n = shmq_walk_next(w, buf, sizeof buf, NULL)) >= 0) {
			must(item_read(buf, (size_t)n, &st), "a torn item");
			must_eq(st.producer, 1);
			must(st.seq + 1 > last, "%" PRIu64 " after %" PRIu64, st.seq, last);
			last = st.seq + 1;
			seen++;
		}
		must_eq(n, -EAGAIN);
		shmq_walk_end(w);
	}
	fprintf(stderr, "# %" PRIu64 " items of lane 1 seen while they came and went\n", seen);
	must(seen > 0);
	atomic_store(&t->quit, 1);
	reap_ok(pid);
	shmq_close(seeing);
	shmq_close(q);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("walk");
	TCase *t = suite_case(s, "walk", 60);

	tcase_add_test(t, all_lanes_from_the_highest_each_in_order);
	tcase_add_test(t, what_is_held_is_left_out_and_what_came_back_is_where_it_was);
	tcase_add_test(t, bad_use_is_refused_and_a_short_buffer_loses_nothing);
	tcase_add_test(t, a_walk_beside_traffic_sees_whole_items_in_order);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
