/* SPDX-License-Identifier: MIT */
/*
 * test_thousand.c - a thousand consumers asleep: a push wakes one of them, and what all
 * must know reaches all.
 *
 * What the library asks of the kernel is seen by standing before sys_futex_wake() (see
 * meson.build), for a sleeper also wakes by itself, to look for the dead.
 */
#include "common.h"

#include <sys/resource.h>

#include "sys.h"

enum { PROCESSES = 8, THREADS = 125, HELD = 64 };

static long wakes, asked, woken; /* calls of this process, and what they came to */

int __real_sys_futex_wake(_Atomic uint32_t *word, int n, uint32_t bits);
int __wrap_sys_futex_wake(_Atomic uint32_t *word, int n, uint32_t bits);

int __wrap_sys_futex_wake(_Atomic uint32_t *word, int n, uint32_t bits)
{
	int r = __real_sys_futex_wake(word, n, bits);

	wakes++;
	asked += n;
	woken += r;
	return r;
}

struct crowd {
	atomic_int ready, got, gone;
	atomic_ulong sum;
};

static struct crowd *crowd;
static struct shmq *first; /* of a child: the others are made from it */
static pthread_mutex_t one_by_one = PTHREAD_MUTEX_INITIALIZER;

static void *consume(void *arg)
{
	struct shmq *q;
	uint64_t v;

	pthread_mutex_lock(&one_by_one); /* the first handle is for one at a time */
	must_eq(shmq_dup(first, &q), 0);
	pthread_mutex_unlock(&one_by_one);
	atomic_fetch_add(&crowd->ready, 1);
	for (;;) {
		must_eq(shmq_pop(q, SHMQ_ANY_LANE, &v, 8, NULL, SHMQ_FOREVER), 8);
		if (!v)
			break;
		atomic_fetch_add(&crowd->sum, v);
		atomic_fetch_add(&crowd->got, 1);
	}
	atomic_fetch_add(&crowd->gone, 1);
	shmq_close(q);
	return arg;
}

static int sleepers(void *arg)
{
	pthread_t t[THREADS];
	pthread_attr_t attr;

	(void)arg;
	first = attach("q");
	must_eq(pthread_attr_init(&attr), 0);
	must_eq(pthread_attr_setstacksize(&attr, 128 << 10), 0);
	for (int i = 0; i < THREADS; i++)
		must_eq(pthread_create(&t[i], &attr, consume, NULL), 0);
	for (int i = 0; i < THREADS; i++)
		must_eq(pthread_join(t[i], NULL), 0);
	shmq_close(first);
	return 0;
}

static void until(atomic_int *counter, int value)
{
	uint64_t end = now_ns() + 60 * SECOND;

	while (atomic_load(counter) < value) {
		must(now_ns() < end, "%d of %d", atomic_load(counter), value);
		sleep_ns(MS);
	}
}

static void begin_counting(void)
{
	sleep_ns(200 * MS); /* time to fall asleep: nothing depends on that all have */
	wakes = asked = woken = 0;
}

START_TEST(a_push_wakes_one_and_all_are_told_what_all_must_know)
{
	struct rlimit limit = { 65536, 65536 };
	struct shmq_config c = config(2, 2000, 8);
	struct iovec v[10];
	uint64_t x[10] = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 };
	struct shmq_lease lease[HELD];
	struct shmq *q, *holder;
	pid_t pid[PROCESSES];
	int got = 0;

	setrlimit(RLIMIT_NOFILE, &limit);
	crowd = shared(sizeof(*crowd));
	c.max_participants = SHMQ_PARTICIPANTS_MAX;
	must_eq(shmq_create("q", &c), 0);
	q = attach("q");
	holder = attach("q");
	for (int i = 0; i < HELD; i++) {
		must_eq(shmq_push(q, 0, &(uint64_t){ 1 }, 8, 0), 0);
		must_eq(shmq_peek(holder, 0, &lease[i], 0), 0);
	}
	for (int i = 0; i < PROCESSES; i++)
		pid[i] = spawn(sleepers, NULL);
	until(&crowd->ready, PROCESSES * THREADS);

	for (int i = 0; i < 20; i++) { /* one item, one wake-up */
		begin_counting();
		must_eq(shmq_push(q, i % 2, &(uint64_t){ 1 }, 8, 0), 0);
		until(&crowd->got, ++got);
		must(wakes <= 1 && asked <= 1 && woken <= 1, "%ld calls for %ld woke %ld",
		     wakes, asked, woken);
	}
	for (int i = 0; i < 10; i++)
		v[i] = (struct iovec){ &x[i], 8 };
	begin_counting();
	must_eq(shmq_push_n(q, 1, v, 10, 0), 10);
	until(&crowd->got, got += 10);
	must(wakes <= 1 && asked <= 10 && woken <= 10, "%ld calls for %ld woke %ld", wakes,
	     asked, woken);

	must_eq(shmq_unlink("q"), 0); /* nobody has to know: all goes on */
	must_eq(shmq_push(q, 0, &(uint64_t){ 1 }, 8, 0), 0);
	until(&crowd->got, ++got);

	begin_counting(); /* who closes gives back what it holds: all look */
	shmq_close(holder);
	until(&crowd->got, got += HELD);
	must(woken >= 1);

	for (int i = 0; i < PROCESSES * THREADS; i++)
		must_eq(shmq_push(q, i % 2, &(uint64_t){ 0 }, 8, 60 * (int64_t)SECOND), 0);
	until(&crowd->gone, PROCESSES * THREADS);
	reap_all(pid, PROCESSES);
	must_eq(atomic_load(&crowd->got), got);
	must_eq(atomic_load(&crowd->sum), got);
	must_eq(shmq_pop(q, SHMQ_ANY_LANE, x, 8, NULL, 0), -EAGAIN);
	shmq_close(q);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("thousand");
	TCase *c = suite_case(s, "thousand", 300);

	tcase_add_test(c, a_push_wakes_one_and_all_are_told_what_all_must_know);
	return suite_run(s);
}
