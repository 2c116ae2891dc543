/* SPDX-License-Identifier: MIT */
/*
 * test_calls.c - processes that die while they make, open, close, remove or recover a
 * queue, at random and at each system call.
 */
#include "common.h"
#include "trace.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* The queue @name is whole: it opens and carries an item. */
static void works(const char *name)
{
	struct shmq *q = attach(name);
	char buf[8];

	must_eq(shmq_push(q, 0, "works", 5, 0), 0);
	must_eq(shmq_pop(q, 0, buf, 8, NULL, 0), 5);
	must(memcmp(buf, "works", 5) == 0);
	shmq_close(q);
}


/* ---- death -------------------------------------------------------------- */

struct life {
	atomic_int inside; /* a create is running */
	atomic_ulong made;
};

static int make_and_remove(void *arg)
{
	struct life *l = arg;
	struct shmq_config c = config(3, 3000, 64);

	for (;;) {
		atomic_store(&l->inside, 1);
		must_eq(shmq_create("q", &c), 0);
		atomic_store(&l->inside, 0);
		atomic_fetch_add(&l->made, 1);
		must_eq(shmq_unlink("q"), 0);
	}
	return 0;
}

/* What a creator that died left: nothing, or one whole queue. */
static bool left_whole(void)
{
	bool there = access(queue_path("q"), F_OK) == 0;

	must_eq(dir_entries(test_dir), there);
	if (there) {
		works("q");
		must_eq(shmq_unlink("q"), 0);
	}
	return there;
}

START_TEST(a_creator_killed_at_random_leaves_a_whole_queue_or_nothing)
{
	struct life *l = shared(sizeof(*l));
	struct rng r = rng_of(seed("creator"), 0);
	long kills = counts(400), inside = 0, whole = 0;

	for (long i = 0; i < kills; i++) {
		pid_t pid;
		unsigned long made = atomic_load(&l->made);

		atomic_store(&l->inside, 0);
		pid = spawn(make_and_remove, l);
		while (rng_below(&r, 2) && atomic_load(&l->made) == made)
			sched_yield();
		sleep_ns(rng_below(&r, 3 * MS));
		kill(pid, SIGKILL);
		must_eq(reap(pid), SIGNALLED + SIGKILL);
		inside += atomic_load(&l->inside);
		whole += left_whole();
	}
	fprintf(stderr, "# %ld kills, %ld inside create, %ld queues left\n",
		kills, inside, whole);
	must(inside > kills / 10 && inside > 0);
}
END_TEST

static int come_and_go(void *arg)
{
	struct life *l = arg;
	struct shmq *q, *d;
	void *buf;

	for (;;) {
		atomic_store(&l->inside, 1);
		must_eq(shmq_open(&q, "q", 0), 0);
		must_eq(shmq_dup(q, &d), 0);
		atomic_store(&l->inside, 0);
		if (atomic_fetch_add(&l->made, 1) % 2)
			must_eq(shmq_reserve(d, 0, &buf, SHMQ_NOWAIT), 0);
		atomic_store(&l->inside, 2);
		shmq_close(q);
		shmq_close(d);
	}
	return 0;
}

START_TEST(a_process_killed_at_random_in_open_or_close_costs_nothing)
{
	struct life *l = shared(sizeof(*l));
	struct rng r = rng_of(seed("come and go"), 0);
	long kills = counts(300), inside[3] = { 0 };
	struct shmq *q = create_attach("q", 1, 50, 8);
	struct shmq_stat st;
	uint64_t v = 0;

	for (long i = 0; i < kills; i++) {
		pid_t pid;

		atomic_store(&l->inside, 0);
		pid = spawn(come_and_go, l);
		while (atomic_load(&l->inside) == 0)
			sched_yield();
		sleep_ns(rng_below(&r, 2 * MS));
		kill(pid, SIGKILL);
		must_eq(reap(pid), SIGNALLED + SIGKILL);
		inside[atomic_load(&l->inside)]++;
		must_eq(shmq_recover(q, NULL), 0);
		stat_of(q, &st);
		must_eq(st.nr_participants, 1);
		must_eq(st.nr_dead, 0);
		must_eq(st.lanes[0].unfinished, 0);
		for (int k = 0; k < 50; k++)
			must_eq(shmq_push(q, 0, &v, 8, SHMQ_NOWAIT), 0);
		must_eq(shmq_push(q, 0, &v, 8, SHMQ_NOWAIT), -EAGAIN);
		for (int k = 0; k < 50; k++)
			must_eq(shmq_pop(q, 0, &v, 8, NULL, SHMQ_NOWAIT), 8);
	}
	fprintf(stderr, "# %ld kills, %ld in open, %ld in close\n", kills, inside[1],
		inside[2]);
	must(inside[1] > 0 && inside[2] > 0);
	shmq_close(q);
}
END_TEST

/* One call between two marks; ends before the system call that is asked for. */
enum call { CREATE, OPEN, DUP, CLOSE, UNLINK, PUSH_POP, RECOVER, NR_CALLS };

/* Dies with an item and a reservation. */
static int leaves_work(void *arg)
{
	struct shmq *q = attach("q");
	struct shmq_lease lease;
	void *buf;

	(void)arg;
	must_eq(shmq_push(q, 1, "held", 4, SHMQ_NOWAIT), 0);
	must_eq(shmq_peek(q, 1, &lease, SHMQ_NOWAIT), 0);
	must_eq(shmq_reserve(q, 1, &buf, SHMQ_NOWAIT), 0);
	raise(SIGKILL);
	return 1;
}

/* Whoever was killed in recovering them: the next one finishes it. */
static void work_is_given_back(void)
{
	struct shmq *q = attach("q");
	struct shmq_info info;
	struct shmq_stat st;
	char buf[64];

	must_eq(shmq_recover(q, NULL), 0);
	stat_of(q, &st);
	must_eq(st.nr_participants, 1);
	must_eq(st.nr_dead, 0);
	must_eq(st.lanes[1].held, 0);
	must_eq(st.lanes[1].unfinished, 0);
	must_eq(shmq_pop(q, 1, buf, 64, &info, SHMQ_NOWAIT), 4);
	must_eq(info.attempts, 2);
	must_eq(shmq_pop(q, 1, buf, 64, NULL, SHMQ_NOWAIT), -EAGAIN);
	for (int i = 0; i < 100; i++)
		must_eq(shmq_push(q, 1, "x", 1, SHMQ_NOWAIT), 0);
	must_eq(shmq_push(q, 1, "x", 1, SHMQ_NOWAIT), -EAGAIN);
	shmq_close(q);
}

static int one_call(void *arg)
{
	enum call what = *(enum call *)arg;
	struct shmq_config c = config(2, 100, 64);
	struct shmq *q = NULL, *d = NULL;
	char buf[64];

	if (what == DUP || what == CLOSE || what == PUSH_POP || what == RECOVER)
		must_eq(shmq_open(&q, "q", 0), 0);
	if (what == RECOVER)
		must_eq(reap(spawn(leaves_work, NULL)), SIGNALLED + SIGKILL);
	trace_mark();
	switch (what) {
	case CREATE: must_eq(shmq_create("q", &c), 0); break;
	case OPEN: must_eq(shmq_open(&q, "q", 0), 0); break;
	case DUP: must_eq(shmq_dup(q, &d), 0); break;
	case CLOSE: shmq_close(q); break;
	case UNLINK: must_eq(shmq_unlink("q"), 0); break;
	case RECOVER: must_eq(shmq_recover(q, NULL), 0); break;
	default:
		must_eq(shmq_push(q, 1, "x", 1, (int64_t)SECOND), 0);
		must_eq(shmq_pop(q, 1, buf, 64, NULL, (int64_t)SECOND), 1);
		must_eq(shmq_pop(q, 1, buf, 64, NULL, (int64_t)MS),
			-ETIMEDOUT);
	}
	trace_mark();
	return 0;
}

START_TEST(a_process_killed_at_any_system_call_leaves_the_queue_usable)
{
	enum call what = (enum call)_i;
	struct shmq_config c = config(2, 100, 64);
	long calls = 0;

	for (long k = 1;; k++) {
		long nr = 0;
		pid_t pid;

		if (what != CREATE)
			must_eq(shmq_create("q", &c), 0);
		if (!trace_spawn(&pid, one_call, &what))
			return;
		trace_to_mark(pid);
		for (long i = 0; i < k && nr != TRACE_MARK; i++)
			nr = trace_next(pid);
		must(nr != TRACE_GONE);
		trace_kill(pid);
		if (what == CREATE || what == UNLINK) {
			left_whole();
		} else {
			struct shmq *h[16];

			works("q");
			if (what == RECOVER)
				work_is_given_back();
			/* The slot of the dead one is to be had again. */
			for (int i = 0; i < 16; i++)
				h[i] = attach("q");
			for (int i = 0; i < 16; i++)
				shmq_close(h[i]);
			must_eq(shmq_unlink("q"), 0);
		}
		must_eq(dir_entries(test_dir), 0);
		if (nr == TRACE_MARK)
			break;
		calls++;
	}
	fprintf(stderr, "# killed at %ld system calls\n", calls);
	must(calls > 0);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("calls");
	TCase *t = suite_case(s, "death", 120);

	tcase_add_test(
		t, a_creator_killed_at_random_leaves_a_whole_queue_or_nothing);
	tcase_add_test(t, a_process_killed_at_random_in_open_or_close_costs_nothing);
	tcase_add_loop_test(
		t, a_process_killed_at_any_system_call_leaves_the_queue_usable,
		0, NR_CALLS);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
