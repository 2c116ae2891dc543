/* SPDX-License-Identifier: MIT */
/*
 * test_verify.c - the benchmarks' verification finds every kind of wrong queue: the ring
 * they compare with, made wrong in one way at a time, must not pass, and right it must.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "common.h"

extern const struct bench_contender bench_ring, bench_shmq;

enum fault { NONE, LOSES, REPEATS, REORDERS, DAMAGES, SHORTENS, REFUSES, DIES };

#define EVERY 10 /* calls: so often it goes wrong */

static enum fault fault;
static unsigned calls;

static int faulty_push_n(void *end, int lane, const struct iovec *items, int n)
{
	if (fault == NONE || ++calls % EVERY)
		return bench_ring.push_n(end, lane, items, n);
	switch (fault) {
	case LOSES:
		return n;
	case REPEATS:
		bench_ring.push_n(end, lane, items, n);
		return bench_ring.push_n(end, lane, items, n);
	case REFUSES:
		return -EIO;
	case DIES:
		raise(SIGKILL);
		return 0;
	default:
		return bench_ring.push_n(end, lane, items, n);
	}
}

static int faulty_pop_n(void *end, struct iovec *items, int n)
{
	unsigned char *first = items[0].iov_base, *second = items[1].iov_base, kept[64];
	int got = bench_ring.pop_n(end, items, n);

	if (fault == REORDERS && got > 1) {
		memcpy(kept, first, 64);
		memcpy(first, second, 64);
		memcpy(second, kept, 64);
	}
	if (got < 1 || ++calls % EVERY)
		return got;
	if (fault == DAMAGES)
		memset(first + 32, 0xa5, 32); /* a copy that was not completed */
	if (fault == SHORTENS)
		items[0].iov_len--;
	return got;
}

static struct bench_contender faulty(int threads)
{
	struct bench_contender c = bench_ring;

	c.threads = threads;
	c.push_n = faulty_push_n;
	c.pop_n = faulty_pop_n;
	calls = 0;
	return c;
}

static int run(const struct bench_contender *c, const struct bench_shape *shape,
	       struct bench_result *res)
{
	struct bench_entry e = {c->name, c, NULL};

	return bench_run(&e, shape, 0.05, 0, res);
}

static const struct bench_shape usual = {
	.producers = 1, .consumers = 1, .lanes = 1, .batch = 4, .size = 64, .capacity = 1024};

static const struct {
	enum fault fault;
	const char *words;
} faults[] = {
	{LOSES, "lost or twice"},      {REPEATS, " after "},
	{REORDERS, " after "},         {DAMAGES, "a damaged item"},
	{SHORTENS, "a damaged item"},  {REFUSES, "push: Input/output error"},
	{DIES, "was killed or is stuck"},
};

START_TEST(a_wrong_queue_is_found)
{
	struct bench_contender c = faulty(_i & 1);
	struct bench_result res;
	int err;

	fault = faults[_i / 2].fault;
	do /* on a busy machine hardly anything may have been moved */
		err = run(&c, &usual, &res);
	while (!err && res.checked < 100 * EVERY);
	ck_assert_int_eq(err, -EBADE);
	ck_assert_msg(strstr(res.why, faults[_i / 2].words) != NULL, "%s", res.why);
}
END_TEST

/* In processes and in threads, each kind of shape. */
START_TEST(a_right_queue_passes)
{
	static const struct bench_shape shapes[] = {
		{.producers = 1, .consumers = 1},
		{.producers = 3, .consumers = 2, .lanes = 3},
		{.producers = 2, .consumers = 2, .depth = 101},
		{.producers = 1, .consumers = 2, .idle = 9},
		{.producers = 2, .consumers = 1, .size = 8},
		{.producers = 1, .consumers = 1, .size = 4096},
	};
	struct bench_contender c = faulty(_i & 1);
	unsigned i;

	fault = NONE;
	for (i = 0; i < ARRAY_LEN(shapes); i++) {
		struct bench_shape s = shapes[i];
		struct bench_result res;

		s.lanes = s.lanes ? s.lanes : 1;
		s.size = s.size ? s.size : 64;
		s.batch = 2;
		s.capacity = 256;
		ck_assert_msg(run(&c, &s, &res) == 0, "shape %u: %s", i, res.why);
		ck_assert_uint_ge(res.checked, s.depth + 1);
	}
}
END_TEST

START_TEST(a_rate_is_kept)
{
	struct bench_shape s = usual;
	struct bench_result res;

	s.producers = 3;
	s.consumers = 2;
	s.batch = 1;
	s.rate = 20000;
	ck_assert_int_eq(run(&bench_ring, &s, &res), -ENOTSUP);
	ck_assert_msg(run(&bench_shmq, &s, &res) == 0, "%s", res.why);
	/* The warm-up and what was measured, of 20 items per millisecond. */
	ck_assert_uint_ge(res.checked, 20);
	ck_assert(res.wait_us[0] > 0 && res.wait_us[0] <= res.wait_us[1] &&
		  res.wait_us[1] <= res.wait_us[2]);
	ck_assert(res.cpu[0] > 0 && res.cpu[1] > 0);
}
END_TEST

START_TEST(what_is_full_too_early_is_said)
{
	struct bench_shape s = usual;
	struct bench_result res;

	/* At once, not when patience is at its end. */
	alarm(BENCH_GRACE_S / 2);
	s.depth = s.capacity + 1;
	ck_assert_int_eq(run(&bench_ring, &s, &res), -EBADE);
	ck_assert_str_eq(res.why, "full before it held 1025 items");
}
END_TEST

START_TEST(what_is_not_built_is_said)
{
	struct bench_entry e = {"strange", NULL, "libstrange-dev"};
	struct bench_result res;

	ck_assert_int_eq(bench_run(&e, &usual, 0.05, 0, &res), -ENOTSUP);
	ck_assert_str_eq(res.why, "not built (needs libstrange-dev)");
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("verify");
	TCase *t = suite_case(s, "verify", 120);

	tcase_add_loop_test(t, a_wrong_queue_is_found, 0, 2 * ARRAY_LEN(faults));
	tcase_add_loop_test(t, a_right_queue_passes, 0, 2);
	tcase_add_test(t, a_rate_is_kept);
	tcase_add_test(t, what_is_full_too_early_is_said);
	tcase_add_test(t, what_is_not_built_is_said);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
