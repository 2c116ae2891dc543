/* SPDX-License-Identifier: MIT */
/*
 * test_wrap.c - the same queue after many years: tickets, segment numbers and
 * incarnations begin shortly before each place where some field of them wraps.
 */
#include "region.h"
#include "traffic.h"

#define BIT(n) (UINT64_C(1) << (n))

/* Eight slots per segment here, so ticket = number * 8. */
static const struct {
	const char *what;
	uint64_t number, inc;
} starts[] = {
	{ "the beginning", 1, 0 },
	{ "16 bits of an incarnation", 1, BIT(16) - 3 },
	{ "32 bits of a ticket", BIT(29) - 3, 1 },
	{ "32 bits of a number", BIT(32) - 3, BIT(32) - 3 },
	{ "44 bits of a number", BIT(44) - 3, 7 },
	{ "44 bits of a number, old segments", BIT(44) - 3, BIT(43) },
	{ "52 bits of a ticket", BIT(49) - 3, 7 },
	{ "63 bits of a ticket", BIT(60) - 3, BIT(20) },
	{ "64 bits of a ticket", BIT(61) - 3, BIT(20) },
};

static struct shmq *old_queue(int i, unsigned lanes, uint64_t capacity)
{
	struct shmq_config c = config(lanes, capacity, 64);
	struct shmq_stat st;
	struct shmq *q;

	fprintf(stderr, "# near %s\n", starts[i].what);
	must_eq(region_create("q", &c, 8, starts[i].number, starts[i].inc), 0);
	q = attach("q");
	stat_of(q, &st);
	must_eq(st.slots_per_segment, 8);
	for (unsigned k = 0; k < lanes; k++) {
		must_eq(st.lanes[k].depth, 0);
		must_eq(st.lanes[k].held, 0);
		must_eq(st.lanes[k].unfinished, 0);
	}
	return q;
}

START_TEST(limit_and_order_hold_where_counters_wrap)
{
	static const uint64_t caps[] = { 1, 3, 20 };

	for (unsigned c = 0; c < ARRAY_LEN(caps); c++) {
		struct shmq *q = old_queue(_i, 3, caps[c]);
		uint64_t in = 0, out = 0, v[2];
		struct iovec iov[2] = { { &v[0], 8 }, { &v[1], 8 } };
		struct shmq_pressure p;

		for (int lap = 0; lap < 200; lap++) {
			int lane = lap % 3;

			while (in - out < caps[c]) {
				must_eq(shmq_push(q, lane, &in, 8, 0), 0);
				in++;
			}
			must_eq(shmq_push(q, lane, &in, 8, 0), -EAGAIN);
			must_eq(shmq_push_n(q, lane, iov, 2, 0), -EAGAIN);
			must_eq(depth_of(q, lane), caps[c]);
			must_eq(shmq_pressure(q, lane, &p), 0);
			must_eq(p.depth, caps[c]);
			while (in > out) {
				int want = in - out > 1 ? 2 : 1;

				must_eq(shmq_pop_n(q, lane, iov, NULL, 2, 0),
					want);
				for (int i = 0; i < want; i++)
					must_eq(v[i], out++);
			}
			must_eq(shmq_pop(q, lane, v, 8, NULL, 0), -EAGAIN);
			must_eq(depth_of(q, lane), 0);
		}
		shmq_close(q);
		must_eq(shmq_unlink("q"), 0);
	}
}
END_TEST

START_TEST(every_item_arrives_once_where_counters_wrap)
{
	struct shmq *q = old_queue(_i, 2, 10);
	struct traffic *t = traffic_new(3, 3, 2, (uint64_t)counts(10000));
	pid_t pid[6];

	t->seed = seed("traffic");
	t->batch = 3;
	t->arrivals = arrivals_new(3, t->each);
	traffic_spawn(t, pid, pid + 3);
	reap_all(pid, 6);
	traffic_check(t, q);
	shmq_close(q);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("wrap");
	TCase *t = suite_case(s, "wrap", 60);

	tcase_add_loop_test(t, limit_and_order_hold_where_counters_wrap, 0,
			    ARRAY_LEN(starts));
	tcase_add_loop_test(t, every_item_arrives_once_where_counters_wrap, 0,
			    ARRAY_LEN(starts));
	return s;
}

int main(void)
{
	return suite_run(suite());
}
