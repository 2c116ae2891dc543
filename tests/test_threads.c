/* SPDX-License-Identifier: MIT */
/*
 * test_threads.c - the traffic of test_stress.c by threads over one mapping.
 * A race detector is blind between processes and between two mappings, so this
 * is the test to run in a -Db_sanitize=thread build.
 */
#include "traffic.h"

struct crew {
	struct traffic *t;
	struct shmq *q;
	unsigned me;
	bool produces;
};

static void *work(void *arg)
{
	struct crew *c = arg;

	if (c->produces)
		traffic_produce(c->t, c->q, c->me);
	else
		traffic_consume(c->t, c->q, c->me);
	return NULL;
}

/* Each thread with a handle of its own, all from one shmq_dup() family. */
static void run(struct traffic *t)
{
	struct crew crew[2 * TRAFFIC_WORKERS];
	pthread_t thread[2 * TRAFFIC_WORKERS];
	unsigned n = t->producers + t->consumers;
	struct shmq *q = attach("q");

	for (unsigned i = 0; i < n; i++) {
		bool p = i < t->producers;

		crew[i] = (struct crew){ t, NULL, p ? i : i - t->producers, p };
		must_eq(shmq_dup(q, &crew[i].q), 0);
	}
	for (unsigned i = 0; i < n; i++)
		must_eq(pthread_create(&thread[i], NULL, work, &crew[i]), 0);
	for (unsigned i = 0; i < n; i++)
		must_eq(pthread_join(thread[i], NULL), 0);
	traffic_check(t, q);
	for (unsigned i = 0; i < n; i++)
		shmq_close(crew[i].q);
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

START_TEST(threads_push_and_pop_single_items)
{
	struct traffic *t = traffic_of(4, 4, 3, 400000);

	create("q", 3, 9, 40);
	t->item_size = 40;
	run(t);
}
END_TEST

START_TEST(threads_push_and_pop_batches)
{
	struct traffic *t = traffic_of(3, 3, 2, 600000);

	create("q", 2, 300, 100);
	t->item_size = 100;
	t->batch = 40;
	run(t);
}
END_TEST

START_TEST(threads_wait_for_each_other)
{
	struct traffic *t = traffic_of(4, 4, 2, 200000);

	create("q", 2, 4, 64);
	t->batch = 3;
	t->timeout_ns = 5 * (int64_t)MS;
	run(t);
}
END_TEST

START_TEST(threads_pass_through_a_lane_of_one)
{
	struct traffic *t = traffic_of(2, 2, 2, 200000);

	create("q", 2, 1, 32);
	t->item_size = 32;
	t->pauses = true;
	run(t);
}
END_TEST

/* ---- looking while others work ------------------------------------------ */

struct looker {
	struct shmq *q;
	struct traffic *t;
	uint64_t looks;
};

static void *look(void *arg)
{
	struct looker *l = arg;
	struct shmq_participant part[16];
	struct shmq_stat st = { .sz = sizeof(st) };
	struct shmq_pressure p;

	while (!atomic_load(&l->t->quit)) {
		must_eq(shmq_stat(l->q, &st), 0);
		must_eq(shmq_pressure(l->q, 0, &p), 0);
		must(shmq_participants(l->q, part, 16) > 0);
		l->looks++;
		sleep_ns(MS / 50);
	}
	return NULL;
}

static void *come_and_go(void *arg)
{
	struct looker *l = arg;
	struct shmq *d;

	while (!atomic_load(&l->t->quit)) {
		must_eq(shmq_dup(l->q, &d), 0);
		shmq_close(d);
		l->looks++;
		sleep_ns(MS / 50);
	}
	return NULL;
}

START_TEST(threads_look_attach_and_detach_while_others_work)
{
	struct traffic *t = traffic_new(1, 1, 2, (uint64_t)counts(100000));
	struct looker looker = { .t = t }, goer = { .t = t };
	struct crew crew[2] = { { t, NULL, 0, true }, { t, NULL, 0, false } };
	pthread_t thread[4];
	struct shmq *q = create_attach("q", 2, 500, 64);

	t->seed = seed("looking");
	must_eq(shmq_dup(q, &crew[0].q), 0);
	must_eq(shmq_dup(q, &crew[1].q), 0);
	must_eq(shmq_dup(q, &looker.q), 0);
	must_eq(shmq_dup(q, &goer.q), 0);
	for (int i = 0; i < 2; i++)
		must_eq(pthread_create(&thread[i], NULL, work, &crew[i]), 0);
	must_eq(pthread_create(&thread[2], NULL, look, &looker), 0);
	must_eq(pthread_create(&thread[3], NULL, come_and_go, &goer), 0);
	must_eq(pthread_join(thread[0], NULL), 0);
	must_eq(pthread_join(thread[1], NULL), 0);
	atomic_store(&t->quit, 1);
	must_eq(pthread_join(thread[2], NULL), 0);
	must_eq(pthread_join(thread[3], NULL), 0);
	must(looker.looks > 0 && goer.looks > 0);
	traffic_check(t, q);
	for (int i = 0; i < 2; i++)
		shmq_close(crew[i].q);
	shmq_close(looker.q);
	shmq_close(goer.q);
	shmq_close(q);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("threads");
	TCase *t = suite_case(s, "threads", 120);

	tcase_add_test(t, threads_push_and_pop_single_items);
	tcase_add_test(t, threads_push_and_pop_batches);
	tcase_add_test(t, threads_wait_for_each_other);
	tcase_add_test(t, threads_pass_through_a_lane_of_one);
	tcase_add_test(t, threads_look_attach_and_detach_while_others_work);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
