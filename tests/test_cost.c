/* SPDX-License-Identifier: MIT */
/*
 * test_cost.c - what a call costs where nothing is in the way, in instructions, locked
 * instructions and system calls: numbers that no noise changes, unlike nanoseconds.
 *
 * A child is stepped through each call by ptrace. How many instructions it takes depends
 * on the compiler and is only printed; how many of them are locked, and that none enters
 * the kernel, is the design, and is required.
 */
#include "common.h"

#include <sched.h>

#include "queue.h"
#include "step.h"
#include "sys.h"
#include "trace.h"

#define SIZE 64
#define BATCH 8

/* A call, and what it is allowed. */
struct call {
	const char *name;
	ssize_t (*make)(struct shmq *q);
	ssize_t result;
	int locked;
};

static char buf[BATCH][SIZE];
static struct iovec items[BATCH];
static struct shmq_lease lease;

static ssize_t push(struct shmq *q)
{
	return shmq_push(q, 0, buf[0], SIZE, SHMQ_NOWAIT);
}

static ssize_t pop(struct shmq *q)
{
	return shmq_pop(q, 0, buf[0], SIZE, NULL, SHMQ_NOWAIT);
}

static ssize_t pop_any(struct shmq *q)
{
	return shmq_pop(q, SHMQ_ANY_LANE, buf[0], SIZE, NULL, SHMQ_NOWAIT);
}

/* The lane above has just been found empty for the first time. */
static ssize_t pop_below(struct shmq *q)
{
	return pop_any(q);
}

/* The lane above is empty, as at the last look. */
static ssize_t pop_lower(struct shmq *q)
{
	return pop_any(q);
}

static ssize_t pop_n_lower(struct shmq *q)
{
	return shmq_pop_n(q, SHMQ_ANY_LANE, items, NULL, BATCH, SHMQ_NOWAIT);
}

static ssize_t push_n(struct shmq *q)
{
	return shmq_push_n(q, 0, items, BATCH, SHMQ_NOWAIT);
}

static ssize_t pop_n(struct shmq *q)
{
	return shmq_pop_n(q, 0, items, NULL, BATCH, SHMQ_NOWAIT);
}

static ssize_t reserve(struct shmq *q)
{
	void *p;

	return shmq_reserve(q, 0, &p, SHMQ_NOWAIT);
}

static ssize_t commit(struct shmq *q)
{
	return shmq_commit(q, SIZE);
}

static ssize_t peek(struct shmq *q)
{
	return shmq_peek(q, 0, &lease, SHMQ_NOWAIT);
}

static ssize_t release(struct shmq *q)
{
	return shmq_release(q, &lease);
}

static const struct call calls[] = {
	/* A ticket is drawn, or an item is taken, by one locked instruction. */
	{ "push", push, 0, 1 },
	{ "pop", pop, SIZE, 1 },
	{ "pop from any lane", pop_any, SIZE, 1 },
	{ "pop from a lane below one that was busy", pop_below, SIZE, 2 }, /* head is raised */
	{ "pop from a lane below one that is empty", pop_lower, SIZE, 1 },
	{ "pop of a batch of 8 from there", pop_n_lower, BATCH, BATCH },
	{ "push of a batch of 8", push_n, BATCH, 1 },
	{ "pop of a batch of 8", pop_n, BATCH, BATCH },
	{ "reserve", reserve, 0, 1 },
	{ "commit", commit, 0, 0 },
	{ "peek", peek, 0, 1 },
	{ "release", release, 0, 0 },
};

static struct {
	const struct call *call;
	ssize_t result;
	atomic_int done;
} *child;

/* Does the instruction at @p lock the bus, or enter the kernel? */
static bool is_locked(const uint8_t *p)
{
	bool lock = false;

	for (; *p == 0xf0 || *p == 0xf2 || *p == 0xf3 || *p == 0x66 || *p == 0x64; p++)
		lock |= *p == 0xf0;
	if ((*p & 0xf0) == 0x40) /* REX */
		p++;
	return lock || ((*p == 0x86 || *p == 0x87) && p[1] >> 6 != 3); /* xchg with memory */
}

/* A call that does not wait has nothing to pause for. */
static bool is_pause(const uint8_t *p)
{
	return p[0] == 0xf3 && p[1] == 0x90;
}

static bool is_syscall(const uint8_t *p)
{
	return p[0] == 0x0f && (p[1] == 0x05 || p[1] == 0x34);
}

/* At work, with a batch of items waiting, and far from where a segment ends or head is
 * raised (every 32 tickets). */
static void warm_up(struct shmq *q)
{
	uint64_t tail;

	must(q->geo.slots >= 32);
	must_eq(push_n(q), BATCH);
	do {
		q->slow = 0;
		q->came_by_ns = INT64_MAX; /* in a hurry: the short way opens */
		must_eq(push_n(q), BATCH);
		must_eq(pop_n(q), BATCH);
		for (int i = 0; i < 2; i++) {
			must_eq(push(q), 0);
			must_eq(pop(q), SIZE);
		}
		tail = atomic_load(&q->view[0].lane->tail);
	} while (q->slow || tail < 10 * q->geo.slots || tail % 32 != 20);
}

static int child_main(void *arg)
{
	struct shmq *q = attach("q");

	(void)arg;
	for (int i = 0; i < BATCH; i++)
		items[i] = (struct iovec){ buf[i], SIZE };
	warm_up(q);
	if (child->call->make == pop_below) {
		must_eq(pop_n(q), BATCH);
		must_eq(shmq_push(q, 1, buf[0], SIZE, SHMQ_NOWAIT), 0);
	}
	if (child->call->make == pop_lower || child->call->make == pop_n_lower) {
		must_eq(pop_n(q), BATCH);
		for (int i = 0; i < BATCH + 2; i++)
			must_eq(shmq_push(q, 1, buf[0], SIZE, SHMQ_NOWAIT), 0);
		must_eq(pop_any(q), SIZE);
		must_eq(pop_any(q), SIZE);
	}
	if (child->call->make == commit)
		must_eq(reserve(q), 0);
	if (child->call->make == release)
		must_eq(peek(q), 0);
	step_mark();
	child->result = child->call->make(q);
	atomic_store_explicit(&child->done, 1, memory_order_release); /* not locked */
	shmq_close(q);
	return 0;
}

/* Stepping takes so long that it would be time to look for the dead. */
static bool nobody_is_due(void *q, long k)
{
	(void)k;
	atomic_store(&wakeup_of(q)->probed_ns, sys_coarse_ns());
	return false;
}

START_TEST(nothing_but_the_locked_instructions_of_the_design)
{
	const struct call *c = &calls[_i];
	struct shmq_config cfg;
	struct step_record r = { 0 };
	struct shmq *q;
	int locked = 0;
	pid_t pid;

	child = shared(sizeof *child);
	child->call = c;
	shmq_config_init(&cfg, sizeof cfg);
	cfg.item_size = SIZE;
	must_eq(shmq_create("q", &cfg), 0);
	q = attach("q");
	if (!trace_spawn(&pid, child_main, NULL))
		return;
	step_to_mark(pid);
	step_record(pid, &r, &child->done, nobody_is_due, NULL, q);
	must_eq(child->result, c->result);
	for (long k = 0; k < r.n; k++) {
		const uint8_t *p = (const uint8_t *)r.at[k]; /* it was forked from us */

		locked += is_locked(p);
		must(!is_syscall(p), "%s enters the kernel", c->name);
		must(!is_pause(p), "%s pauses", c->name);
	}
	fprintf(stderr, "# %s: %ld instructions, %d locked\n", c->name, r.n, locked);
	must_eq(locked, c->locked);
	step_record_free(&r);
	trace_kill(pid);
	shmq_close(q);
	must_eq(shmq_unlink("q"), 0);
}
END_TEST

/* ---- before sleeping ------------------------------------------------------------------ */

static int waits(void *arg)
{
	struct shmq *q;

	must_eq(shmq_open(&q, "q", (unsigned)(uintptr_t)arg), 0);
	pop(q); /* what a first use has to find out */
	step_mark();
	child->result = shmq_pop(q, 0, buf[0], SIZE, NULL, 20 * MS);
	atomic_store_explicit(&child->done, 1, memory_order_release);
	shmq_close(q);
	return 0;
}

static bool sleeps(void *pid, long k)
{
	(void)k;
	return is_syscall((const uint8_t *)step_where(*(pid_t *)pid));
}

/* Instructions until a call that has to wait first enters the kernel. */
static long until_the_kernel(unsigned flags)
{
	struct step_record r = { 0 };
	pid_t pid;
	long n;

	if (!trace_spawn(&pid, waits, (void *)(uintptr_t)flags))
		return -1;
	step_to_mark(pid);
	step_record(pid, &r, &child->done, sleeps, NULL, &pid);
	n = r.n;
	must(!atomic_load(&child->done), "it never slept");
	step_record_free(&r);
	trace_kill(pid);
	return n;
}

START_TEST(no_spin_sleeps_at_once)
{
	long spinning, not;
	cpu_set_t cpus;

	child = shared(sizeof *child);
	must_eq(shmq_create("q", NULL), 0);
	spinning = until_the_kernel(0);
	not = until_the_kernel(SHMQ_NO_SPIN);
	if (not < 0)
		return;
	fprintf(stderr, "# %ld instructions before it sleeps, %ld if it may spin\n", not, spinning);
	must(not < 2000);
	must_eq(sched_getaffinity(0, sizeof cpus, &cpus), 0);
	if (CPU_COUNT(&cpus) > 1)
		must(spinning > 2 * not);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("cost");
	TCase *t = suite_case(s, "counted", 30);

	tcase_add_loop_test(t, nothing_but_the_locked_instructions_of_the_design, 0,
			    ARRAY_LEN(calls));
	tcase_add_test(t, no_spin_sleeps_at_once);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
