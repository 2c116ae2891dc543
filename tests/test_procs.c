/* SPDX-License-Identifier: MIT */
/*
 * test_procs.c - several processes and handles: order and priority between
 * them, fork(), several handles in one process, names that go while the queue
 * is in use, the dead, and observers.
 */
#include "traffic.h"

#include <sys/mman.h>
#include <sys/stat.h>

enum { NOBODY = 65534 };

/* ---- order -------------------------------------------------------------- */

START_TEST(each_consumer_sees_the_order_of_each_producer)
{
	struct traffic *t = traffic_new(3, (unsigned)_i, 2,
					(uint64_t)counts(150000));
	struct shmq *q = create_attach("q", 2, 40, 64);
	pid_t pid[8];

	t->seed = seed("order");
	t->batch = 5;
	traffic_spawn(t, pid, pid + 3);
	reap_all(pid, 3 + _i);
	traffic_check(t, q);
	shmq_close(q);
}
END_TEST

struct turns {
	atomic_ulong next; /* number of the item that may be pushed now */
	uint64_t want;
	unsigned producers;
};

struct turn_role {
	struct turns *t;
	unsigned me;
};

static int push_in_turn(void *arg)
{
	struct turn_role *me = arg;
	struct turns *t = me->t;
	struct shmq *q = attach("q");

	for (uint64_t i = me->me; i < t->want; i += t->producers) {
		while (atomic_load(&t->next) != i)
			sched_yield();
		must_eq(shmq_push(q, 0, &i, 8, 10 * (int64_t)SECOND), 0);
		atomic_store(&t->next, i + 1);
	}
	shmq_close(q);
	return 0;
}

START_TEST(one_consumer_sees_the_common_order_of_producers_in_turn)
{
	struct turns *t = shared(sizeof(*t));
	struct shmq *q = create_attach("q", 2, 70, 8);
	pid_t pid[3];
	uint64_t v;

	t->want = (uint64_t)counts(60000);
	t->producers = 3;
	for (unsigned i = 0; i < 3; i++)
		pid[i] = spawn(push_in_turn, &(struct turn_role){ t, i });
	for (uint64_t i = 0; i < t->want; i++) {
		must_eq(shmq_pop(q, SHMQ_ANY_LANE, &v, 8, NULL,
				 20 * (int64_t)SECOND), 8);
		must_eq(v, i);
	}
	reap_all(pid, 3);
	shmq_close(q);
}
END_TEST

/* ---- priority ----------------------------------------------------------- */

struct priority {
	atomic_ulong pushed[3]; /* pushes that have returned */
	atomic_int quit;
};

struct priority_role {
	struct priority *p;
	int lane;
	uint64_t seed;
};

static int push_to_lane(void *arg)
{
	struct priority_role *me = arg;
	struct rng r = rng_of(me->seed, (uint64_t)me->lane);
	struct shmq *q = attach("q");

	while (!atomic_load(&me->p->quit)) {
		int got = shmq_push(q, me->lane, &r, 8, SHMQ_NOWAIT);

		must(got == 0 || got == -EAGAIN, "%d", got);
		if (got == 0)
			atomic_fetch_add(&me->p->pushed[me->lane], 1);
		/* High is empty most of the time, low never. */
		for (int i = 0; i < 8 >> me->lane * 2; i++)
			pause_randomly(&r);
	}
	shmq_close(q);
	return 0;
}

START_TEST(an_item_of_a_higher_lane_that_was_there_is_taken_first)
{
	struct priority *p = shared(sizeof(*p));
	struct shmq *q = create_attach("q", 3, 20, 8);
	uint64_t popped[3] = { 0 }, sd = seed("priority"), v, decided = 0;
	struct shmq_info info;
	pid_t pid[3];

	for (int i = 0; i < 3; i++)
		pid[i] = spawn(push_to_lane, &(struct priority_role){ p, i, sd });
	for (long n = counts(300000); n > 0;) {
		int there = 3;

		/* Nobody else pops: what is there now stays. */
		for (int i = 2; i >= 0; i--)
			if (atomic_load(&p->pushed[i]) > popped[i])
				there = i;
		if (shmq_pop(q, SHMQ_ANY_LANE, &v, 8, &info, 0) == -EAGAIN) {
			must_eq(there, 3);
			continue;
		}
		must(info.lane <= there,
		     "lane %d taken while lane %d had an item", info.lane,
		     there);
		decided += there < 2;
		popped[info.lane]++;
		n--;
	}
	atomic_store(&p->quit, 1);
	reap_all(pid, 3);
	for (int i = 0; i < 3; i++) {
		must(popped[i] > 0, "lane %d never had its turn", i);
		must_eq(depth_of(q, i), atomic_load(&p->pushed[i]) - popped[i]);
	}
	must(decided > 0);
	shmq_close(q);
}
END_TEST

/* ---- fork --------------------------------------------------------------- */

static int use_after_fork(void *arg)
{
	struct shmq *q = arg, *d = NULL;
	struct shmq_participant part;
	struct shmq_stat st = { .sz = sizeof(st) };
	struct shmq_pressure p;
	char buf[8];
	struct iovec v = { buf, 8 };

	must_eq(shmq_push(q, 0, "x", 1, 0), -ECHILD);
	must_eq(shmq_push(q, 0, "x", 1, SHMQ_FOREVER), -ECHILD);
	must_eq(shmq_push_n(q, 0, &v, 1, 0), -ECHILD);
	must_eq(shmq_pop(q, 0, buf, 8, NULL, 0), -ECHILD);
	must_eq(shmq_pop(q, SHMQ_ANY_LANE, buf, 8, NULL, 0), -ECHILD);
	must_eq(shmq_pop_n(q, 0, &v, NULL, 1, 0), -ECHILD);
	must_eq(shmq_stat(q, &st), -ECHILD);
	must_eq(shmq_pressure(q, 0, &p), -ECHILD);
	must_eq(shmq_participants(q, &part, 1), -ECHILD);
	must_eq(shmq_dup(q, &d), -ECHILD);
	must(!d);
	shmq_close(q);

	/* One of its own. */
	q = attach("q");
	must_eq(shmq_pop(q, 0, buf, 8, NULL, 0), 6);
	must_eq(shmq_push(q, 1, "child", 5, 0), 0);
	shmq_close(q);
	return 0;
}

START_TEST(a_child_may_not_use_the_handle_and_the_parent_goes_on)
{
	struct shmq *q = create_attach("q", 2, 8, 8), *d, *o;
	struct shmq_stat st;
	char buf[8];

	must_eq(shmq_dup(q, &d), 0);
	for (int i = 0; i < 50; i++) {
		must_eq(shmq_push(q, 0, "parent", 6, 0), 0);
		reap_ok(spawn(use_after_fork, i % 2 ? q : d));
		stat_of(q, &st);
		must_eq(st.nr_participants, 2);
		must_eq(st.nr_dead, 0);
		must_eq(shmq_pop(d, SHMQ_ANY_LANE, buf, 8, NULL, 0), 5);
		must(memcmp(buf, "child", 5) == 0);
	}
	must_eq(shmq_open(&o, "q", SHMQ_OBSERVE), 0);
	must_eq(shmq_push(q, 0, "parent", 6, 0), 0);
	reap_ok(spawn(use_after_fork, o));
	must_eq(depth_of(o, 1), 1);
	shmq_close(o);
	shmq_close(d);
	shmq_close(q);
}
END_TEST

/* ---- several handles ---------------------------------------------------- */

START_TEST(two_handles_of_one_process_are_independent)
{
	struct shmq *a = create_attach("q", 2, 8, 8), *b = attach("q"), *c;
	char buf[8];

	must_eq(shmq_dup(a, &c), 0);
	must_eq(shmq_push(a, 0, "from a", 6, 0), 0);
	must_eq(shmq_pop(b, 0, buf, 8, NULL, 0), 6);
	must_eq(shmq_push(c, 0, "from c", 6, 0), 0);
	shmq_close(a);
	/* The mapping that a and c share stays as long as one of them. */
	must_eq(shmq_pop(c, 0, buf, 8, NULL, 0), 6);
	must(memcmp(buf, "from c", 6) == 0);
	must_eq(shmq_push(c, 1, "again", 5, 0), 0);
	shmq_close(c);
	must_eq(shmq_pop(b, 1, buf, 8, NULL, 0), 5);
	must_eq(shmq_pop(b, SHMQ_ANY_LANE, buf, 8, NULL, 0), -EAGAIN);
	shmq_close(b);
}
END_TEST

START_TEST(two_queues_do_not_mix)
{
	struct shmq *a = create_attach("a", 2, 8, 8);
	struct shmq *b = create_attach("b", 1, 3, 64);
	char buf[64];

	must_eq(shmq_push(a, 0, "a", 1, 0), 0);
	must_eq(shmq_pop(b, 0, buf, 64, NULL, 0), -EAGAIN);
	must_eq(shmq_push(b, 0, "long item of b", 14, 0), 0);
	must_eq(shmq_push(b, 1, "b", 1, 0), -ECHRNG);
	must_eq(shmq_pop(a, 0, buf, 64, NULL, 0), 1);
	must_eq(shmq_pop(b, 0, buf, 64, NULL, 0), 14);
	shmq_close(a);
	shmq_close(b);
}
END_TEST

START_TEST(a_removed_queue_works_on_and_its_name_is_free)
{
	struct shmq *old = create_attach("q", 1, 8, 8), *more, *new;
	struct shmq *none = NULL;
	char buf[8];

	must_eq(shmq_push(old, 0, "old", 3, 0), 0);
	must_eq(shmq_unlink("q"), 0);
	must_eq(shmq_open(&none, "q", 0), -ENOENT);
	must_eq(shmq_dup(old, &more), 0);
	new = create_attach("q", 1, 8, 8);
	must_eq(shmq_pop(new, 0, buf, 8, NULL, 0), -EAGAIN);
	must_eq(shmq_push(new, 0, "new", 3, 0), 0);
	must_eq(shmq_pop(more, 0, buf, 8, NULL, 0), 3);
	must(memcmp(buf, "old", 3) == 0);
	must_eq(shmq_pop(old, 0, buf, 8, NULL, 0), -EAGAIN);
	must_eq(shmq_pop(new, 0, buf, 8, NULL, 0), 3);
	must(memcmp(buf, "new", 3) == 0);
	shmq_close(old);
	shmq_close(more);
	shmq_close(new);
	must_eq(shmq_unlink("q"), 0);
	must_eq(dir_entries(test_dir), 0);
}
END_TEST

/* ---- the dead ----------------------------------------------------------- */

static int push_and_wait(void *arg)
{
	atomic_int *ready = arg;
	struct shmq *q = attach("q");

	must_eq(shmq_push(q, 0, "legacy", 6, 0), 0);
	atomic_store(ready, 1);
	pause();
	return 1;
}

START_TEST(the_slots_of_the_dead_are_taken_again_and_their_items_stay)
{
	struct shmq_config c = config(1, 1000, 8);
	atomic_int *ready = shared(sizeof(*ready));
	struct shmq_participant part[4];
	struct shmq_stat st;
	struct shmq *q;
	char buf[8];

	c.max_participants = 2;
	must_eq(shmq_create("q", &c), 0);
	q = attach("q");
	for (int i = 0; i < 300; i++) {
		pid_t pid;
		struct shmq *none = NULL;

		atomic_store(ready, 0);
		pid = spawn(push_and_wait, ready);
		wait_asleep(pid, ready);
		must_eq(shmq_open(&none, "q", 0), -EUSERS);
		if (i == 0) {
			must_eq(shmq_participants(q, part, 4), 2);
			must((int)part[0].pid == pid ||
			     (int)part[1].pid == pid);
		}
		kill(pid, SIGKILL);
		must_eq(reap(pid), SIGNALLED + SIGKILL);
	}
	stat_of(q, &st);
	must_eq(st.nr_participants, 1);
	must_eq(st.lanes[0].depth, 300);
	must_eq(st.lanes[0].pushed, 300);
	for (int i = 0; i < 300; i++) {
		must_eq(shmq_pop(q, 0, buf, 8, NULL, 0), 6);
		must(memcmp(buf, "legacy", 6) == 0);
	}
	must_eq(shmq_pop(q, 0, buf, 8, NULL, 0), -EAGAIN);
	shmq_close(q);
}
END_TEST

/* ---- observers ---------------------------------------------------------- */

/* The mapping of the queue in this process is r-- and cannot be more. */
static void mapped_read_only(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	char line[PATH_MAX + 200], mode[8];
	unsigned long from, to;
	int found = 0;

	must(f);
	while (fgets(line, sizeof(line), f)) {
		if (!strstr(line, "/shmq.q"))
			continue;
		must_eq(sscanf(line, "%lx-%lx %7s", &from, &to, mode), 3);
		must(mode[0] == 'r' && mode[1] == '-', "%s", line);
		must_eq(mprotect((void *)from, to - from,
				 PROT_READ | PROT_WRITE), -1);
		found++;
	}
	fclose(f);
	must(found > 0);
}

/* @alone: the process has no other mapping of the queue, so look at them. */
static void observe(uint64_t depth, bool alone)
{
	struct shmq *o = NULL, *d = NULL;
	struct shmq_participant part[4];
	struct shmq_pressure p;
	struct shmq_stat st;
	char buf[8];
	struct iovec v = { buf, 8 };

	must_eq(shmq_open(&o, "q", SHMQ_OBSERVE), 0);
	stat_of(o, &st);
	must_eq(st.lanes[1].depth, depth);
	must_eq(st.lanes[1].pushed, depth);
	must_eq(st.nr_participants, 1);
	must_eq(shmq_participants(o, part, 4), 1);
	must_eq(shmq_pressure(o, 1, &p), 0);
	must_eq(p.depth, depth);
	must_eq(shmq_push(o, 1, "x", 1, 0), -EROFS);
	must_eq(shmq_push(o, 1, "x", 1, SHMQ_FOREVER), -EROFS);
	must_eq(shmq_push_n(o, 1, &v, 1, 0), -EROFS);
	must_eq(shmq_pop(o, 1, buf, 8, NULL, 0), -EROFS);
	must_eq(shmq_pop(o, SHMQ_ANY_LANE, buf, 8, NULL, 0), -EROFS);
	must_eq(shmq_pop_n(o, 1, &v, NULL, 1, 0), -EROFS);
	must_eq(shmq_dup(o, &d), 0);
	must_eq(shmq_push(d, 1, "x", 1, 0), -EROFS);
	stat_of(d, &st);
	must_eq(st.lanes[1].depth, depth);
	if (alone)
		mapped_read_only();
	shmq_close(d);
	shmq_close(o);
}

static int observes_alone(void *arg)
{
	(void)arg;
	observe(1, true);
	return 0;
}

START_TEST(an_observer_sees_everything_and_changes_nothing)
{
	struct shmq *q = create_attach("q", 2, 8, 8);
	size_t n, m;
	void *before, *after;

	must_eq(shmq_push(q, 1, "x", 1, 0), 0);
	before = file_read(queue_path("q"), &n);
	observe(1, false);
	reap_ok(spawn(observes_alone, NULL));
	after = file_read(queue_path("q"), &m);
	must_eq(n, m);
	must(memcmp(before, after, n) == 0, "an observer wrote");
	free(before);
	free(after);
	shmq_close(q);
}
END_TEST

static int nobody_observes(void *arg)
{
	struct shmq *q = NULL;

	(void)arg;
	become(NOBODY);
	observe(3, true);
	must_eq(shmq_open(&q, "q", 0), -EACCES);
	must_eq(shmq_open(&q, "q", SHMQ_ANY_OWNER), -EACCES);
	return 0;
}

START_TEST(another_user_may_observe_what_he_may_read)
{
	struct shmq_config c = config(2, 8, 8);
	struct shmq *q;

	if (geteuid()) {
		skip("needs root");
		return;
	}
	c.mode = 0440;
	c.gid = NOBODY;
	must_eq(shmq_create("q", &c), 0);
	q = attach("q");
	for (int i = 0; i < 3; i++)
		must_eq(shmq_push(q, 1, "x", 1, 0), 0);
	reap_ok(spawn(nobody_observes, NULL));
	must_eq(shmq_push(q, 1, "x", 1, 0), 0);
	shmq_close(q);
}
END_TEST

START_TEST(observers_take_no_participant_slot)
{
	struct shmq_config c = config(1, 8, 8);
	struct shmq *q, *o[50];
	struct shmq_stat st;

	c.max_participants = 1;
	must_eq(shmq_create("q", &c), 0);
	for (unsigned i = 0; i < ARRAY_LEN(o); i++)
		must_eq(shmq_open(&o[i], "q", SHMQ_OBSERVE), 0);
	q = attach("q");
	stat_of(o[0], &st);
	must_eq(st.nr_participants, 1);
	for (unsigned i = 0; i < ARRAY_LEN(o); i++)
		shmq_close(o[i]);
	shmq_close(q);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("procs");
	TCase *t = suite_case(s, "order", 60);

	tcase_add_loop_test(t, each_consumer_sees_the_order_of_each_producer, 1,
			    4);
	tcase_add_test(t,
		       one_consumer_sees_the_common_order_of_producers_in_turn);
	tcase_add_test(t,
		       an_item_of_a_higher_lane_that_was_there_is_taken_first);

	t = suite_case(s, "handles", 30);
	tcase_add_test(t, a_child_may_not_use_the_handle_and_the_parent_goes_on);
	tcase_add_test(t, two_handles_of_one_process_are_independent);
	tcase_add_test(t, two_queues_do_not_mix);
	tcase_add_test(t, a_removed_queue_works_on_and_its_name_is_free);
	tcase_add_test(
		t, the_slots_of_the_dead_are_taken_again_and_their_items_stay);

	t = suite_case(s, "observers", 30);
	tcase_add_test(t, an_observer_sees_everything_and_changes_nothing);
	tcase_add_test(t, another_user_may_observe_what_he_may_read);
	tcase_add_test(t, observers_take_no_participant_slot);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
