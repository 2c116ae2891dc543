/* SPDX-License-Identifier: MIT */
/*
 * test_stress.c - many processes, every item accounted for: each exactly once,
 * byte by byte what was pushed, in the order of its producer.
 */
#include "traffic.h"

static void run(struct traffic *t)
{
	pid_t pid[2 * TRAFFIC_WORKERS];
	struct shmq *q = attach("q");

	traffic_spawn(t, pid, pid + t->producers);
	reap_all(pid, (int)(t->producers + t->consumers));
	traffic_check(t, q);
	shmq_close(q);
}

static struct traffic *traffic_of(unsigned producers, unsigned consumers,
				  unsigned lanes, long items)
{
	uint64_t each = (uint64_t)counts(items) / producers + 1;
	struct traffic *t = traffic_new(producers, consumers, lanes, each);

	t->arrivals = arrivals_new(producers, each);
	t->seed = seed("traffic");
	return t;
}

START_TEST(every_item_arrives_once_from_many_producers_at_many_consumers)
{
	static const unsigned shape[][2] = {
		{ 1, 1 }, { 1, 4 }, { 4, 1 }, { 3, 3 }, { 8, 4 },
	};
	struct shmq_config c = config(3, 1000, 300);
	struct traffic *t = traffic_of(shape[_i][0], shape[_i][1], 3, 600000);

	c.lanes[0].capacity = 3;
	c.lanes[2].capacity = 65;
	must_eq(shmq_create("q", &c), 0);
	t->item_size = 300;
	t->batch = 8;
	run(t);
}
END_TEST

START_TEST(every_item_arrives_once_through_waiting_calls)
{
	struct traffic *t = traffic_of(4, 4, 2, 400000);

	create("q", 2, 16, 64);
	t->batch = 4;
	t->timeout_ns = 5 * (int64_t)MS;
	run(t);
}
END_TEST

START_TEST(every_item_arrives_once_through_the_smallest_lanes)
{
	uint64_t capacity = (uint64_t)_i;
	struct traffic *t = traffic_of(3, 3, SHMQ_MAX_LANES, 300000);

	create("q", SHMQ_MAX_LANES, capacity, 64);
	t->batch = 3;
	t->pauses = true;
	run(t);
}
END_TEST

START_TEST(every_item_arrives_once_in_large_batches)
{
	struct traffic *t = traffic_of(3, 3, 2, 3000000);

	create("q", 2, 5000, 24);
	t->item_size = 24;
	t->batch = 700;
	run(t);
}
END_TEST

START_TEST(every_large_item_arrives_whole)
{
	struct traffic *t = traffic_of(2, 2, 2, 4000);

	create("q", 2, 5, 1 << 18);
	t->item_size = 1 << 18;
	t->batch = 3;
	run(t);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("stress");
	TCase *t = suite_case(s, "exactly once", 120);

	tcase_add_loop_test(
		t, every_item_arrives_once_from_many_producers_at_many_consumers,
		0, 5);
	tcase_add_test(t, every_item_arrives_once_through_waiting_calls);
	tcase_add_loop_test(
		t, every_item_arrives_once_through_the_smallest_lanes, 1, 4);
	tcase_add_test(t, every_item_arrives_once_in_large_batches);
	tcase_add_test(t, every_large_item_arrives_whole);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
