/* SPDX-License-Identifier: MIT */
/*
 * test_any.c - shmq_wait_any() and shmq_arm(): waiting for one of many lanes and queues.
 * Run a second time under a kernel that seems to lack futex_waitv().
 */
#include "common.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "point.h"
#include "wait.h"

enum { QUEUES = 5, MANY = 130 }; /* MANY: more words than futex_waitv() takes */

static const char *name_of(int i)
{
	static char name[16];

	snprintf(name, sizeof(name), "q%d", i);
	return name;
}

static void open_all(struct shmq_wait *w, int n, bool make)
{
	for (int i = 0; i < n; i++) {
		if (make)
			create(name_of(i), 2, 4, 8);
		w[i] = (struct shmq_wait){ attach(name_of(i)), SHMQ_ANY_LANE,
					   SHMQ_READABLE, 0 };
	}
}

static void close_all(struct shmq_wait *w, int n)
{
	for (int i = 0; i < n; i++)
		shmq_close(w[i].q);
}

/* ---- what it says ---------------------------------------------------------- */

START_TEST(it_says_which_have_an_item_and_takes_none)
{
	struct shmq_wait w[QUEUES];
	char buf[8];

	open_all(w, QUEUES, true);
	w[3].lane = 0;
	must_eq(shmq_wait_any(w, QUEUES, 0), -EAGAIN);
	must_eq(shmq_push(w[3].q, 1, "", 0, 0), 0); /* not the lane that is waited for */
	must_eq(shmq_wait_any(w, QUEUES, 0), -EAGAIN);
	must_eq(shmq_push(w[1].q, 1, "", 0, 0), 0);
	must_eq(shmq_push(w[4].q, 0, "item", 4, 0), 0);
	for (int i = 0; i < 3; i++) {
		must_eq(shmq_wait_any(w, QUEUES, i == 2 ? SHMQ_FOREVER : i * (int64_t)MS), 2);
		for (int k = 0; k < QUEUES; k++)
			must_eq(w[k].ready, k == 1 || k == 4 ? SHMQ_READABLE : 0);
	}
	must_eq(shmq_pop(w[1].q, SHMQ_ANY_LANE, buf, 8, NULL, 0), 0);
	must_eq(shmq_wait_any(w, QUEUES, 0), 1);
	must_eq(w[1].ready, 0);
	must_eq(shmq_pop(w[4].q, SHMQ_ANY_LANE, buf, 8, NULL, 0), 4);
	must_eq(shmq_wait_any(w, QUEUES, 0), -EAGAIN);
	must_eq(w[4].ready, 0);
	close_all(w, QUEUES);
}
END_TEST

START_TEST(it_says_which_have_room)
{
	struct shmq *q = create_attach("q", 2, 4, 8);
	struct shmq_wait w[2] = { { q, 0, SHMQ_WRITABLE, 0 },
				  { q, 1, SHMQ_READABLE | SHMQ_WRITABLE, 0 } };
	struct shmq_pressure p;
	char buf[8];

	must_eq(shmq_wait_any(w, 2, SHMQ_FOREVER), 2);
	must(w[0].ready == SHMQ_WRITABLE && w[1].ready == SHMQ_WRITABLE);
	fill_exactly(q, 0, 4);
	must_eq(shmq_wait_any(w, 2, 0), 1);
	fill_exactly(q, 1, 4);
	must_eq(shmq_wait_any(w, 2, 0), 1);
	must_eq(w[1].ready, SHMQ_READABLE);
	must_eq(shmq_wait_any(w, 1, 0), -EAGAIN);
	must_eq(shmq_pop(q, 0, buf, 8, NULL, 0), 8);
	must_eq(shmq_wait_any(w, 1, 0), 1);
	must_eq(shmq_refused(q, &p), 0); /* of the pushes, not of the looks */
	must_eq(p.depth, 4);
	shmq_close(q);
}
END_TEST

static atomic_int alarms;

static void on_alarm(int sig)
{
	(void)sig;
	atomic_fetch_add(&alarms, 1);
}

START_TEST(it_ends_by_time_or_by_a_signal)
{
	struct shmq_wait w[QUEUES];
	struct sigaction sa = { .sa_handler = on_alarm };
	uint64_t t;

	open_all(w, QUEUES, true);
	for (int ms = 1; ms < 200; ms *= 5) {
		t = now_ns();
		must_eq(shmq_wait_any(w, QUEUES, ms * (int64_t)MS), -ETIMEDOUT);
		must(now_ns() - t >= (uint64_t)ms * MS);
	}
	must_eq(sigaction(SIGALRM, &sa, NULL), 0);
	ualarm(20000, 20000); /* again, should the first one come too early */
	must_eq(shmq_wait_any(w, QUEUES, SHMQ_FOREVER), -EINTR);
	ualarm(0, 0);
	close_all(w, QUEUES);
}
END_TEST

START_TEST(what_can_not_be_waited_for_is_refused)
{
	struct shmq *q = create_attach("q", 2, 4, 8), *o;
	struct shmq_wait w = { q, 0, SHMQ_READABLE, 7 };
	struct shmq_futex f;

	must_eq(shmq_open(&o, "q", SHMQ_OBSERVE), 0);
	must_eq(shmq_wait_any(&w, 0, 0), -EINVAL);
	must_eq(shmq_wait_any(&w, SHMQ_WAITS_MAX + 1, 0), -EINVAL);
	must_eq(shmq_wait_any(NULL, 1, 0), -EFAULT);
	must_eq(shmq_wait_any(&w, 1, -2), -ERANGE);
	must_eq(w.ready, 0);
	w.events = 0;
	must_eq(shmq_wait_any(&w, 1, 0), -EINVAL);
	w.events = SHMQ_WRITABLE << 1;
	must_eq(shmq_wait_any(&w, 1, 0), -EINVAL);
	w = (struct shmq_wait){ q, SHMQ_ANY_LANE, SHMQ_WRITABLE, 0 };
	must_eq(shmq_wait_any(&w, 1, 0), -ECHRNG);
	w = (struct shmq_wait){ q, 2, SHMQ_READABLE, 0 };
	must_eq(shmq_wait_any(&w, 1, 0), -ECHRNG);
	w = (struct shmq_wait){ o, 0, SHMQ_READABLE, 0 };
	must_eq(shmq_wait_any(&w, 1, 0), -EROFS);
	w = (struct shmq_wait){ NULL, 0, SHMQ_READABLE, 0 };
	must_eq(shmq_wait_any(&w, 1, 0), -EFAULT);
	must_eq(shmq_arm(q, 0, SHMQ_READABLE | SHMQ_WRITABLE, &f), -EINVAL);
	must_eq(shmq_arm(q, 0, SHMQ_READABLE, NULL), -EFAULT);
	must_eq(shmq_arm(o, 0, SHMQ_READABLE, &f), -EROFS);
	shmq_close(o);
	shmq_close(q);
}
END_TEST

/* ---- waking ------------------------------------------------------------------ */

struct echo {
	int n;
	long rounds;
	atomic_int ready;
};

/* Wait for an item in any queue, and send it back in the other lane. */
static int echo(void *arg)
{
	struct echo *e = arg;
	struct shmq_wait w[MANY];

	open_all(w, e->n, false);
	for (int i = 0; i < e->n; i++)
		w[i].lane = 0;
	for (long round = 0; round < e->rounds; round++) {
		long got = 0;
		uint64_t v;

		atomic_store(&e->ready, 1);
		must_eq(shmq_wait_any(w, e->n, SHMQ_FOREVER), 1);
		for (int i = 0; i < e->n; i++)
			if (w[i].ready) {
				must_eq(shmq_pop(w[i].q, 0, &v, 8, NULL, 0), 8);
				must_eq(v, round);
				must_eq(shmq_push(w[i].q, 1, &v, 8, 0), 0);
				got++;
			}
		must_eq(got, 1);
	}
	close_all(w, e->n);
	return 0;
}

static void echo_rounds(int n, long rounds, bool asleep)
{
	struct echo *e = shared(sizeof(*e));
	struct shmq_wait w[MANY];
	uint64_t begin, v;
	pid_t pid;

	open_all(w, n, true);
	*e = (struct echo){ .n = n, .rounds = rounds };
	pid = spawn(echo, e);
	begin = now_ns();
	for (long round = 0; round < rounds; round++) {
		int i = (int)(round * 7 % n);

		if (asleep) {
			wait_asleep(pid, &e->ready);
			atomic_store(&e->ready, 0);
		}
		v = (uint64_t)round;
		must_eq(shmq_push(w[i].q, 0, &v, 8, 0), 0);
		w[i].lane = 1;
		must_eq(shmq_wait_any(&w[i], 1, SHMQ_FOREVER), 1);
		must_eq(shmq_pop(w[i].q, 1, &v, 8, NULL, 0), 8);
		must_eq(v, round);
	}
	/* Were wake-ups lost, each of them would cost a slice of 50 ms. */
	must(now_ns() - begin < (uint64_t)rounds * 25 * MS + 2 * SECOND);
	reap_ok(pid);
	close_all(w, n);
}

START_TEST(a_sleeper_wakes_for_any_of_its_queues)
{
	echo_rounds(QUEUES, 100, true);
}
END_TEST

START_TEST(thousands_of_rounds_lose_no_wake)
{
	echo_rounds(QUEUES, counts(10000), false);
}
END_TEST

START_TEST(more_queues_than_the_system_call_takes)
{
	echo_rounds(MANY, 200, false);
}
END_TEST

static int await_room(void *arg)
{
	atomic_int *ready = arg;
	struct shmq_wait w[2] = { { attach("q"), 0, SHMQ_WRITABLE, 0 },
				  { attach("q"), 1, SHMQ_WRITABLE, 0 } };

	atomic_store(ready, 1);
	must_eq(shmq_wait_any(w, 2, SHMQ_FOREVER), 1);
	must(!w[0].ready && w[1].ready == SHMQ_WRITABLE);
	must_eq(shmq_push(w[1].q, 1, "item", 4, 0), 0);
	close_all(w, 2);
	return 0;
}

START_TEST(a_sleeper_wakes_for_room)
{
	struct shmq *q = create_attach("q", 2, 4, 8);
	atomic_int *ready = shared(sizeof(*ready));
	char buf[8];
	pid_t pid;

	fill_exactly(q, 0, 4);
	fill_exactly(q, 1, 4);
	pid = spawn(await_room, ready);
	wait_asleep(pid, ready);
	must_eq(shmq_pop(q, 1, buf, 8, NULL, 0), 8);
	reap_ok(pid);
	must_eq(depth_of(q, 1), 4);
	shmq_close(q);
}
END_TEST

/* Sleeps in a pop, and in a wait: the one does not eat the wake-up of the other. */
static int wait_for_ever(void *arg)
{
	atomic_int *ready = arg;
	struct shmq_wait w = { attach("q"), 1, SHMQ_READABLE, 0 };

	atomic_store(ready, 1);
	shmq_wait_any(&w, 1, SHMQ_FOREVER);
	return 0; /* and does not take it */
}

static int pop_one(void *arg)
{
	atomic_int *ready = arg;
	struct shmq *q = attach("q");
	char buf[8];

	atomic_store(ready, 1);
	must_eq(shmq_pop(q, 1, buf, 8, NULL, SHMQ_FOREVER), 4);
	shmq_close(q);
	return 0;
}

START_TEST(who_waits_for_many_takes_no_wake_up_from_sleepers)
{
	struct shmq *q = create_attach("q", 2, 4, 8);
	atomic_int *ready = shared(2 * sizeof(*ready));

	for (int i = 0; i < 20; i++) {
		pid_t other = spawn(wait_for_ever, &ready[0]), pid;

		wait_asleep(other, &ready[0]);
		pid = spawn(pop_one, &ready[1]);
		wait_asleep(pid, &ready[1]);
		must_eq(shmq_push(q, 1, "item", 4, 0), 0);
		reap_ok(pid);
		kill(other, SIGKILL);
		reap(other);
		atomic_store(&ready[0], 0);
		atomic_store(&ready[1], 0);
	}
	shmq_close(q);
}
END_TEST

/* ---- deaths ------------------------------------------------------------------- */

static const char *stop_at;
static int stop_signal;

static void stop_hook(const char *name)
{
	if (!strcmp(name, stop_at))
		kill(getpid(), stop_signal);
}

static int push_and_stop(void *arg)
{
	struct shmq *q = attach("q1");

	(void)arg;
	shmq_point_hook = stop_hook;
	shmq_push(q, 0, "item", 4, 0);
	return 0;
}

static const struct {
	const char *point;
	int signal;
} unrung[] = {
	{ "push:done", SIGKILL }, { "push:done", SIGSTOP },
	{ "ring:cleared", SIGKILL }, { "ring:cleared", SIGSTOP },
};

static int await_item(void *arg)
{
	atomic_int *ready = arg;
	struct shmq_wait w[2];
	char buf[8];

	open_all(w, 2, false);
	atomic_store(ready, 1);
	must_eq(shmq_wait_any(w, 2, 30 * (int64_t)SECOND), 1);
	must(w[1].ready);
	must_eq(shmq_pop(w[1].q, 0, buf, 8, NULL, 0), 4);
	close_all(w, 2);
	return 0;
}

START_TEST(a_waker_that_ends_before_it_wakes_is_made_good)
{
	atomic_int *ready = shared(sizeof(*ready));
	struct shmq_wait w[2];
	siginfo_t end;
	pid_t waiter, pid;

	open_all(w, 2, true);
	stop_at = unrung[_i].point;
	stop_signal = unrung[_i].signal;
	waiter = spawn(await_item, ready);
	wait_asleep(waiter, ready);
	pid = spawn(push_and_stop, NULL);
	must_eq(waitid(P_PID, (id_t)pid, &end, WEXITED | WSTOPPED | WNOWAIT), 0);
	must(end.si_code != CLD_EXITED, "%s is never passed", stop_at);
	reap_ok(waiter);
	kill(pid, SIGKILL);
	reap(pid);
	close_all(w, 2);
}
END_TEST

static int die_with_an_item(void *arg)
{
	struct shmq *q = attach("q1");
	struct shmq_lease l;

	(void)arg;
	must_eq(shmq_peek(q, 0, &l, 0), 0);
	kill(getpid(), SIGKILL);
	return 0;
}

START_TEST(what_a_dead_consumer_held_wakes_who_waits)
{
	struct shmq_wait w[2];
	char buf[8];

	open_all(w, 2, true);
	for (int i = 0; i < 3; i++) {
		must_eq(shmq_push(w[1].q, 0, "item", 4, 0), 0);
		must_eq(reap(spawn(die_with_an_item, NULL)), SIGNALLED + SIGKILL);
		must_eq(shmq_wait_any(w, 2, 30 * (int64_t)SECOND), 1);
		must_eq(shmq_pop(w[1].q, 0, buf, 8, NULL, 0), 4);
	}
	close_all(w, 2);
}
END_TEST

/* ---- by other means -------------------------------------------------------------- */

static int push_when_told(void *arg)
{
	atomic_int *go = arg;
	struct shmq *q = attach("q");

	while (!atomic_load(go))
		sleep_ns(MS / 10);
	must_eq(shmq_push(q, 1, "item", 4, 0), 0);
	shmq_close(q);
	return 0;
}

START_TEST(an_armed_word_changes_with_a_push)
{
	struct shmq *q = create_attach("q", 2, 4, 8);
	atomic_int *go = shared(sizeof(*go));
	struct shmq_futex f;
	char buf[8];
	pid_t pid;

	for (int i = 0; i < 50; i++) {
		atomic_store(go, 0);
		pid = spawn(push_when_told, go);
		must_eq(shmq_arm(q, SHMQ_ANY_LANE, SHMQ_READABLE, &f), 0);
		atomic_store(go, 1);
		while (__atomic_load_n(f.word, __ATOMIC_ACQUIRE) == f.value)
			must(syscall(SYS_futex, f.word, FUTEX_WAIT, f.value, NULL) == 0 ||
			     errno == EAGAIN || errno == EINTR);
		must_eq(shmq_arm(q, 1, SHMQ_READABLE, &f), 1);
		must_eq(shmq_pop(q, 1, buf, 8, NULL, 0), 4);
		reap_ok(pid);
	}
	shmq_close(q);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("any");
	TCase *c = suite_case(s, "any", 120);

	tcase_add_test(c, it_says_which_have_an_item_and_takes_none);
	tcase_add_test(c, it_says_which_have_room);
	tcase_add_test(c, it_ends_by_time_or_by_a_signal);
	tcase_add_test(c, what_can_not_be_waited_for_is_refused);
	tcase_add_test(c, a_sleeper_wakes_for_any_of_its_queues);
	tcase_add_test(c, a_sleeper_wakes_for_room);
	tcase_add_test(c, who_waits_for_many_takes_no_wake_up_from_sleepers);
	tcase_add_loop_test(c, a_waker_that_ends_before_it_wakes_is_made_good, 0,
			    ARRAY_LEN(unrung));
	tcase_add_test(c, what_a_dead_consumer_held_wakes_who_waits);
	tcase_add_test(c, an_armed_word_changes_with_a_push);
	c = suite_case(s, "rounds", 120);
	tcase_add_test(c, thousands_of_rounds_lose_no_wake);
	tcase_add_test(c, more_queues_than_the_system_call_takes);
	return suite_run(s);
}
